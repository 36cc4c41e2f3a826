"""ChainService: what stands above the core on a node of a chain with an ABCI app.

It hands transactions down and tells their senders what came of that; the blocks that the app has kept it hands
to ``ChainBlocks``. They come in order, and after a restart all of the log once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final

from quorate.kernel import ROOT, App, AppEnded, Path, Requester
from quorate.parts.log.replicated import Dropped
from quorate.protocols.tendermint.app_messages import (
    BeyondReach,
    BlockApplied,
    EvidenceTaken,
    LogBegins,
    LogDropped,
    TxChecked,
)
from quorate.protocols.tendermint.messages import Accusation
from quorate.service.comet.chain_blocks import ChainBlocks
from quorate.service.comet.waiters import Waiters
from quorate.service.requests import Code, Failure

NO_CLIENTS: Final = "this cluster runs an ABCI app: it takes transactions, and no commands of this client"


class ChainService(App):
    """``end`` is called with what makes the node unable to go on; ``on_dropped`` when the log has become shorter."""

    def __init__(self, blocks: ChainBlocks, end: Callable[[BaseException], None]) -> None:
        self.blocks = blocks
        self.on_dropped: Callable[[], None] = lambda: None
        self._end = end
        self._asking: Waiters[TxChecked] = Waiters()  # what came of a transaction
        self._showing: Waiters[str] = Waiters()  # or of a piece of evidence

    # --- transactions ---

    async def submit(self, tx: bytes) -> TxChecked:
        """Bring a transaction to the mempool; what the app says of it, or why it was not asked."""
        answer, is_first = self._asking.wait(tx)
        if is_first:
            self.port.submit([tx])
        return await answer

    async def show(self, piece: bytes, tell: Callable[[Any], None]) -> str:
        """Have the core take a piece of evidence, by a message of this node's own (``tell``).

        Why it does not; empty: it is durable."""
        answer, is_first = self._showing.wait(piece)
        if is_first:
            tell(Accusation(1, piece))
        return await answer

    def output(self, value: Any, path: Path = ROOT) -> None:
        if isinstance(value, BlockApplied | LogBegins):
            self.blocks.take([value])
        elif isinstance(value, TxChecked):
            self._asking.tell(value.tx, value)
        elif isinstance(value, EvidenceTaken):
            self._showing.tell(value.piece, value.why)
        elif isinstance(value, Dropped):
            self.refused(value.values, value.why)
        elif isinstance(value, LogDropped):
            self.on_dropped()
        elif isinstance(value, BeyondReach):
            self._end(AppEnded(value.why))

    def refused(self, values: Sequence[bytes], why: str, path: Path = ROOT) -> None:
        for tx in values:
            self._asking.tell(tx, TxChecked(tx, None, why))

    async def stop(self) -> None:
        """What waits is written first. The node has stopped. Raises WorkLeft if that takes too long."""
        self._asking.cancel()
        self._showing.cancel()
        await self.blocks.stop()

    # --- an App that has neither clients of its own nor snapshots ---

    def request(self, client: Requester, request: Any) -> None:
        client.reply(Failure(request.id, Code.MALFORMED, NO_CLIENTS))

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        raise NotImplementedError("its snapshots are the app's affair")

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        raise NotImplementedError("its snapshots are the app's affair")
