"""What must never be of evidence that waits for a block: checked at every honest node, with an ABCI app and without.

A piece that a node wrote down, or told others of, it promised to keep until a block has it or it counts no more. When
that is, the node itself knows best; but no crash takes a piece from it.
"""

from __future__ import annotations

from typing import Final

from quorate.kernel import Core, Turn
from quorate.ledger.comet.evidence import MISCONDUCT, DuplicateVoteEvidence
from quorate.ledger.comet.evidence_checks import verify_duplicate_votes
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.messages import Accusation, PendingEvidence
from quorate.sim.checkers.base import Checker, Violation

KEPT: Final = "evidence that waits is kept"
TOLD: Final = "all are told of evidence"
HOLDS: Final = "evidence that waits holds"


class EvidenceInvariants(Checker):
    """Of all nodes of a run. Pieces are known by their bytes."""

    def __init__(self) -> None:
        self._turn: dict[int, frozenset[bytes]] = {}
        self._promised: dict[int, set[bytes]] = {}
        """By node, of what left and is still due."""

    def started(self, node: int, core: Core) -> None:
        """Raises Violation."""
        assert isinstance(core, Tendermint)
        self._turn.pop(node, None)
        forgotten = self._promised.get(node, set()) - _kept(core)
        if forgotten:
            raise Violation(KEPT, f"node {node} forgot {len(forgotten)} pieces of evidence by a crash")

    def lost(self, node: int) -> None:
        self._promised.pop(node, None)

    def acted(self, node: int, core: Core, turn: Turn) -> None:
        """Raises Violation."""
        assert isinstance(core, Tendermint)
        others, said = frozenset(core.env.others), set()
        for send in turn.sends:
            if isinstance(send.message, Accusation) and others <= set(send.to):
                said.add(send.message.piece)
        written = [record.value for record in turn.records if isinstance(record.value, PendingEvidence)]
        for record in written:
            if record.source is None and others and record.piece not in said:
                raise Violation(TOLD, f"node {node} has evidence from height {record.height}, and tells nobody of it")
            _check(node, core, record.piece)
        self._turn[node] = frozenset(said | {record.piece for record in written})

    def mark(self, node: int) -> frozenset[bytes] | None:
        return self._turn.get(node) or None

    def released(self, node: int, mark: frozenset[bytes]) -> None:
        self._promised.setdefault(node, set()).update(mark)

    def stepped(self, node: int, core: Core) -> None:
        """What it lets go is due no more."""
        assert isinstance(core, Tendermint)
        if promised := self._promised.get(node):
            promised &= _kept(core)


def _kept(core: Tendermint) -> set[bytes]:
    return {record.piece for record in core.accusing.records()}


def _check(node: int, core: Tendermint, data: bytes) -> None:
    """Whether the signatures hold. Simulated apps change no validators."""
    piece = MISCONDUCT.decode(data)
    if not isinstance(piece, DuplicateVoteEvidence):
        return
    validators, verify = core.committee.validators, core.keyring.verify_canonical
    try:
        verify_duplicate_votes(piece, core.chain.id, validators, piece.timestamp, verify)
    except ValueError as error:
        raise Violation(HOLDS, f"node {node} blames somebody for nothing: {error}") from error
