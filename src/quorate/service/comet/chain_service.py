"""ChainService: what stands above the core on a node of a chain with an ABCI app.

It hands transactions down and tells whoever brought them what came of that; and it has every block that the app has
kept written to the BlockStore, in a thread of its own. Blocks come in order, and after a restart all of the log once
more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final, TypeVar

from quorate.kernel import ROOT, App, AppEnded, Path, Requester
from quorate.parts.log.replicated import Dropped
from quorate.protocols.tendermint.app_messages import (
    Accusation,
    BeyondReach,
    BlockApplied,
    EvidenceTaken,
    LogBegins,
    LogDropped,
    TxChecked,
)
from quorate.runtime.errors import StorageError
from quorate.service.comet.block_store import BlockStore
from quorate.service.comet.file_thread import FileThread
from quorate.service.comet.waiters import Waiters
from quorate.service.requests import Code, Failure

T = TypeVar("T")
log = logging.getLogger("quorate.comet")

WRITTEN_AT_ONCE: Final = 256
"""Blocks in one transaction of the store."""
NO_CLIENTS: Final = "this cluster runs an ABCI app: it takes transactions, and no commands of this client"


class ChainService(App):
    """``end`` is called with what makes the node unable to go on; ``on_applied`` with those new in the store;
    ``on_dropped`` when the log has become shorter."""

    def __init__(self, store: BlockStore, end: Callable[[BaseException], None]) -> None:
        self.store = store
        self.on_applied: Callable[[Sequence[BlockApplied]], None] = lambda blocks: None
        self.on_dropped: Callable[[], None] = lambda: None
        self._end = end
        self._asking: Waiters[TxChecked] = Waiters()  # what came of a transaction
        self._showing: Waiters[str] = Waiters()  # or of a piece of evidence
        self._applied: deque[BlockApplied | LogBegins] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._written: asyncio.Future[None] | None = None
        self._thread = FileThread("blocks", store.path)

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
            self._applied.append(value)
            if self._writing is None:
                self._writing = asyncio.get_running_loop().create_task(self._write())
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

    # --- blocks ---

    async def in_thread(self, call: Callable[..., T], *args: Any) -> T:
        """Ask the store. Raises BlockStoreFailed."""
        return await self._thread.run(call, *args)

    async def _write(self) -> None:
        """All that waits, and what comes meanwhile."""
        try:
            while self._applied:
                some = self._next_blocks()
                if not some:
                    begins = self._applied.popleft()
                    await self.in_thread(self.store.begin_after, begins.height)
                    continue
                known = self.store.height
                await self.in_thread(self.store.add, some)
                retain_height = max(applied.retain_height for applied in some)
                if retain_height > self.store.base > 0:
                    await self.in_thread(self.store.prune, retain_height)
                if fresh := [applied for applied in some if applied.height > known]:
                    self._tell_written()
                    self.on_applied(fresh)
        except StorageError as error:
            self._end(error)
        finally:
            self._writing = None

    def _next_blocks(self) -> list[BlockApplied]:
        """Up to where the log begins anew."""
        some: list[BlockApplied] = []
        while self._applied and len(some) < WRITTEN_AT_ONCE and isinstance(first := self._applied[0], BlockApplied):
            some.append(first)
            self._applied.popleft()
        return some

    async def until_more(self) -> None:
        """Until more blocks are in the store."""
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._written)

    def _tell_written(self) -> None:
        if self._written is not None:
            self._written.set_result(None)
            self._written = None

    async def stop(self) -> None:
        """What waits is written first; then the store is closed. The node has stopped.

        A second time is no error. Raises WorkLeft if that takes too long.
        """
        self._asking.cancel()
        self._showing.cancel()
        if self._written is not None:
            self._written.cancel()
        await self._thread.end(self._close)

    async def _close(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)
        await self._thread.run(self.store.close)

    # --- an App that has neither clients of its own nor snapshots ---

    def request(self, client: Requester, request: Any) -> None:
        client.reply(Failure(request.id, Code.MALFORMED, NO_CLIENTS))

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        raise NotImplementedError("its snapshots are the app's affair")

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        raise NotImplementedError("its snapshots are the app's affair")
