"""The language of ``script.py`` for Tendermint: timers are ``beat``, ``propose``, ``prevote``, ``precommit``; there is
no ``given``. Besides:

    split 1 x 2,3 y 4    proposer 1 tells 2 and 3 of x, and 4 of y, both rightly signed
    lose Prevote 3,4     from now on, messages of a type are lost on the way to these nodes; ``find`` ends it

Where a node is, is printed as ``1 is at prevote in round 0 of height 1``. Requests are printed as their text, batches
as ``[x y]``, their digests as four hex digits, signatures not at all. A certificate is what it proves and who signed:
``(prevotes 0 7f3a by 1,2,3)`` is of round 0. ``nil`` is a vote for none.
"""

from typing import Any

import msgspec

from quorate.kernel import Core, Env, Turn
from quorate.parts.crypto.keys import VerifyBatch
from quorate.parts.log.entries import Entry
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.messages import (
    PREVOTE,
    PROPOSAL,
    Precommit,
    Prevote,
    Proposal,
    TendermintConfig,
    Valid,
    batch_id,
    proposal_statement,
)

from tests.protocols.cluster import Cluster, Flight
from tests.protocols.pbft.pbft_nodes import SCHEME, request
from tests.traces.pbft_script import text
from tests.traces.script import Script

HIDDEN = ("signature", "height", "node")


class TendermintScript(Script):
    """Nodes 1 to n."""

    protocol = Tendermint
    config = TendermintConfig

    @property
    def cluster(self) -> Cluster:
        if self._cluster is None:
            self._cluster = Cluster(self._make, self._size, seed=1, keyring=SCHEME.keyring())
            self._roles = {node: self._role(node) for node in self._cluster.peers}
            self._cluster.watch = self._print
        return self._cluster

    def _make(self, env: Env) -> Core:
        config: Any = self._config
        return Tendermint(env, config, keys=SCHEME.keys(env.id))

    # --- commands ---

    def do_cluster(self, size: str, *settings: str) -> None:
        super().do_cluster(size, *settings)
        self.cluster.network.clear()  # the first word of each, how far it is

    def do_submit(self, nodes: str, *texts: str) -> None:
        for node in self._nodes(nodes):
            self.cluster.submit(node, *[request(word) for word in texts])

    def do_split(self, proposer: str, *told: str) -> None:
        for word, nodes in zip(told[::2], told[1::2], strict=True):
            for node in self._nodes(nodes):
                height, values = self.cluster[node].core.open, (request(word),)
                round = height.rules.round
                statement = proposal_statement(height.number, round, batch_id(values), -1)
                signature = SCHEME.keys(int(proposer)).sign(PROPOSAL, statement)
                message = Proposal(height.number, round, values, -1, None, signature)
                self.cluster.network.append(Flight(self.cluster.now, int(proposer), node, message))

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
            core = member.core
            decided = " ".join(plain(decision.values) for decision in core.log.decisions)
            words = f"lock={kept(core.lock)} valid={kept(core.valid)} decided={decided or 'nothing'}"
            self.lines.append(f"  {node} {'' if member.up else 'down '}{self._role(node)} {words}")

    def _nodes(self, words: str) -> tuple[int, ...]:
        return self.cluster.peers if words == "all" else tuple(map(int, words.split(",")))

    # --- printing ---

    def _role(self, node: int) -> str:
        height = self.cluster[node].core.open
        if not height.rules.is_started:
            return f"waiting at height {height.number}"
        return f"at {height.rules.step.name.lower()} in round {height.rules.round} of height {height.number}"

    def text_of(self, value: Any) -> str:
        return text_of(value)

    def _print(self, node: int, turn: Turn) -> None:
        shown = [job for job in turn.jobs if not isinstance(job.work, VerifyBatch)]  # each request has one
        super()._print(node, msgspec.structs.replace(turn, jobs=shown))


def text_of(value: Any) -> str:
    """A message, record or output on one line, without its signatures."""
    words = [type(value).__name__]
    for name in value.__struct_fields__:
        field = getattr(value, name)
        if (name in HIDDEN and isinstance(value, Proposal | Prevote | Valid)) or (name == "proof" and field is None):
            continue
        words.append(f"{name}={plain(field)}")
    return " ".join(words)


def plain(field: Any) -> str:
    """A field's value."""
    match field:
        case None:
            return "nil"
        case bytes():
            return field.hex()[:4] if len(field) == 32 else text(field)
        case Certificate():
            _, round, value = msgspec.msgpack.decode(field.statement)
            kind = "prevotes" if field.context == PREVOTE else "precommits"
            return f"({kind} {round} {plain(value)} by {','.join(map(str, field.nodes()))})"
        case Entry():
            return text(field.data)
        case Prevote():
            kind = "precommit" if isinstance(field, Precommit) else "prevote"
            return f"{field.node}:{kind} {field.round} {plain(field.value)}"
        case list() | tuple():
            return "[" + " ".join(map(plain, field)) + "]"
    return str(field)


def kept(record: Valid | None) -> str:
    """A lock or a valid value, and its round."""
    return "none" if record is None else f"{plain(record.values)}@{record.round}"
