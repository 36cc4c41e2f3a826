"""The records on disk: one LMDB table from stamp to encoded `KeyValue`, appended at its right edge.

A batch's records are held in memory until `flush` writes them in one LMDB transaction, so a map that turns out too
small, or a full disk, loses nothing: the map grows and the batch is written again, or the error is raised and the
batch waits.

The file is *working storage*, opened with sync off: durability is the journal's business. After a crash the state
comes from the last snapshot and the log, and a new file is created; an old one is never opened.

Threads: one writes. Others may use `read_chunk` and `touch`; the map stays in place while they read.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb

from quorate.machines.kv.index import STAMP_BYTES

FOLDER_MODE = 0o700
FILE_MODE = 0o600
TOUCHED_BYTES_MAX = 4 << 20
"""Of one `touch`, and a record more."""
PAGE_BYTES = mmap.PAGESIZE
SPARE_BYTES = 1 << 20
"""Inner pages of the tree, and LMDB's list of free ones."""
MAP_BYTES = 256 * 1024 * 1024  # address space, not memory: pages and disk blocks are taken as they are written


def to_key(stamp: int) -> bytes:
    """A stamp as the key of its record: STAMP_BYTES, whose order is that of stamps."""
    return stamp.to_bytes(STAMP_BYTES, "big")


def from_key(key: bytes) -> int:
    """The stamp of a record's key."""
    return int.from_bytes(key, "big")


def lock_of(path: Path) -> Path:
    """The file that LMDB has beside a table."""
    return path.with_name(path.name + "-lock")


