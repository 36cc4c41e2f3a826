"""Jobs: what cores ask of the runtime, done aside: snapshots and signatures in worker threads, others by doers.

How it works. A job's type has a doer, which is called at once and gives something to await; its result, or a Failed
that says why, goes back to the core. A doer waits for the disk or the like ``in_thread``. One that holds the
interpreter for long hands its work to ``in_process``, in slices short enough that a cancelled job, or a node that
stops, ends soon: neither a thread nor a process is stopped in the middle of a call.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, BinaryIO, TypeAlias, TypeVar, cast

from quorate.kernel import ROOT, App, AppEnded, Failed, Job, Key, Path, StateMark
from quorate.parts.crypto.keys import Keyring, VerifyBatch
from quorate.parts.log.replicated import (
    Chunk,
    Piece,
    ReadChunk,
    ReadPiece,
    SnapshotInfo,
    TakeCommonSnapshot,
    TakeSnapshot,
    WriteChunk,
    Written,
)
from quorate.runtime.errors import REJOIN, DiskUnreadable, SnapshotMissing, SnapshotSpoiled, StorageError, WorkLeft
from quorate.runtime.marks import Marks
from quorate.runtime.snapshots import SnapshotStore

log = logging.getLogger("quorate.jobs")
_T = TypeVar("_T")

Doer: TypeAlias = "Callable[[Jobs, Job], Awaitable[Any]]"
"""Begins a job, on the loop; what it returns gives the result. Cancelling that is how a job is cancelled.

