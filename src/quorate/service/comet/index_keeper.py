"""IndexKeeper: has every height of a chain indexed, those from before it began and each that comes.

It reads them from the node, in order, beginning after the highest that the index has. So nothing waits for the index,
and a crash between the two costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable

from quorate.ledger.comet.rpc.view import ChainView, DecidedHeight
from quorate.runtime.errors import StorageError
from quorate.service.comet.indexer import ChainIndexer

log = logging.getLogger("quorate.rpc")


class IndexKeeper:
    """Keeps one index up with one node."""

    def __init__(self, view: ChainView, indexer: ChainIndexer) -> None:
        self._view = view
        self._indexer = indexer
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._deafen: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Open the index and begin. Raises sqlite3.Error, OSError."""
        await self._indexer.open()
        self._deafen = self._view.listen(lambda _: self._more.set())
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, and close the index. Raises WorkLeft if that takes too long."""
        self._deafen()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._indexer.close()

    async def _run(self) -> None:
        try:
            following = await self._indexer.highest() + 1
            while True:
                self._more.clear()
                following = await self._index_from(following)
                await self._more.wait()
        except (
            sqlite3.Error,
            StorageError,
            OSError,
        ) as error:  # a node without an index is a node; searches show what there is
            log.error("transactions are not indexed any more: %s", error)

    async def _index_from(self, height: int) -> int:
        """Index what there is from a height on; the next one. What the node has pruned cannot be had any more."""
        height = max(height, self._view.earliest_height())
        while height <= self._view.latest_height():
            found, results = await self._view.block_of(height), await self._view.results_of(height)
            if found is not None and results is not None:
                await self._indexer.add(DecidedHeight(found.block_id, found.block, results))
            height += 1
        return height
