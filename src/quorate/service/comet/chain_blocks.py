"""ChainBlocks: a node's blocks, from when they come until they are in its BlockStore, and for those who ask for them.

They come in order, and after a restart all of the log once more. They are written in a thread of their own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from quorate.protocols.tendermint.app_messages import LogBegins
from quorate.runtime.errors import StorageError
from quorate.service.comet.block_store import AppliedBlock, BlockStore
from quorate.service.comet.file_thread import FileThread

T = TypeVar("T")

WRITTEN_AT_ONCE: Final = 256
"""Blocks in one transaction of the store."""


class ChainBlocks:
    """``end`` is called with what makes the node unable to go on; ``on_applied`` with those new in the store."""

    def __init__(self, store: BlockStore, end: Callable[[BaseException], None]) -> None:
        self.store = store
        self.on_applied: Callable[[Sequence[AppliedBlock]], None] = lambda blocks: None
        self._end = end
        self._applied: deque[AppliedBlock | LogBegins] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._written: asyncio.Future[None] | None = None
        self._thread = FileThread("blocks", store.path)

    def take(self, blocks: Iterable[AppliedBlock | LogBegins]) -> None:
        """The next ones; or the log begins anew."""
        self._applied.extend(blocks)
        if self._writing is None and self._applied:
            self._writing = asyncio.get_running_loop().create_task(self._write())

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

    def _next_blocks(self) -> list[AppliedBlock]:
        """Up to where the log begins anew."""
        some: list[AppliedBlock] = []
        while self._applied and len(some) < WRITTEN_AT_ONCE and not isinstance(first := self._applied[0], LogBegins):
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
        if self._written is not None:
            self._written.cancel()
        await self._thread.end(self._close)

    async def _close(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)
        await self._thread.run(self.store.close)
