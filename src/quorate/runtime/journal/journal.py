"""The journal as the node sees it: append from the event loop, hear from the writer thread what is durable.

`append` and `checkpoint` only put a value on a queue. One thread takes everything that is queued, writes it with one
write and one sync (group commit: under load many frames share a sync), and reports the last sequence number. A
checkpoint is written in between, a piece after each write, so that nobody waits for it; it brings nothing new, and is
given up at the end.

**A full disk** loses nothing: the frames stay in memory, `on_stall` says why, the thread cuts the failed write off and
tries again when there is some room, and not for the length of a small frame. That is sound because the retry writes
all bytes anew, and a file system that is out of space has not dropped older ones. A checkpoint for which there is no
space is given up, and says so in the log.

**A disk that hangs** reports nothing, and the thread that waits for it cannot. The Shell, which has a clock, notices
that reports stay out; `doing` says what the disk was asked for, and since when. `close` waits as long as there is
progress, and for CLOSE_S_MAX without any; then the thread is left alone, with the lock of the folder, until its call
returns.

**Any other error** is final. A failed fsync must not be tried again: the kernel may have marked the lost pages clean,
so that the next fsync reports success (Rebello et al., "Can applications recover from fsync failures?", USENIX ATC
2020). `failure` is set, `on_stall` is called, and nothing is ever reported durable again; the process should stop.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

from quorate.runtime.descriptors import NONE_LEFT
from quorate.runtime.errors import REJOIN, DiskHangs, JournalFailed, StorageError
from quorate.runtime.files import DISK_FULL, FolderLock, Identity, fsync_directory, own_directory
from quorate.runtime.journal.checkpoint import CheckpointWriter
from quorate.runtime.journal.recovery import Recovered, recover
from quorate.runtime.journal.segment import FRAME_HEADER_SIZE, HEADER_SIZE, check_frame
from quorate.runtime.journal.writer import SegmentWriter

logger = logging.getLogger(__name__)

R = TypeVar("R")

RETRY_S = 0.2  # between attempts on a full disk
ROOM_BYTES = 16 << 20  # what must be free on a disk that was full before it is written to again,
ROOM_SHARE = 16  # or this part of it, if that is less: a node that leads again must not fill it at once
WRITE_SIZE_BYTES_MAX = 8 << 20  # frames that share one sync; one larger frame still goes alone
CLOSE_S_MAX = 5.0  # how long `close` waits for a disk that makes no progress
LOCK_NAME = "journal.lock"
TEMPORARY = DISK_FULL | NONE_LEFT  # errors after which nothing was lost, so that the same may be tried again


class _Checkpoint:
    """What becomes a checkpoint, on the queue and while it is written."""

    __slots__ = ("encode", "items", "pieces", "replaced_bytes", "writer")

    def __init__(self, items: Sequence[Any], encode: Callable[[Any], bytes] | None, replaced_bytes: int) -> None:
        self.items = items
        self.encode = encode
        self.replaced_bytes = replaced_bytes  # of all that was appended, what was before it
        self.writer: CheckpointWriter
        self.pieces: Generator[int]


class Journal:
    """The durable frames of one node. Open it with `Journal.open`.

    `append`, `checkpoint` and `close` belong to one thread (the event loop's). backlog_bytes: what was appended and is
    not yet durable; the node takes in less when it grows (runtime/burden.py). last_sequence: of the last frame
    queued; recovered: what was found at open.
    """

    def __init__(
        self,
        writer: SegmentWriter,
        lock: FolderLock,
        recovered: Recovered,
        on_durable: Callable[[int], object],
        on_stall: Callable[[str | None], object],
        on_end: Callable[[int], object],
        size_bytes: int,
    ) -> None:
        self.recovered = recovered
        self.last_sequence = recovered.last_sequence
        self.failure: BaseException | None = None
        self._writer = writer
        self._lock = lock
        self._on_durable = on_durable
        self._on_stall = on_stall
        self._on_end = on_end
        self._progress = 0
        self._began_at: float | None = None  # the step of the disk that is under way
        self._queue: SimpleQueue[bytes | _Checkpoint | None] = SimpleQueue()
        self._held: list[bytes | _Checkpoint | None] = []  # taken from the queue, not part of the last write
        self._under_way: _Checkpoint | None = None
        self._base_bytes = size_bytes  # of the last checkpoint, or of what was found
        self._replaced_bytes = 0  # of what was queued, what that holds
        # One side writes each counter, so neither needs a lock.
        self._queued_bytes = 0
        self._durable_bytes = 0
        self._checkpoints_queued = self._checkpoints_ended = 0
        self._closing = threading.Event()
        self._closed = False
        self._is_abandoned = self._is_over = False
        self._end_lock = threading.Lock()  # who ends last, the thread or `close`, releases the folder
        self._thread = threading.Thread(target=self._run, name="quorate-journal", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        directory: Path | str,
        *,
        identity: Identity,
        lock: FolderLock | None = None,
        segment_size_bytes: int = 64 << 20,
        on_durable: Callable[[int], object] = lambda sequence: None,
        on_stall: Callable[[str | None], object] = lambda reason: None,
        on_end: Callable[[int], object] = lambda sequence: None,
    ) -> tuple[Journal, list[bytes]]:
        """Lock and recover a folder (created if missing); returns the journal and its frames in order.

        ``lock``: that of the folder, if the caller has it; from now on it is the journal's, also if this raises.

        The frames begin with those of the last complete checkpoint. The callbacks are called from the writer
        thread: on_durable with the last sequence number that is durable; on_stall with why nothing becomes durable
        at present, and with None when it does again. At the end, before the folder is unlocked, on_end with the last
        sequence number that is durable, if no disk failed.

        Raises JournalLocked, WrongIdentity, UnknownFormat, JournalCorrupt, SegmentMissing, DiskUnreadable,
        JournalFailed, OSError.
        """
        if segment_size_bytes <= HEADER_SIZE:
            raise ValueError(f"segment_size_bytes must be more than {HEADER_SIZE}: {segment_size_bytes}")
        directory = Path(directory)
        if lock is None:
            own_directory(directory)
            lock = FolderLock(directory / LOCK_NAME)
        try:
            fsync_directory(directory.parent)  # who made the folder may have ended before its name was durable
            recovered = recover(directory, identity)
            writer = SegmentWriter(directory, identity, segment_size_bytes, recovered)
        except BaseException as error:
            lock.release()
            if isinstance(error, OSError) and error.filename is None:  # of a write or a sync, which names no file
                raise JournalFailed(
                    f"{directory}: the journal could not be made durable at the start: {error}. Free some space if the "
                    f"disk is full. If it fails otherwise, treat the disk as lost. {REJOIN}"
                ) from error
            raise
        frames, recovered.frames = recovered.frames, []  # the caller's alone: they can be large
        return cls(writer, lock, recovered, on_durable, on_stall, on_end, _size(frames)), frames

    @property
    def backlog_bytes(self) -> int:
        """Bytes appended and not yet durable, with their headers. Checkpoints do not count: they bring nothing new."""
        return self._queued_bytes - self._durable_bytes

    @property
    def size_bytes(self) -> int:
        """What a start would have to read: the last checkpoint that was done, and what was appended after it."""
        return self._base_bytes + self._queued_bytes - self._replaced_bytes

    @property
    def durable_end(self) -> tuple[int, int]:
        """The number of the last segment, and the offset in it up to which all is durable. From any thread."""
        while True:
            number, end = self._writer.number, self._writer.end
            if number == self._writer.number:
                return number, end

    @property
    def has_checkpoint_under_way(self) -> bool:
        """Whether one was asked for that has not ended."""
        return self._checkpoints_queued > self._checkpoints_ended

    @property
    def doing(self) -> str:
        """What the disk is asked for at present, and since when, for a person."""
        began_at, (words, *values) = self._began_at, self._writer.doing
        if began_at is None:
            return f"{self._writer.path.parent}: nothing"
        took_s = time.monotonic() - began_at
        return f"{self._writer.path.parent}: {str(words) % tuple(values)} has taken {took_s:.1f} s so far"

    def append(self, frame: bytes) -> int:
        """Queue one frame (0 bytes to 64 MiB); returns its sequence number, 1 more than the last.

        Raises ValueError if it is too large, TypeError if it is not bytes, JournalFailed after a failure,
        StorageError after close.
        """
        self._check()
        check_frame(frame)
        self.last_sequence += 1
        self._queued_bytes += FRAME_HEADER_SIZE + len(frame)
        self._queue.put(frame)
        return self.last_sequence

    def checkpoint(self, items: Sequence[Any], encode: Callable[[Any], bytes] | None = None) -> int:
        """Queue what replaces everything before; returns the number to wait for in on_durable if nothing is appended.

        encode makes a frame of each item, in the writer thread: there are many, and the event loop has no time for
        that. Nobody may change the items meanwhile. None: they are frames. A checkpoint takes one number for itself
        and one for each frame (so an empty one has a number too). It holds nothing that is not durable without it, and
        frames appended after it may be durable before it is done. Raises as `append`; what encode raises, and a frame
        of its that is too large, is a failure.
        """
        self._check()
        for frame in items if encode is None else ():
            check_frame(frame)
        self.last_sequence += 1 + len(items)
        self._checkpoints_queued += 1
        self._queue.put(_Checkpoint(items, encode, self._queued_bytes))
        return self.last_sequence

    def close(self) -> None:
        """Write what is queued, end the thread, release the folder. A second call does nothing.

        A checkpoint that is not done is given up.

        Raises JournalFailed if not everything queued became durable (on a full disk after one more attempt), DiskHangs
        if the disk hangs: the thread that waits for it, and so the process, ends only when its call returns.
        """
        if self._closed:
            return
        self._closed = True
        self._closing.set()
        self._queue.put(None)
        if not self._has_ended():
            raise DiskHangs(
                f"{self.doing}: {self.backlog_bytes} bytes up to frame {self.last_sequence} were not written. "
                "This node has told nobody that they are durable. Look after the disk, then start the node again"
            )
        self._let_go()
        if self.failure is not None:
            raise self.failure

    def _has_ended(self) -> bool:
        """Wait for the thread, for as long as it gets on."""
        known = -1
        while self._thread.is_alive() and known != self._progress:
            known = self._progress
            self._thread.join(CLOSE_S_MAX)
        with self._end_lock:
            self._is_abandoned = not self._is_over
        return not self._is_abandoned

    def _let_go(self) -> None:
        self._writer.close()
        self._lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self) -> None:
        if self.failure is not None:
            raise JournalFailed(str(self.failure)) from self.failure
        if self._closed:
            raise StorageError(f"{self._writer.path.parent}: the journal is closed")

    # The writer thread.

    def _run(self) -> None:
        self._write_on()
        with self._end_lock:
            self._is_over = True
            if self._is_abandoned:  # `close` did not wait any longer
                self._let_go()

    def _write_on(self) -> None:
        try:
            while (work := self._take()) is not None:
                if isinstance(work, _Checkpoint):
                    while self._under_way is not None:  # nobody asks for two at once but a test
                        self._write_piece()
                    self._begin(work)
                elif work:
                    self._persist(partial(self._writer.append, work))
                    self._durable_bytes += _size(work)
                    self._tell(self._on_durable, self._writer.sequence)
                if self._under_way is not None:
                    self._write_piece()
            if not self._is_abandoned:
                self._began_at, self._writer.doing = time.monotonic(), ("a record of how far it reaches",)
                self._tell(self._on_end, self._writer.sequence)
                self._began_at = None
        except Exception as error:
            failure = error if isinstance(error, JournalFailed) else JournalFailed(self._describe(error))
            failure.__cause__ = error if failure is not error else error.__cause__
            self.failure = failure
            logger.error("%s", failure)
            self._tell(self._on_stall, str(failure))
        finally:
            if self._under_way is not None:
                self._end(self._under_way)

    def _take(self) -> list[bytes] | _Checkpoint | None:
        """Wait for work. Returns a checkpoint, or all frames queued up to one (or up to the size limit), or None.

        Nobody waits while a checkpoint is under way: then there may be no frames.
        """
        if self._under_way is not None and not self._held and self._queue.empty():
            return []
        item = self._held.pop() if self._held else self._queue.get()
        if self._is_abandoned:
            return None
        if not isinstance(item, bytes):
            return item
        frames, size = [item], len(item)
        while not self._queue.empty():
            item = self._queue.get()
            if not isinstance(item, bytes) or size + len(item) > WRITE_SIZE_BYTES_MAX:
                self._held.append(item)
                break
            frames.append(item)
            size += len(item)
        return frames

    def _persist(self, write: Callable[[], R]) -> R:
        """Make something durable, however long the disk is full or there is no descriptor; what ``write`` gives.

        Raises what is final.
        """
        stalled = needs_room = False
        self._began_at = time.monotonic()
        while True:
            last_attempt = stalled and self._closing.is_set()
            if needs_room and not last_attempt and not has_room(self._writer.path.parent):
                self._closing.wait(RETRY_S)
                continue
            try:
                result = write()
                break
            except OSError as error:
                if error.errno not in TEMPORARY:
                    raise
                self._writer.cut()
                needs_room = error.errno in DISK_FULL
                if last_attempt:
                    raise JournalFailed(f"{self._describe(error)}; closed before there was space") from error
                if not stalled:
                    stalled = True
                    what = "disk full" if error.errno in DISK_FULL else "no file descriptor is left"
                    self._tell(self._on_stall, f"{what}: {self._describe(error)}")
                self._closing.wait(RETRY_S)
        self._began_at = None
        self._progress += 1
        if stalled:
            self._tell(self._on_stall, None)
        return result

    # A checkpoint, in the writer thread.

    def _begin(self, work: _Checkpoint) -> None:
        """What is appended from now on comes after it."""
        writer = self._writer
        place = self._persist(partial(writer.make_way, len(work.items)))
        work.writer = CheckpointWriter(writer.path.parent, writer.identity, place, work.items, work.encode)
        work.pieces = work.writer.pieces()
        self._under_way = work

    def _write_piece(self) -> None:
        """The next one. After the last, all before the checkpoint goes."""
        work = self._under_way
        assert work is not None
        self._writer.doing = ("a piece of the checkpoint in segment %d", work.writer.number)
        self._began_at = time.monotonic()
        try:
            if next(work.pieces, None) is None:
                self._writer.remove_before(work.writer.number)
                self._base_bytes, self._replaced_bytes = work.writer.size_bytes, work.replaced_bytes
                self._end(work)
                self._tell(self._on_durable, self._writer.sequence)
        except OSError as error:
            if error.errno not in TEMPORARY:
                raise
            logger.warning("%s: the checkpoint is given up, all stays as it was: %s", work.writer.path, error)
            self._end(work)
        self._began_at = None
        self._progress += 1

    def _end(self, work: _Checkpoint) -> None:
        """It is done, or given up."""
        self._under_way = None
        work.pieces.close()
        self._checkpoints_ended += 1

    def _describe(self, error: Exception) -> str:
        return f"{self._writer.path}: offset {self._writer.end}: write failed: {error}"

    @staticmethod
    def _tell(callback: Callable[..., object], *arguments: object) -> None:
        # A callback that fails (an event loop that is closed) must not stop the writes.
        try:
            callback(*arguments)
        except Exception:
            logger.exception("a journal callback failed")


def has_room(directory: Path) -> bool:
    """Whether a disk that was full has space again. A quota that is used up does not show here: then it is tried."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize >= min(ROOM_BYTES, status.f_blocks * status.f_frsize // ROOM_SHARE)


def _size(frames: Sequence[bytes]) -> int:
    return sum(map(len, frames)) + FRAME_HEADER_SIZE * len(frames)
