"""The language of ``script.py`` for PBFT: timers are ``beat``, ``request``, ``view``; there is no ``given``. Besides:

    split 1 x 2,3 y 4    primary 1 tells 2 and 3 that x is next, and 4 that y is; all rightly signed
    lose Commit 3,4      from now on, messages of a type are lost on the way to these nodes; ``find`` ends it

Requests are printed as their text, digests as four hex digits, signatures not at all; ``[x y]`` is a batch, ``null``
the empty one. A certificate is what it proves and who signed: ``2@0 7f3a by 1,2,3`` is number 2 of view 0.
"""

from typing import Any

import msgspec

from quorate.kernel import Core, Env, Turn
from quorate.parts import requests
from quorate.parts.crypto.keys import VerifyBatch
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Chunk
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft import Pbft, PbftConfig
from quorate.protocols.pbft.messages import (
    CHECKPOINT,
    NULL,
    Image,
    NewView,
    Proposal,
    ViewChange,
    checkpoint_of,
    order_of,
)

from tests.protocols.cluster import Cluster, Flight
from tests.protocols.pbft.pbft_nodes import SCHEME, pre_prepare, request
from tests.traces.script import Script

SHORT = {"checkpoint_batches": 2, "window": 4, "snapshot_batches": 4, "batch_count_max": 4}


class PbftScript(Script):
    """Small water marks unless told otherwise, so that a trace reaches them."""

    protocol = Pbft
    config = PbftConfig

    @property
    def cluster(self) -> Cluster:
        if self._cluster is None:
            self._cluster = Cluster(self._make, self._size, seed=1, keyring=SCHEME.keyring())
            self._roles = {node: self._role(node) for node in self._cluster.peers}
            self._cluster.watch = self._print
        return self._cluster

    def _make(self, env: Env) -> Core:
        config: Any = self._config
        return Pbft(env, config, SCHEME.keys(env.id))

    # --- commands ---

    def do_cluster(self, size: str, *settings: str) -> None:
        self._size = int(size)
        given = {**SHORT, **dict(s.split("=") for s in settings)}
        self._config = msgspec.convert(given, PbftConfig, strict=False)
        self._cluster = None
        self.cluster.network.clear()  # the first word of each, how far it is
        for member in self.cluster.members.values():
            member.core.retransmission.helped.clear()

    def do_submit(self, nodes: str, *texts: str) -> None:
        for node in self._nodes(nodes):
            self.cluster.submit(node, *[request(text) for text in texts])

    def do_split(self, primary: str, *told: str) -> None:
        view = self.cluster[2].core.view.number
        for text, nodes in zip(told[::2], told[1::2], strict=True):
            sequence = self.cluster[2].core.history.executed + 1
            for node in self._nodes(nodes):
                message = pre_prepare(sequence, request(text), view=view, primary=int(primary))
                self.cluster.network.append(Flight(self.cluster.now, int(primary), node, message))

    def do_lose(self, kind: str, nodes: str) -> None:
        to = self._nodes(nodes)
        before = self.cluster.loses
        self.cluster.loses = lambda flight: (
            before(flight) or (type(flight.message).__name__ == kind and flight.to in to)
        )

    def do_find(self) -> None:
        self.cluster.loses = lambda flight: False

    def do_state(self) -> None:
        for node, member in self.cluster.members.items():
            history, prepared = member.core.history, tuple(member.core.log.prepared)
            log = " ".join(f"{sequence}:{short(digest)}" for sequence, digest in sorted(history.digests.items()))
            words = f"executed={history.executed} stable={history.low} prepared={plain(prepared)} log=[{log}]"
            self.lines.append(f"  {node} {'' if member.up else 'down '}{self._role(node)} {words}")

    def _nodes(self, words: str) -> tuple[int, ...]:
        return self.cluster.peers if words == "all" else tuple(map(int, words.split(",")))

    # --- printing ---

    def _role(self, node: int) -> str:
        core, view = self.cluster[node].core, self.cluster[node].core.view
        return (
            f"changing to view {view.number}" if view.is_changing else f"{core.standing().role} in view {view.number}"
        )

    def text_of(self, value: Any) -> str:
        return text_of(value)

    def _print(self, node: int, turn: Turn) -> None:
        shown = [job for job in turn.jobs if not isinstance(job.work, VerifyBatch)]  # each request has one
        super()._print(node, msgspec.structs.replace(turn, jobs=shown))


def text_of(value: Any) -> str:
    """A message, record, output or job on one line, without its signatures."""
    words = [type(value).__name__]
    for name in value.__struct_fields__:
        if name in ("signature", "proofs", "proof", "proposal", "items"):
            continue
        field = getattr(value, name)
        words.append(f"{name}={plain(field)}")
    return " ".join(words)


def plain(field: Any) -> str:
    """A field's value."""
    match field:
        case bytes():
            return short(field)
        case Certificate():
            return certificate_of(field)
        case Chunk():
            return f"({field.index}: {field.offset}+{len(field.data)}/{field.total_bytes} bytes)"
        case Entry():
            return text(field.data)
        case Image():
            return f"(batch {field.sequence}, index {field.index}, {field.size_bytes} bytes {short(field.digest)})"
        case Proposal():
            return f"{field.sequence}:{short(field.digest)}"
        case ViewChange():
            return f"(stable={plain(field.stable)} prepared={plain(field.prepared)})"
        case NewView():
            return f"(view {field.view} from {plain(tuple(node for node, _ in field.changes))})"
        case (int(), ViewChange() as change):
            return f"{field[0]}{plain(change)}"
        case [bytes(), *_] if len(field[0]) > 32:
            return "[" + " ".join(map(text, field)) + "]"
        case list() | tuple():
            return "[" + " ".join(map(plain, field)) + "]"
    return str(field)


def short(data: bytes) -> str:
    """Four hex digits of a digest; the text of a request."""
    if data == NULL:
        return "null"
    return data.hex()[:4] if len(data) == 32 else text(data)


def text(value: bytes) -> str:
    """What a request says."""
    decoded = requests.decode_signed_request(value)
    return f"{len(value)} bytes" if decoded is None else decoded.commands[0].decode()


def certificate_of(certificate: Certificate) -> str:
    """``number@view digest by nodes``, or ``number/index history by nodes`` for a checkpoint."""
    nodes = ",".join(map(str, certificate.nodes()))
    if certificate.context == CHECKPOINT and (found := checkpoint_of(certificate.statement)):
        return f"{found[0]}/{found[1]} {short(found[2])} by {nodes}"
    order = order_of(certificate.statement)
    assert order is not None
    return f"{order[1]}@{order[0]} {short(order[2])} by {nodes}"
