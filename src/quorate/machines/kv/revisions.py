"""The records on disk: one LMDB table from stamp to encoded `KeyValue`, appended at its right edge.

A batch's records are held in memory until `flush` writes them in one LMDB transaction, so a map that turns out too
small, or a full disk, loses nothing: the map grows and the batch is written again, or the error is raised and the
batch waits.

The file is *working storage*, opened with sync off: durability is the journal's business. After a crash the state
comes from the last snapshot and the log, and a new file is created; an old one is never opened.

Threads: one writes. Another may use `read_chunk`; the lock keeps the map in place under it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb

from quorate.machines.kv.index import STAMP_BYTES

FOLDER_MODE = 0o700
FILE_MODE = 0o600
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
        self._lock = threading.Lock()
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
                readahead=True,  # a value of a megabyte is 350 pages: one by one they take as long as a slow disk likes
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
                raise _os_error(error, self._path) from error
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
        with self._lock:
            if self._closed:
                raise ValueError("the store was closed or replaced while its snapshot was being written")
            with self._env.begin() as txn:
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

    def close(self) -> None:
        """Close and remove the file. Harmless twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._end_read()
            self._env.close()
        remove_table(self._path)

    def _end_read(self) -> None:
        if self._read is not None:
            self._read.abort()
            self._read = None

    def _grow(self) -> None:
        with self._lock:
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
