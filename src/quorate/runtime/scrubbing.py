"""Scrubbing: files that are read after a crash alone are read now and then all the same, so that damage is found early.

A disk can spoil what nobody reads for months: then a node finds it when it starts, perhaps on the day on which another
one is lost. So a thread reads the journal and the snapshots, slowly and past the page cache, and compares checksums. It
says what it found, and changes nothing: while its node runs, all that is in the journal is in memory as well, and a
checkpoint replaces the damaged file (``node.py``). A snapshot is replaced by the next one that is taken.

Of the segment that is being written, what was durable when the round began is read. Files that go meanwhile were
replaced.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from quorate.runtime.errors import DiskUnreadable, JournalCorrupt, SnapshotCorrupt, SnapshotMissing, StorageError
from quorate.runtime.files import Identity, drop_cached
from quorate.runtime.journal.segment import HEADER_SIZE, decode_header, read_frame, segment_numbers, segment_path
from quorate.runtime.snapshots import HEADER_SIZE as SNAPSHOT_HEADER_SIZE
from quorate.runtime.snapshots import SnapshotStore, info_of

log = logging.getLogger("quorate.scrubbing")

FIRST_S: Final = 600.0
"""A node that has just started has other things to do; and what it started with it has read."""
EVERY_S: Final = 6 * 3600.0
"""Between the end of a round and the next."""
PIECE_BYTES: Final = 256 << 10
PAUSE_S: Final = 0.05
"""After each piece: 5 MB/s at most, so that the disk is for the node."""


class DurableEnd(NamedTuple):
    """How far a journal is durable: the number of its last segment, and an offset in it."""

    number: int
    offset: int


class Stopped(Exception):
    """The node stops."""


class Scrubber:
    """Of one node. ``end`` says how far the journal is durable; ``on_damage`` is called from the thread."""

    def __init__(
        self, data: Path, identity: Identity, end: Callable[[], DurableEnd], on_damage: Callable[[StorageError], object]
    ) -> None:
        self.rounds = 0
        """So many were done."""
        self._journal = data / "journal"
        self._snapshots = data / "snapshots"
        self._identity = identity
        self._end = end
        self._on_damage = on_damage
        self._stops = threading.Event()
        self._read_bytes = 0

    def start(self) -> None:
        """In a thread of its own, which nobody waits for: a disk may hang."""
        threading.Thread(target=self._run, name="quorate-scrubbing", daemon=True).start()

    def stop(self) -> None:
        """Soon."""
        self._stops.set()

    def _run(self) -> None:
        wait_s = FIRST_S
        while not self._stops.wait(wait_s):
            wait_s = EVERY_S
            try:
                self.round()
            except Stopped:
                return
            except OSError as error:  # no descriptor is left, say
                log.warning("the files of this node could not be read through: %s", error)

    def round(self) -> None:
        """Read all once. Raises Stopped, OSError."""
        end = self._end()
        for number in segment_numbers(self._journal):
            if number <= end.number:
                self._look(lambda number=number: self._check_segment(number, end))  # type: ignore[misc]
        folders = [self._snapshots, *sorted(path for path in self._snapshots.rglob("*") if path.is_dir())]
        for folder in folders:
            for path in sorted(folder.glob("snapshot-*.snap")) if folder.is_dir() else ():
                self._look(lambda path=path: self._check_snapshot(path))  # type: ignore[misc]
        self.rounds += 1

    def _look(self, check: Callable[[], None]) -> None:
        try:
            with suppress(FileNotFoundError, SnapshotMissing):
                check()
        except (JournalCorrupt, DiskUnreadable, SnapshotCorrupt) as error:
            self._on_damage(error)

    def _pause(self, size_bytes: int) -> None:
        self._read_bytes += size_bytes
        if self._read_bytes >= PIECE_BYTES:
            self._read_bytes = 0
            if self._stops.wait(PAUSE_S):
                raise Stopped

    def _check_segment(self, number: int, end: DurableEnd) -> None:
        """Frame by frame, to the end of what must be there."""
        path = segment_path(self._journal, number)
        fd = os.open(path, os.O_RDONLY)
        try:
            drop_cached(fd)
            must = end.offset if number == end.number else os.fstat(fd).st_size
            header = decode_header(_pread(fd, HEADER_SIZE, 0, path), path, self._identity)
            offset = HEADER_SIZE
            while offset < must:
                frame = read_frame(lambda size, at: _pread(fd, size, at, path), offset, header.salt)
                if frame is None:
                    raise JournalCorrupt(path, offset, "a frame has changed since it was written")
                self._pause(frame.end - offset)
                offset = frame.end
            drop_cached(fd)
        finally:
            os.close(fd)

    def _check_snapshot(self, path: Path) -> None:
        info = info_of(path)
        if info is None:
            return
        wanted = SnapshotStore.view(path.parent, self._identity).look(info.index).digest
        digest, offset = hashlib.sha256(), SNAPSHOT_HEADER_SIZE
        fd = os.open(path, os.O_RDONLY)
        try:
            drop_cached(fd)
            while data := _pread(fd, PIECE_BYTES, offset, path):
                digest.update(data)
                offset += len(data)
                self._pause(len(data))
            drop_cached(fd)
        finally:
            os.close(fd)
        if digest.digest() != wanted:
            raise SnapshotCorrupt(f"{path}: the digest of the payload is wrong")


def _pread(fd: int, size: int, offset: int, path: Path) -> bytes:
    try:
        return os.pread(fd, size, offset)
    except OSError as error:
        raise DiskUnreadable(path, offset, error) from error
