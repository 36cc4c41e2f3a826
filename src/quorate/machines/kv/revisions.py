"""The records on disk: one LMDB table from stamp to encoded `KeyValue` and checksum, appended at its right edge.

A batch's records are held in memory until `flush` writes them in one LMDB transaction, so a full disk loses nothing:
the error is raised and the batch waits.

Commits are not synced: durability is the journal's business. A table is *working storage*, removed at the next start,
unless it is *kept*: then a start finds it as it was at a *pin* (ADR 0042). LMDB never changes a page that a reader can
see, so a reader that begins right after a flush keeps that state's pages where they are. The file's roots as they were
then lead to these pages and to nothing that was written later. So once the pages are synced, and as long as the reader
is there, the roots that are written back lead to that state, whatever else a crash left of the file. A map that is made
larger forgets its readers; so it has room for all that will ever come, which is address space alone.

Threads: one writes. Others may use `read_chunk`, `touch` and `sync`; the map stays in place while they read.
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
from typing import Any, Final

import lmdb

from quorate.kernel import AppEnded, StateDamaged
from quorate.machines.kv.index import STAMP_BYTES
from quorate.machines.kv.table_reader import SUM_BYTES, TableDamaged, sum_of

FOLDER_MODE = 0o700
FILE_MODE = 0o600
TOUCHED_BYTES_MAX = 4 << 20
"""Of one `touch`, and a record more."""
PAGE_BYTES = mmap.PAGESIZE
SPARE_BYTES = 1 << 20
"""Inner pages of the tree, and LMDB's list of free ones."""
MAP_BYTES = 1 << 40
"""Address space, not memory: pages and disk blocks are taken as they are written. Less where there is not as much."""
MAP_BYTES_MIN = 1 << 30

SYNC_BYTES: Final = 16 << 20
"""After so much was written a kept table is synced aside, so that a mark finds little left to write."""
ROOT_PAGES: Final = 2
WORKING: Final = "kv-"
KEPT: Final = "store-"
SUFFIX: Final = ".lmdb"


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


class Pin:
    """Keeps the pages of a table as it was after a flush. ``roots`` lead to them."""

    def __init__(self, roots: bytes, reader: lmdb.Transaction) -> None:
        self.roots = roots
        self._reader = reader

    def close(self) -> None:
        """Let the pages be used again. Harmless twice."""
        self._reader.abort()


