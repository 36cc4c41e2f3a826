"""Reads of a file that is never changed, each checked against sums that were made when the whole file was verified.

A digest of the whole file says once that it is what was written. A disk can change it later, and a peer reads it piece
by piece; so each block's CRC-32 is kept in memory, 4 bytes for 64 KiB, and no piece leaves that does not agree with it.
"""

from __future__ import annotations

import os
import zlib
from array import array
from pathlib import Path
from typing import Final

from quorate.runtime.errors import DiskUnreadable, SnapshotCorrupt

BLOCK_BYTES: Final = 64 << 10


class VerifiedFile:
    """The sums of one file, made at once: verify the whole file right before or after."""

    def __init__(self, fd: int, path: Path) -> None:
        """Reads all of it. Raises DiskUnreadable."""
        self._path = path
        self._sums = array("I")
        self.identity = identity_of(fd)
        offset = 0
        while block := _pread(fd, BLOCK_BYTES, offset, path):
            self._sums.append(zlib.crc32(block))
            offset += len(block)
        self.size_bytes = offset

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes from an offset. Raises SnapshotCorrupt, which names the block; DiskUnreadable."""
        end = min(offset + size, self.size_bytes)
        parts: list[bytes] = []
        for number in range(offset // BLOCK_BYTES, -(-end // BLOCK_BYTES)):
            begin = number * BLOCK_BYTES
            block = _pread(fd, BLOCK_BYTES, begin, self._path)
            if zlib.crc32(block) != self._sums[number]:
                raise SnapshotCorrupt(f"{self._path}: offset {begin}: bytes have changed since they were verified")
            parts.append(block[max(0, offset - begin) : end - begin])
        return b"".join(parts)


def identity_of(fd: int) -> tuple[int, int, int]:
    """What changes when a file is written or replaced, and not when its disk spoils it."""
    status = os.fstat(fd)
    return status.st_ino, status.st_mtime_ns, status.st_size


def _pread(fd: int, size: int, offset: int, path: Path) -> bytes:
    """All that is asked for, unless the file ends before."""
    parts: list[bytes] = []
    try:
        while size and (part := os.pread(fd, size, offset)):
            parts.append(part)
            size -= len(part)
            offset += len(part)
    except OSError as error:
        raise DiskUnreadable(path, offset, error) from error
    return b"".join(parts)