What it raises is a Failed. The Jobs have the workers: ``in_thread`` and ``in_process``.
"""

THREADS = 2
PROCESSES = 1
STOP_S_MAX = 0.7
"""How long a node that stops waits for calls in its threads. Those on snapshots give up as soon as they notice; what is
left then waits for the disk, for a sync of a large file perhaps."""
STOP_POLL_S = 0.02
SLOW_S = 60.0
"""A job in a thread that takes longer is told in the log: it may wait for a disk that hangs."""


class Jobs:
    """The workers of one node. Results come back on the loop."""

    def __init__(
        self,
        stores: Callable[[Path], SnapshotStore],
        app: App,
        keyring: Keyring | None = None,
        doers: Mapping[type, Doer] | None = None,
        on_spoiled: Callable[[StorageError | AppEnded], object] = lambda error: None,
    ) -> None:
        """``stores`` has the snapshots of each path; ``keyring``: of a protocol whose nodes sign.

        ``doers``: how jobs of further types are done. ``on_spoiled`` hears on the loop that a snapshot of this node
        is damaged: it cannot go on, as neither itself nor a peer could start from that. It also hears that a doer has
        found that the App cannot go on (AppEnded).
        """
        self._stores = stores
        self._app = app
        self._on_spoiled = on_spoiled
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="quorate-job")
        self._processes: ProcessPoolExecutor | None = None
        self._underway: dict[tuple[Path, Key], set[asyncio.Future[Any]]] = {}
        """By path and key; those that were cancelled are no longer here."""
        self._named: dict[Path, int] = {}
        """By path, the newest snapshot that the journal is known to name: a restart needs that one, and none below."""
        self._taken: dict[Path, int] = {}
        self._marks = Marks(stores, app)
        self._streams: dict[tuple[Path, int], asyncio.Future[Any]] = {}
        """By path and index, the files that are being made of marks."""
        self._calls: dict[int, tuple[str, float]] = {}
        """By thread, what it is in and since when."""
        self._doers: dict[type, Doer] = {
            TakeSnapshot: lambda _, job: self._take_snapshot(job),
            TakeCommonSnapshot: lambda _, job: self._take_snapshot(job),
            ReadChunk: lambda _, job: self._serve(job),
            ReadPiece: lambda _, job: self.in_thread(partial(self._read_piece, job), _named(job)),
            WriteChunk: lambda _, job: self.in_thread(partial(self._write_chunk, job), _named(job)),
            **(doers or {}),
        }
        if keyring is not None:
            self._doers[VerifyBatch] = lambda jobs, job: jobs.in_thread(partial(keyring.verify_batch, job.work))

    def start(self, job: Job, done: Callable[[Any], None]) -> None:
        """Begin a job; ``done(result)`` is called on the loop. A snapshot is of the App's state at this moment."""
        loop = asyncio.get_running_loop()
        doer = self._doers.get(type(job.work))
        try:
            if doer is None:
                raise TypeError(f"nobody on this node does a {type(job.work).__name__}")
            pending = asyncio.ensure_future(doer(self, job))
        except (TypeError, ValueError, OSError) as error:  # a state that cannot be written, or not now
            log.error("a job failed: %s", error)
            loop.call_soon(done, Failed(str(error)))
            return
        except Exception as error:
            loop.call_soon(done, _mistake(error))
            return
        name = (job.path, job.key)
        self._underway.setdefault(name, set()).add(pending)
        pending.add_done_callback(partial(self._ended, name, done))

    def cancel(self, path: Path, key: Key) -> None:
        """Stop the jobs of a key; their results are dropped."""
        for pending in self._underway.pop((path, key), ()):
            pending.cancel()

    async def load(self, index: int, path: Path = ROOT) -> Callable[[], None]:
        """Load the snapshot at an index aside; what it returns makes it the App's state. Raises StorageError."""
        self._named[path] = max(self._named.get(path, 0), index)
        return await self.in_thread(partial(self._load, index, path), f"the load of the snapshot at {index}")

    async def in_thread(self, call: Callable[[], _T], what: str = "a job") -> _T:
        """For what waits for a disk, or lets the interpreter go. ``what`` it is, for a person."""
        loop = asyncio.get_running_loop()
        slow = loop.call_later(SLOW_S, log.warning, "%s has not ended after %g s: does the disk hang?", what, SLOW_S)
        try:
            return await loop.run_in_executor(self._pool, partial(self._call, call, what))
        finally:
            slow.cancel()

    def _call(self, call: Callable[[], _T], what: str) -> _T:
        """In a worker thread."""
        thread = threading.get_ident()
        self._calls[thread] = (what, time.monotonic())
        try:
            return call()
        finally:
            del self._calls[thread]

    async def in_process(self, call: Callable[..., _T], *args: Any) -> _T:
        """For what holds the interpreter. ``call``, a function of a module, and its arguments go to a process."""
        if self._processes is None:
            # Not forked: a copy of this process might hold a lock that one of its threads has.
            context = multiprocessing.get_context("spawn")
            self._processes = ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=_begin_worker)
        processes = self._processes
        try:
            return await asyncio.get_running_loop().run_in_executor(processes, partial(call, *args))
        except BrokenProcessPool:  # a worker was killed: this call is lost, the next gets others
            if self._processes is processes:
                self._processes = None
                processes.shutdown(wait=False)
            raise

    async def stop(self) -> None:
        """Wait for the workers; results are dropped. Raises WorkLeft if a call in a thread does not end."""
        underway = [pending for many in self._underway.values() for pending in many]
        self._underway.clear()
        for pending in underway:
            pending.cancel()
        await asyncio.gather(*underway, return_exceptions=True)
        loop = asyncio.get_running_loop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._processes is not None:
            await loop.run_in_executor(None, partial(self._processes.shutdown, cancel_futures=True))
        until = time.monotonic() + STOP_S_MAX
        while self._calls and time.monotonic() < until:  # noqa: ASYNC110 (threads set no event)
            await asyncio.sleep(STOP_POLL_S)
        for what, began_at in list(self._calls.values()):
            raise WorkLeft(
                f"{what} does not end, after {time.monotonic() - began_at:.1f} s: it was left where it was, and what "
                "it wrote is removed at the next start. Look after the disk if it hangs"
            )

    def _ended(self, name: tuple[Path, Key], done: Callable[[Any], None], pending: asyncio.Future[Any]) -> None:
        underway = self._underway.get(name, set())
        is_wanted = pending in underway
        underway.discard(pending)
        if not underway:
            self._underway.pop(name, None)
        error = asyncio.CancelledError("by its doer") if pending.cancelled() else pending.exception()
        if isinstance(error, SnapshotSpoiled | DiskUnreadable | AppEnded):
            self._on_spoiled(error)
            return
        if not is_wanted:
            return
        if error is None:
            done(pending.result())
        elif isinstance(error, StorageError | OSError):
            log.warning("a job failed: %s", error)
            done(Failed(str(error)))
        else:
            done(_mistake(error))

    def _take_snapshot(self, job: Job) -> Awaitable[SnapshotInfo]:
        # A job starts when all earlier records are durable, and so what the core made of the last snapshot.
        path = job.path
        named_index = self._named[path] = max(self._named.get(path, 0), self._taken.get(path, 0))
        mark = None if isinstance(job.work, TakeCommonSnapshot) else self._app.mark(path)
        if mark is not None:
            return self._write_mark(job, mark, named_index)
        return self._write_snapshot(job, self._app.snapshot(path), named_index)

    async def _write_mark(self, job: Job, mark: StateMark, named_index: int) -> SnapshotInfo:
        path, work = job.path, job.work
        writing = asyncio.ensure_future(self.in_thread(partial(self._mark, job, mark, named_index), _named(job)))

        def ended(writing: asyncio.Future[SnapshotInfo]) -> None:
            if writing.cancelled() or writing.exception() is not None:
                mark.close()
            else:
                self._marks.hold(path, work.index, work.term, mark)
                self._marks.let_go(path, named_index)

        # Whether anybody still waits or not: what its file leads to is to stay, once there is one.
        writing.add_done_callback(ended)
        info = await asyncio.shield(writing)
        self._taken[path] = info.index
        return info

    async def _serve(self, job: Job) -> Chunk:
        """A piece of a snapshot's file, which is made first if there is only a mark."""
        read = partial(self.in_thread, partial(self._read_chunk, job), _named(job))
        try:
            return await read()
        except SnapshotMissing:
            found = self._marks.held(job.path, job.work.index)
            if found is None:
                raise
            await self._make_stream(job.path, job.work.index, *found)
            return await read()

    async def _make_stream(self, path: Path, index: int, term: int, mark: StateMark) -> None:
        """Once for all that ask meanwhile; it goes on if they give up."""
        making = self._streams.get((path, index))
        if making is None:
            write = partial(self._stores(path).write, index, term, mark.stream())
            made = self.in_thread(write, f"the stream of the snapshot at {index}")
            making = self._streams[path, index] = asyncio.ensure_future(made)
            making.add_done_callback(partial(self._made_stream, path, index))
        await asyncio.shield(making)

    async def _write_snapshot(self, job: Job, writer: Callable[[BinaryIO], None], named_index: int) -> SnapshotInfo:
        info = await self.in_thread(partial(self._write, job, writer, named_index), _named(job))
        self._taken[job.path] = info.index
        return info

    def _made_stream(self, path: Path, index: int, making: asyncio.Future[Any]) -> None:
        del self._streams[path, index]
        if not making.cancelled():
            making.exception()  # for those that wait; there may be none

    # --- in worker threads ---

    def _mark(self, job: Job, mark: StateMark, named_index: int) -> SnapshotInfo:
        work: TakeSnapshot = job.work
        lowest = named_index if work.keep_index is None else work.keep_index
        info = self._marks.write(job.path, work.index, work.term, mark, lowest)
        self._stores(job.path).discard(lowest, work.held or ())
        return SnapshotInfo(info.index, info.term, info.size_bytes)

    def _write(self, job: Job, writer: Callable[[BinaryIO], None], named_index: int) -> SnapshotInfo:
        work: TakeSnapshot = job.work
        store = self._stores(job.path)
        info = store.write(work.index, work.term, writer, is_common=isinstance(work, TakeCommonSnapshot))
        root = store.tree(work.index, work.piece_bytes).root if isinstance(work, TakeCommonSnapshot) else b""
        # The journal does not name this one yet. The one that it names stays until then, for a restart and for peers.
        store.discard(named_index if work.keep_index is None else work.keep_index, work.held or ())
        return SnapshotInfo(info.index, info.term, info.size_bytes, info.digest, root)

    def _read_chunk(self, job: Job) -> Chunk:
        work: ReadChunk = job.work
        store = self._stores(job.path)
        data = store.read_chunk(work.index, work.offset, work.size_bytes_max)
        info = next(info for info in reversed(store.infos()) if info.index == work.index)
        return Chunk(info.index, info.term, work.offset, data, info.size_bytes)

    def _read_piece(self, job: Job) -> Piece:
        work: ReadPiece = job.work
        info, data, proof = self._stores(job.path).read_piece(work.index, work.offset, work.piece_bytes, work.root)
        return Piece(Chunk(info.index, info.term, work.offset, data, info.size_bytes), proof)

    def _write_chunk(self, job: Job) -> Written:
        work: WriteChunk = job.work
        store = self._stores(job.path)
        wanted = store.write_chunk(work.index, work.term, work.offset, work.data, work.total_bytes, work.digest)
        return Written(work.index, work.term, wanted, wanted == work.total_bytes)

    def _load(self, index: int, path: Path) -> Callable[[], None]:
        reopened = self._marks.reopen(path, index)
        if reopened is not None:
            return reopened
        try:
            reader = self._stores(path).open(index)
        except SnapshotMissing as error:
            raise SnapshotMissing(f"{error}. The journal goes on from it. {REJOIN}") from None
        with reader:
            return self._app.restore(cast(BinaryIO, reader), path)


def _named(job: Job) -> str:
    """A job on a snapshot, for a person."""
    return f"{type(job.work).__name__} of the snapshot at {job.work.index}"


def _mistake(error: BaseException) -> Failed:
    """Of a machine or a doer. It ends no node; but a core that is told nothing waits for ever."""
    log.error("a job failed", exc_info=error)
    return Failed(f"{type(error).__name__}: {error}")


def _begin_worker() -> None:
    """In a worker process: leave Ctrl-C to the node, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(0)
