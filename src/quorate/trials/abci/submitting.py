"""Clients of a chain: they bring transactions, and evidence of an attack on light clients, until blocks have them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from msgspec.structs import replace

from quorate.kernel import Received
from quorate.ledger.comet.block_ids import BlockID, PartSetHeader
from quorate.ledger.comet.divergence import attack_evidence
from quorate.ledger.comet.evidence import MISCONDUCT, LightClientAttackEvidence, Misconduct
from quorate.ledger.comet.light_blocks import LightBlock, SignedHeader
from quorate.parts.crypto.keys import Scheme
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.commits import commit_of
from quorate.protocols.tendermint.effects import SignedVote, Step
from quorate.protocols.tendermint.messages import Accusation
from quorate.protocols.tendermint.named_blocks import NamedBlock, decode_block, name_of_id
from quorate.protocols.tendermint.signed_bytes import vote_bytes
from quorate.sim.workload import Workload
from quorate.trials.abci.one_history import OneHistory

EVERY_S: Final = 0.15
"""Between two transactions, on average."""
AGAIN_S: Final = 0.5
MakesAttack = Callable[[AppChain], Misconduct | None]
"""Of a node's chain; None: it is too short yet."""


class Submitting(Workload):
    """Clients that bring transactions to one node or another until a block has them. If there is an attack on light
    clients, one node is shown evidence of it; if it says that it has that, nobody else is."""

    def __init__(self, world: Any, history: OneHistory, attack: MakesAttack | None) -> None:
        super().__init__()
        self._world = world
        self._history = history
        self._attack = attack
        self._rng = Random(f"{world.seed}/transactions")
        self._is_over = False
        self._hushed_until = 0.0
        self._open: set[bytes] = set()

    @property
    def are_idle(self) -> bool:
        """Whether blocks have all of it."""
        self._look()
        return not self._open and not self._awaits_evidence

    @property
    def _awaits_evidence(self) -> bool:
        attacks = [piece for piece in self._history.pieces if isinstance(piece, LightClientAttackEvidence)]
        return self._attack is not None and not attacks

    def start(self) -> None:
        """As the base says."""
        self._world.after(self._rng.expovariate(1 / EVERY_S), self._begin)
        if self._attack is not None:
            self._world.after(AGAIN_S, self._show)

    def finish(self) -> None:
        """As the base says; but evidence makes no block, so transactions come until one has it."""
        self._is_over = True

    def hush(self, until_s: float) -> None:
        """As the base says."""
        self._hushed_until = until_s

    def missing(self) -> str:
        """As the base says."""
        if self._awaits_evidence:
            return "evidence that was shown is in no block"
        return f"{len(self._open)} transactions are in no block" if self._open else ""

    def _look(self) -> None:
        self.answered += len(self._open & self._history.txs)
        self._open -= self._history.txs

    def _begin(self) -> None:
        if self._is_over and not self._awaits_evidence:
            return
        if self._is_over or self._world.now >= self._hushed_until:
            tx = b"k%d=%d" % (self._rng.getrandbits(3), self.operations)
            self.operations += 1
            self._open.add(tx)
            self._bring(tx)
        self._world.after(self._rng.expovariate(1 / EVERY_S), self._begin)

    def _bring(self, tx: bytes) -> None:
        if tx in self._history.txs:
            return
        node = self._some_node()
        if node is not None:
            node.operate(tx)
        self._world.after(AGAIN_S, lambda: self._bring(tx))

    def _some_node(self) -> Any:
        up = [node for node in self._world.honest if node.up and not node.paused]
        return up[int(self._rng.random() * len(up))] if up else None

    def _show(self) -> None:
        assert self._attack is not None
        if self._history.is_shown:
            return
        node = self._some_node()
        core = None if node is None else node.host.root
        if isinstance(core, AppChain) and not core.applying.is_busy:
            piece = self._attack(core)
            if piece is not None:
                node.put(Received(node.id, Accusation(1, MISCONDUCT.encode(piece))))
        self._world.after(AGAIN_S, self._show)


def attack_on(scheme: Scheme) -> MakesAttack:
    """By a quorum of nodes: they signed another block of height 2. It holds from height 3 on."""

    def attack(core: AppChain) -> Misconduct | None:
        decided = [decode_block(decision.block).block for decision in core.log.decisions[:3]]
        if core.chain.state.last_height < 3:
            return None
        first, second, third = decided
        committee = core.committee
        header = replace(second.header, app_hash=b"another")
        block_id = BlockID(header.hash(), PartSetHeader(1, bytes(32)))
        false = NamedBlock(name_of_id(block_id), b"", replace(second, header=header))
        time_ns, votes = header.time.ns() + 1_000_000, []
        for node in committee.nodes[: 2 * len(committee.nodes) // 3 + 1]:
            data = vote_bytes(core.chain.id, Step.PRECOMMIT, 2, 0, false.name, time_ns)
            signature = scheme.keys(node).sign_canonical(data)
            votes.append(SignedVote(node, Step.PRECOMMIT, 0, false.name, signature, time_ns))
        commit = commit_of(committee, 2, 0, false, votes)
        assert second.last_commit is not None
        assert third.last_commit is not None
        blocks = [
            LightBlock(SignedHeader(*signed), committee.validators)
            for signed in ((header, commit), (second.header, third.last_commit), (first.header, second.last_commit))
        ]
        return attack_evidence(*blocks)

    return attack