class Revisions:
    """The table of records, and the batch on its way to it."""

    def __init__(self, path: Path, map_bytes: int = MAP_BYTES, *, is_kept: bool = False) -> None:
        """Create the table in a new file; or have one that ``is_kept``, whose roots were put back.

        Raises FileExistsError if there is one, FileNotFoundError if not, TableDamaged, OSError.
        """
        for file in (lock_of(path),) if is_kept else (path, lock_of(path)):
            _create(file)
        self.path = path
        self.is_kept = is_kept
        self.pending: dict[bytes, bytes] = {}
        self._doomed: deque[int] = deque()
        self._lock_path = lock_of(path)
        self._lock = threading.Condition()
        self._readers = 0  # other threads that read
        self._is_closing = False
        self._aside: ThreadPoolExecutor | None = None
        self._touching: Future[None] | None = None
        self._syncing: Future[None] | None = None
        self._unsynced_bytes = 0
        self._sync_failed: str | None = None
        self._has_new_name = False
        self._read: Any = None
        self._closed = False
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._env = _opened(path, map_bytes)
        except lmdb.Error as error:
            os.close(self._fd)
            if is_kept:
                self._lock_path.unlink(missing_ok=True)
                raise TableDamaged(f"{path}: LMDB does not take it: {error}") from error
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
            raise OSError(errno.EIO, f"record {stamp:#x} is missing from the working storage", str(self.path))
        return found[:-SUM_BYTES]

    def doom(self, stamps: list[int]) -> None:
        """Have records deleted by later flushes, in this order."""
        self._doomed.extend(stamps)

    @property
    def doomed(self) -> int:
        """How many records still wait for their deletion."""
        return len(self._doomed)

    @property
    def doomed_stamps(self) -> list[int]:
        """Which, in their order."""
        return list(self._doomed)

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
                    summed = ((key, record + sum_of(key, record)) for key, record in self.pending.items())
                    txn.cursor().putmulti(summed, append=True)
                    for stamp in doomed:
                        txn.delete(to_key(stamp))
                break
            except lmdb.Error as error:
                found = _os_error(error, self.path)
                if found.errno != errno.EIO or has_room:
                    raise found from error
                self._make_room(len(doomed))
                has_room = True
        if self.is_kept:
            self._sync_soon(sum(map(len, self.pending.values())) + len(doomed) * PAGE_BYTES)
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
            yield key, record[:-SUM_BYTES]

    def read_chunk(self, after: bytes, end: bytes, size_bytes: int) -> list[tuple[bytes, bytes]]:
        """The written records with after < key < end, at least one and about `size_bytes` of them. Any thread.

        Raises StateDamaged for one that is not what was written: nobody else is to get it.
        """
        chunk: list[tuple[bytes, bytes]] = []
        taken = 0
        with self._reading(), self._env.begin() as txn:
            cursor = txn.cursor()
            if not cursor.set_range(after + b"\0"):
                return chunk
            for key, summed in cursor:
                if key >= end:
                    break
                record = summed[:-SUM_BYTES]
                if sum_of(key, record) != summed[-SUM_BYTES:]:
                    raise StateDamaged(f"{self.path}: record {key.hex()} is damaged: a checksum doesn't match")
                chunk.append((key, record))
                taken += len(record)
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
            self._touching = self._threads().submit(self.touch, start, end)

    # A table that is kept.

    def pin(self) -> Pin:
        """Keep the pages as the last flush left them; nothing may be pending. Raises OSError."""
        assert not self.pending, "what is pending is part of no state yet"
        size_bytes = ROOT_PAGES * self._env.stat()["psize"]
        roots = os.pread(self._fd, size_bytes, 0)
        reader = self._env.begin()
        if len(roots) != size_bytes:
            raise OSError(errno.EIO, "its first pages cannot be read", str(self.path))
        return Pin(roots, reader)

    def keep(self, path: Path) -> None:
        """Give the file a name under which a start looks for it. Raises OSError."""
        self.path.rename(path)
        self.path, self.is_kept, self._has_new_name = path, True, True

    def sync(self) -> None:
        """Have all pages that were written before on the disk, and the file's name.

        Any thread. Raises AppEnded, ValueError once closed.

        After a failed sync the kernel may have marked the lost pages clean, and the next one reports success (Rebello
        et al., USENIX ATC 2020). So the first failure is the last word.
        """
        with self._lock:
            if self._closed:
                raise ValueError("the store was closed or replaced")
            fd = os.dup(self._fd)  # of its own: a disk may hang, and nobody is to wait here to close the file
            has_new_name = self._has_new_name
        try:
            if self._sync_failed is None:
                os.fdatasync(fd)
                if has_new_name:
                    for folder in self.path.parents[:2]:  # the store's own is as new as its first table
                        _sync_folder(folder)
                    self._has_new_name = False
        except OSError as error:
            self._sync_failed = f"{self.path}: the disk failed to sync: {error.strerror}"
        finally:
            os.close(fd)
        if self._sync_failed is not None:
            raise AppEnded(self._sync_failed)

    def _sync_soon(self, size_bytes: int) -> None:
        self._unsynced_bytes += size_bytes
        if self._unsynced_bytes >= SYNC_BYTES and (self._syncing is None or self._syncing.done()):
            self._unsynced_bytes = 0
            self._syncing = self._threads().submit(self.sync)  # the next mark raises what this one did

    def _threads(self) -> ThreadPoolExecutor:
        if self._aside is None:
            self._aside = ThreadPoolExecutor(2, "quorate-table")
        return self._aside

    def close(self, *, waits: bool = True, keeps: bool = False) -> None:
        """Close the file, and remove it unless this ``keeps`` one that is kept. Harmless twice.

        In a thread unless this ``waits``: a gigabyte takes 0.2 s.
        """
        with self._alone():
            if self._closed:
                return
            self._closed = True
            self._end_read()
            self._env.close()
            os.close(self._fd)
        if self._aside is not None:
            self._aside.shutdown()
        if keeps and self.is_kept:
            self._lock_path.unlink(missing_ok=True)
        elif waits:
            remove_table(self.path, self._lock_path)
        else:
            removes = threading.Thread(target=remove_table, args=(self.path, self._lock_path), name="quorate-remove")
            removes.start()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            self._lock.wait_for(lambda: not self._is_closing)
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
            self._is_closing = True
            try:
                self._lock.wait_for(lambda: not self._readers)
                yield
            finally:
                self._is_closing = False
                self._lock.notify_all()

    def _end_read(self) -> None:
        if self._read is not None:
            self._read.abort()
            self._read = None

    def _make_room(self, deletes: int) -> None:
        """Take the space that the batch needs. Raises OSError, which says why there is none.

        LMDB says EIO of a disk that broke and of one that took a part of a write and had no room for the rest.
        """
        fd = os.open(self.path, os.O_WRONLY)
        try:
            os.posix_fallocate(fd, os.fstat(fd).st_size, self._batch_bytes_max(deletes))
        except OSError as error:
            raise OSError(error.errno, f"working storage: {error.strerror}", str(self.path)) from error
        finally:
            os.close(fd)

    def _batch_bytes_max(self, deletes: int) -> int:
        """What the batch takes at most, in pages: half of each may be empty, and a deletion copies one."""
        return 2 * sum(map(len, self.pending.values())) + PAGE_BYTES * (len(self.pending) + deletes) + SPARE_BYTES


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_table(path: Path, lock_path: Path) -> None:
    """Remove a table's file and its lock file, if they are there."""
    for file in (path, lock_path):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()


def put_back(path: Path, roots: bytes) -> None:
    """Cut off what a table got since a pin: its roots are again those of then. Raises OSError, TableDamaged."""
    lock_of(path).unlink(missing_ok=True)  # of readers that are no more
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.pwrite(fd, roots, 0) != len(roots):
            raise TableDamaged(f"{path}: its first pages cannot be written")
        os.fdatasync(fd)
    finally:
        os.close(fd)


def _opened(path: Path, map_bytes: int) -> lmdb.Environment:
    while True:
        try:
            return lmdb.open(
                str(path),
                map_size=map_bytes,
                subdir=False,
                sync=False,
                metasync=False,
                meminit=False,
                readahead=False,  # where the table is larger than memory, a page that is needed costs 32 others
                max_readers=16,
            )
        except lmdb.MemoryError:
            if map_bytes <= MAP_BYTES_MIN:
                raise
            map_bytes //= 2


def _os_error(error: lmdb.Error, path: Path) -> OSError:
    is_full = isinstance(error, lmdb.DiskError | lmdb.MapFullError)
    code = errno.ENOSPC if is_full else vars(error).get("code", 0)  # that of the system
    return OSError(code if code and code > 0 else errno.EIO, f"working storage: {error}", str(path))
