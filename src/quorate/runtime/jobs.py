"""Jobs: what cores ask of the snapshot store, and signatures to check, done in worker threads.

A job's work is a value (see ``parts/replicated.py`` and ``parts/keys.py``); its result, or a Failed that says why, goes
back to the core.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, BinaryIO, TypeVar, cast

from quorate.kernel import App, Failed
from quorate.parts.keys import Keyring, VerifyBatch
from quorate.parts.replicated import Chunk, ReadChunk, SnapshotInfo, TakeSnapshot, WriteChunk, Written
from quorate.runtime.errors import StorageError
from quorate.runtime.snapshots import SnapshotStore

log = logging.getLogger("quorate.jobs")
_T = TypeVar("_T")


class Jobs:
    """The worker threads of one node. Results come back on the loop."""

    def __init__(self, store: SnapshotStore, app: App, keyring: Keyring | None = None) -> None:
        """``keyring``: of a protocol whose nodes sign."""
        self._keyring = keyring
        self._store = store
        self._app = app
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="quorate-job")
        self._tasks: set[asyncio.Task[None]] = set()
        self._named_index = 0
        """Of the newest snapshot that the journal is known to name: a restart needs that one, and none below."""
        self._taken_index = 0

    def start(self, work: Any, done: Callable[[Any], None]) -> None:
        """Begin a job; ``done(result)`` is called on the loop. A snapshot is of the App's state at this moment."""
        try:
            pending = self._begin(work)
        except (TypeError, ValueError, OSError) as error:  # a state that cannot be written, or not now
            log.error("a job failed: %s", error)
            asyncio.get_running_loop().call_soon(done, Failed(str(error)))
            return
        task = asyncio.get_running_loop().create_task(self._finish(pending, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def load(self, index: int) -> Callable[[], None]:
        """Load the snapshot at an index aside; what it returns makes it the App's state. Raises StorageError."""
        self._named_index = max(self._named_index, index)
        return await self._in_thread(partial(self._load, index))

    async def stop(self) -> None:
        """Wait for the threads; results are dropped."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)

    def _begin(self, work: Any) -> Awaitable[Any]:
        if isinstance(work, TakeSnapshot):
            # A job starts when all earlier records are durable, and so what the core made of the last snapshot.
            self._named_index = max(self._named_index, self._taken_index)
            return self._in_thread(partial(self._take_snapshot, work, self._app.snapshot(), self._named_index))
        if isinstance(work, ReadChunk):
            return self._in_thread(partial(self._read_chunk, work))
        if isinstance(work, WriteChunk):
            return self._in_thread(partial(self._write_chunk, work))
        if isinstance(work, VerifyBatch) and self._keyring is not None:
            return self._in_thread(partial(self._keyring.verify_batch, work))
        raise TypeError(f"no node knows how to do {work!r}")

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def _finish(self, pending: Awaitable[Any], done: Callable[[Any], None]) -> None:
        try:
            result = await pending
        except (StorageError, OSError) as error:
            log.warning("a job failed: %s", error)
            result = Failed(str(error))
        except Exception as error:  # a machine's own mistake; a core that is told nothing waits for ever
            log.exception("a job failed")
            result = Failed(f"{type(error).__name__}: {error}")
        if isinstance(result, SnapshotInfo):
            self._taken_index = result.index
        done(result)

    # --- in worker threads ---

    def _take_snapshot(self, work: TakeSnapshot, writer: Callable[[BinaryIO], None], named_index: int) -> SnapshotInfo:
        info = self._store.write(work.index, work.term, writer)
        # The journal does not name this one yet. The one that it names stays until then, for a restart and for peers.
        self._store.discard(named_index if work.keep_index is None else work.keep_index)
        return SnapshotInfo(info.index, info.term, info.size_bytes, info.digest)

    def _read_chunk(self, work: ReadChunk) -> Chunk:
        data = self._store.read_chunk(work.index, work.offset, work.size_bytes_max)
        info = next(info for info in reversed(self._store.infos()) if info.index == work.index)
        return Chunk(info.index, info.term, work.offset, data, info.size_bytes)

    def _write_chunk(self, work: WriteChunk) -> Written:
        wanted = self._store.write_chunk(work.index, work.term, work.offset, work.data, work.total_bytes, work.digest)
        return Written(work.index, work.term, wanted, wanted == work.total_bytes)

    def _load(self, index: int) -> Callable[[], None]:
        with self._store.open(index) as reader:
            return self._app.restore(cast(BinaryIO, reader))
