"""The language of ``script.py`` for Tendermint: timers are ``beat``, ``propose``, ``prevote``, ``precommit``; there is
no ``given``. Besides:

    split 1 x 2,3 y 4    proposer 1 tells 2 and 3 of x, and 4 of y, both rightly signed
    lose Prevote 3,4     from now on, messages of a type are lost on the way to these nodes; ``find`` ends it

Where a node is, is printed as ``1 is at prevote in round 0 of height 1``. Requests are printed as their text, blocks as
what is in them, ``[x y]``, their names as four hex digits, times and signatures not at all. A commit is what it proves
and who signed: ``(prevotes 0 7f3a by 1,2,3)`` is of round 0. ``nil`` is a vote for none.
"""

from typing import Any

import msgspec

from quorate.kernel import Core, Env, Turn
from quorate.ledger.comet.blocks import BLOCK
from quorate.ledger.comet.commits import COMMIT, FOR_BLOCK, FOR_NIL, Commit
from quorate.ledger.comet.validators import key_address
from quorate.parts.crypto.keys import VerifyBatch
from quorate.parts.log.entries import Entry
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.messages import Precommit, Prevote, Proposal, TendermintConfig, Valid
from quorate.protocols.tendermint.named_blocks import NAME_BYTES, name_block, name_of_id
from quorate.protocols.tendermint.signed_bytes import proposal_bytes

from tests.protocols.cluster import Cluster, Flight
from tests.protocols.pbft.pbft_nodes import SCHEME, request
from tests.traces.pbft_script import text
from tests.traces.script import Script

HIDDEN = ("signature", "height", "node", "time_ns")


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
                core = self.cluster[node].core
                block, height = name_block(core.chain.draft(int(proposer), [request(word)])), core.current.open
                round = height.rules.round
                data = proposal_bytes(core.chain.id, height.number, round, block.name, -1, 1)
                signature = SCHEME.keys(int(proposer)).sign_canonical(data)
                message = Proposal(height.number, round, block.data, -1, None, 1, signature)
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
            decided = " ".join(_block(decision.block) for decision in core.log.decisions)
            words = f"lock={kept(core.locks.lock)} valid={kept(core.locks.valid)} decided={decided or 'nothing'}"
            self.lines.append(f"  {node} {'' if member.up else 'down '}{self._role(node)} {words}")

    def _nodes(self, words: str) -> tuple[int, ...]:
        return self.cluster.peers if words == "all" else tuple(map(int, words.split(",")))

    # --- printing ---

    def _role(self, node: int) -> str:
        height = self.cluster[node].core.current.open
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
        words.append(f"{name}={_named(name, field)}")
    return " ".join(words)


def _named(name: str, field: Any) -> str:
    """A field's value, by what it is called."""
    if isinstance(field, bytes) and name == "block":
        return _block(field)
    if isinstance(field, bytes) and name in ("proof", "commit"):
        return _commit("prevotes" if name == "proof" else "precommits", COMMIT.decode(field))
    return plain(field)


def _block(data: bytes) -> str:
    return plain(BLOCK.decode(data).data.txs)


def _commit(kind: str, commit: Commit) -> str:
    def by(flag: int) -> str:
        its = [sig.validator_address for sig in commit.signatures if sig.block_id_flag == flag]
        return ",".join(
            str(node) for node in SCHEME.keyring().nodes if key_address(SCHEME.keyring().public(node)) in its
        )

    nil = by(FOR_NIL)
    return f"({kind} {commit.round} {plain(name_of_id(commit.block_id))} by {by(FOR_BLOCK)}{nil and f', nil by {nil}'})"


def plain(field: Any) -> str:
    """A value."""
    match field:
        case None:
            return "nil"
        case bytes():
            return field.hex()[:4] if len(field) == NAME_BYTES else text(field)
        case Commit():
            return _commit("precommits", field)
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
    return "none" if record is None else f"{_block(record.block)}@{record.round}"