def _create(path: Path) -> None:
    """An empty file that only its owner may read, whatever the umask. Raises FileExistsError, OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        os.fchmod(fd, FILE_MODE)
    finally:
        os.close(fd)


class Revisions:
    """The table of records, and the batch on its way to it."""

    def __init__(self, path: Path, map_bytes: int = MAP_BYTES) -> None:
        """Create the table in a new file. Raises FileExistsError if there is one, OSError if it can't be made."""
        for file in (path, lock_of(path)):
            _create(file)
        self.pending: dict[bytes, bytes] = {}
        self._doomed: deque[int] = deque()
        self._path = path
        self._lock = threading.Condition()
        self._readers = 0  # other threads that read
        self._is_moving = False  # the map, as soon as none does
        self._toucher: ThreadPoolExecutor | None = None
        self._touching: Future[None] | None = None
        self._read: Any = None
        self._closed = False
        try:
            self._env = lmdb.open(
                str(path),
                map_size=map_bytes,
                subdir=False,
                sync=False,
                metasync=False,
                meminit=False,
                readahead=False,  # where the table is larger than memory, a page that is needed costs 32 others
                max_readers=16,
            )
        except lmdb.Error as error:
            raise _os_error(error, path) from error

    def get(self, stamp: int) -> bytes:
        """The record of a stamp that the index names."""
        key = to_key(stamp)
        record = self.pending.get(key)
        if record is not None:
            return record
        if self._read is None:
            self._read = self._env.begin()
        found: bytes | None = self._read.get(key)
        if found is None:
            raise OSError(errno.EIO, f"record {stamp:#x} is missing from the working storage", str(self._path))
        return found

    def doom(self, stamps: list[int]) -> None:
        """Have records deleted by later flushes, in this order."""
        self._doomed.extend(stamps)

    @property
    def doomed(self) -> int:
        """How many records still wait for their deletion."""
        return len(self._doomed)

    def flush(self, deletes: int = 0) -> None:
        """Write the batch, and delete up to `deletes` doomed records.

        Raises OSError on a full or failing disk: nothing is lost, the batch still waits.
        """
        self._end_read()
        doomed = list(islice(self._doomed, deletes))
        if not self.pending and not doomed:
            return
        has_room = False
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    txn.cursor().putmulti(self.pending.items(), append=True)
                    for stamp in doomed:
                        txn.delete(to_key(stamp))
                break
            except lmdb.MapFullError:
                self._grow()
            except lmdb.Error as error:
                found = _os_error(error, self._path)
                if found.errno != errno.EIO or has_room:
                    raise found from error
                self._make_room(len(doomed))
                has_room = True
        self.pending.clear()
        for _ in doomed:
            self._doomed.popleft()

    def scan(self, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
        """The written records with start <= stamp < end, in order. Not across a flush."""
        if self._read is None:
            self._read = self._env.begin()
        cursor = self._read.cursor()
        if not cursor.set_range(to_key(start)):
            return
        stop = to_key(end)
        for key, record in cursor:
            if key >= stop:
                return
            yield key, record

    def read_chunk(self, after: bytes, end: bytes, size_bytes: int) -> list[tuple[bytes, bytes]]:
        """The written records with after < key < end, at least one and about `size_bytes` of them. Any thread."""
        chunk: list[tuple[bytes, bytes]] = []
        taken = 0
        with self._reading(), self._env.begin() as txn:
            cursor = txn.cursor()
            if not cursor.set_range(after + b"\0"):
                return chunk
            for item in cursor:
                if item[0] >= end:
                    break
                chunk.append(item)
                taken += len(item[1])
                if taken >= size_bytes:
                    break
        return chunk

    def touch(self, start: int, end: int) -> None:
        """Have the pages of records with start <= stamp < end in memory, as far as a few megabytes. Any thread.

        A page that is missing is read while other threads go on, and no value is copied. Raises ValueError once closed.
        """
        taken = 0
        with self._reading(), self._env.begin(buffers=True) as txn:
            cursor, stop = txn.cursor(), to_key(end)
            if not cursor.set_range(to_key(start)):
                return
            for key, record in cursor:
                taken += len(record)
                if bytes(key) >= stop or taken > TOUCHED_BYTES_MAX:
                    return

    def touch_soon(self, start: int, end: int) -> None:
        """The same in a thread of its own, unless it is still busy."""
        if self._touching is None or self._touching.done():
            if self._toucher is None:
                self._toucher = ThreadPoolExecutor(1, "quorate-touch")
            self._touching = self._toucher.submit(self.touch, start, end)

    def close(self, *, waits: bool = True) -> None:
        """Close and remove the file, in a thread unless this ``waits``: a gigabyte takes 0.2 s. Harmless twice."""
        with self._alone():
            if self._closed:
                return
            self._closed = True
            self._end_read()
            self._env.close()
        if self._toucher is not None:
            self._toucher.shutdown()
        if waits:
            remove_table(self._path)
        else:
            threading.Thread(target=remove_table, args=(self._path,), name="quorate-remove").start()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            self._lock.wait_for(lambda: not self._is_moving)
            if self._closed:
                raise ValueError("the store was closed or replaced while its snapshot was being written")
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                self._lock.notify_all()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for those that read, each a megabyte or a few, and let nobody begin."""
        with self._lock:
            self._is_moving = True
            try:
                self._lock.wait_for(lambda: not self._readers)
                yield
            finally:
                self._is_moving = False
                self._lock.notify_all()

    def _end_read(self) -> None:
        if self._read is not None:
            self._read.abort()
            self._read = None

    def _make_room(self, deletes: int) -> None:
        """Take the space that the batch needs. Raises OSError, which says why there is none.

        LMDB says EIO of a disk that broke and of one that took a part of a write and had no room for the rest.
        """
        fd = os.open(self._path, os.O_WRONLY)
        try:
            os.posix_fallocate(fd, os.fstat(fd).st_size, self._batch_bytes_max(deletes))
        except OSError as error:
            raise OSError(error.errno, f"working storage: {error.strerror}", str(self._path)) from error
        finally:
            os.close(fd)

    def _batch_bytes_max(self, deletes: int) -> int:
        """What the batch takes at most, in pages: half of each may be empty, and a deletion copies one."""
        return 2 * sum(map(len, self.pending.values())) + PAGE_BYTES * (len(self.pending) + deletes) + SPARE_BYTES

    def _grow(self) -> None:
        with self._alone():
            try:
                self._env.set_mapsize(2 * self._env.info()["map_size"])
            except lmdb.Error as error:
                raise _os_error(error, self._path) from error


def remove_table(path: Path) -> None:
    """Remove a table's file and its lock file, if they are there."""
    for file in (path, lock_of(path)):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()


def _os_error(error: lmdb.Error, path: Path) -> OSError:
    code = errno.ENOSPC if isinstance(error, lmdb.DiskError) else vars(error).get("code", 0)  # that of the system
    return OSError(code if code and code > 0 else errno.EIO, f"working storage: {error}", str(path))
