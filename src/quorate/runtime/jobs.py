"""Jobs: what cores ask of the runtime, done aside: snapshots and signatures in worker threads, others as registered.

How it works. A job's type has a doer, which is called at once and gives something to await; its result, or a Failed
that says why, goes back to the core. A doer that holds the interpreter for long hands its work to ``in_process``, in
slices short enough that a cancelled job ends soon: a process is not stopped in the middle of a slice.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Any, BinaryIO, TypeAlias, TypeVar, cast

from quorate.kernel import ROOT, App, Failed, Job, Key, Path
from quorate.parts.keys import Keyring, VerifyBatch
from quorate.parts.replicated import Chunk, ReadChunk, SnapshotInfo, TakeSnapshot, WriteChunk, Written
from quorate.runtime.errors import StorageError
from quorate.runtime.snapshots import SnapshotStore

log = logging.getLogger("quorate.jobs")
_T = TypeVar("_T")

Doer: TypeAlias = Callable[[Job], Awaitable[Any]]
"""Begins a job, on the loop; what it returns gives the result. Cancelling that is how a job is cancelled."""

THREADS = 2
PROCESSES = 1


class Jobs:
    """The workers of one node. Results come back on the loop."""

    def __init__(self, stores: Callable[[Path], SnapshotStore], app: App, keyring: Keyring | None = None) -> None:
        """``stores`` has the snapshots of each path; ``keyring``: of a protocol whose nodes sign."""
        self._stores = stores
        self._app = app
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="quorate-job")
        self._processes: ProcessPoolExecutor | None = None
        self._tasks: dict[tuple[Path, Key], dict[asyncio.Task[None], Awaitable[Any]]] = {}
        """By path and key, the tasks in the order in which they began, and what each waits for."""
        self._named: dict[Path, int] = {}
        """By path, the newest snapshot that the journal is known to name: a restart needs that one, and none below."""
        self._taken: dict[Path, int] = {}
        self._doers: dict[type, Doer] = {
            TakeSnapshot: self._take_snapshot,
            ReadChunk: lambda job: self.in_thread(partial(self._read_chunk, job)),
            WriteChunk: lambda job: self.in_thread(partial(self._write_chunk, job)),
        }
        if keyring is not None:
            self._doers[VerifyBatch] = lambda job: self.in_thread(partial(keyring.verify_batch, job.work))

    def register(self, work: type, doer: Doer) -> None:
        """Have jobs of a type done by this doer from now on."""
        self._doers[work] = doer

    def start(self, job: Job, done: Callable[[Any], None]) -> None:
        """Begin a job; ``done(result)`` is called on the loop. A snapshot is of the App's state at this moment."""
        loop = asyncio.get_running_loop()
        doer = self._doers.get(type(job.work))
        try:
            if doer is None:
                raise TypeError(f"no node knows how to do {job.work!r}")
            pending = doer(job)
        except Exception as error:  # a state that cannot be written, or not now
            loop.call_soon(done, _failed(error))
            return
        name = (job.path, job.key)
        task = loop.create_task(self._finish(pending, done))
        self._tasks.setdefault(name, {})[task] = pending
        task.add_done_callback(partial(self._forget, name))

    def cancel(self, path: Path, key: Key) -> None:
        """Stop the jobs of a key; their results are dropped."""
        for task in list(self._tasks.get((path, key), ())):
            task.cancel()

    async def load(self, index: int, path: Path = ROOT) -> Callable[[], None]:
        """Load the snapshot at an index aside; what it returns makes it the App's state. Raises StorageError."""
        self._named[path] = max(self._named.get(path, 0), index)
        return await self.in_thread(partial(self._load, index, path))

    async def in_thread(self, call: Callable[[], _T]) -> _T:
        """For what waits for a disk, or lets the interpreter go."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def in_process(self, call: Callable[..., _T], *args: Any) -> _T:
        """For what holds the interpreter. ``call``, a function of a module, and its arguments go to a process."""
        if self._processes is None:
            # Not forked: a copy of this process might hold a lock that one of its threads has.
            self._processes = ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn"))
        return await asyncio.get_running_loop().run_in_executor(self._processes, partial(call, *args))

    async def stop(self) -> None:
        """Wait for the workers; results are dropped."""
        tasks = [task for tasks in self._tasks.values() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._pool.shutdown)
        if self._processes is not None:
            await loop.run_in_executor(None, partial(self._processes.shutdown, cancel_futures=True))

    def _forget(self, name: tuple[Path, Key], task: asyncio.Task[None]) -> None:
        tasks = self._tasks[name]
        pending = tasks.pop(task)
        if not tasks:
            del self._tasks[name]
        if asyncio.iscoroutine(pending):
            pending.close()  # it was cancelled before it began; else this does nothing

    async def _finish(self, pending: Awaitable[Any], done: Callable[[Any], None]) -> None:
        try:
            result = await pending
        except Exception as error:
            result = _failed(error)
        done(result)

    def _take_snapshot(self, job: Job) -> Awaitable[SnapshotInfo]:
        # A job starts when all earlier records are durable, and so what the core made of the last snapshot.
        path = job.path
        named_index = self._named[path] = max(self._named.get(path, 0), self._taken.get(path, 0))
        return self._write_snapshot(job, self._app.snapshot(path), named_index)

    async def _write_snapshot(self, job: Job, writer: Callable[[BinaryIO], None], named_index: int) -> SnapshotInfo:
        info = await self.in_thread(partial(self._write, job, writer, named_index))
        self._taken[job.path] = info.index
        return info

    # --- in worker threads ---

    def _write(self, job: Job, writer: Callable[[BinaryIO], None], named_index: int) -> SnapshotInfo:
        work: TakeSnapshot = job.work
        store = self._stores(job.path)
        info = store.write(work.index, work.term, writer)
        # The journal does not name this one yet. The one that it names stays until then, for a restart and for peers.
        store.discard(named_index if work.keep_index is None else work.keep_index)
        return SnapshotInfo(info.index, info.term, info.size_bytes, info.digest)

    def _read_chunk(self, job: Job) -> Chunk:
        work: ReadChunk = job.work
        store = self._stores(job.path)
        data = store.read_chunk(work.index, work.offset, work.size_bytes_max)
        info = next(info for info in reversed(store.infos()) if info.index == work.index)
        return Chunk(info.index, info.term, work.offset, data, info.size_bytes)

    def _write_chunk(self, job: Job) -> Written:
        work: WriteChunk = job.work
        store = self._stores(job.path)
        wanted = store.write_chunk(work.index, work.term, work.offset, work.data, work.total_bytes, work.digest)
        return Written(work.index, work.term, wanted, wanted == work.total_bytes)

    def _load(self, index: int, path: Path) -> Callable[[], None]:
        with self._stores(path).open(index) as reader:
            return self._app.restore(cast(BinaryIO, reader), path)


def _failed(error: Exception) -> Failed:
    """What a core is told; one that is told nothing waits for ever."""
    if isinstance(error, StorageError | OSError | TypeError | ValueError):
        log.warning("a job failed: %s", error)
        return Failed(str(error))
    log.error("a job failed", exc_info=error)  # a mistake of whoever does it
    return Failed(f"{type(error).__name__}: {error}")
