"""What must never be of a snapshot that a node fetches: checked at every honest node.

The digest of the whole file finds any wrong piece in the end. Here each is looked at when it is stored, by what is
known of the snapshot and by what honest nodes sent of it: who stores whatever a liar sends may be kept busy for ever.
"""

from __future__ import annotations

from typing import Final

from quorate.kernel import Core, Turn
from quorate.parts.log.pieces import length_at
from quorate.parts.log.replicated import WriteChunk
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.messages import ImagePiece
from quorate.sim.checkers.base import Checker, Violation

PIECES: Final = "pieces of a snapshot are proven"


class TransferInvariants(Checker):
    """Of all nodes of a run."""

    def __init__(self) -> None:
        self._sent: dict[tuple[int, int], bytes] = {}
        """By height and offset, what an honest node sent first. Snapshots of one height are alike."""

    def acted(self, node: int, core: Core, turn: Turn) -> None:
        """Raises Violation."""
        assert isinstance(core, Tendermint)
        for send in turn.sends:
            if isinstance(send.message, ImagePiece):
                chunk = send.message.chunk
                self._sent.setdefault((chunk.term, chunk.offset), chunk.data)
        for job in turn.jobs:
            if isinstance(job.work, WriteChunk):
                self._check(node, core, job.work)

    def _check(self, node: int, core: Tendermint, work: WriteChunk) -> None:
        fetched = core.transfer.fetched
        assert fetched is not None, "a piece is of what is fetched"
        image, size = fetched.image, len(work.data)
        if size != length_at(work.offset, image.size_bytes, image.piece_bytes):
            raise Violation(PIECES, f"node {node} stores {size} bytes at {work.offset} of height {work.term}")
        if self._sent.get((work.term, work.offset), work.data) != work.data:
            raise Violation(PIECES, f"node {node} stores other bytes at {work.offset} of height {work.term}")
