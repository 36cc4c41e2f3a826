"""The format of a journal segment: a header, then frames without gaps. Integers are little-endian.

Header, 256 bytes:

    offset  size
         0     8  magic "QUORJRNL"
         8     2  format version, 1
        10     2  flags: 1 = begins with a checkpoint; 2 = follows a checkpoint, which may not be there yet
        12     2  length of the cluster's name in bytes
        14     2  zero
        16     8  node
        24     8  number of this segment (also its file name)
        32     8  sequence number of the first frame
        40     4  frames in the checkpoint; with flag 2, the sequence numbers which that checkpoint takes
        44     4  salt: random, no byte zero; each frame of this file begins with it
        48     8  sealed: everything below this offset was fsynced before the file got its name
        56   196  cluster, UTF-8, padded with zeros
       252     4  CRC-32 of the 252 bytes before

SegmentFrame, 24 bytes and the payload:

         0     4  salt
         4     4  CRC-32 of the 16 bytes that follow and the payload, started from the frame's offset
         8     4  length of the payload
        12     4  lag: how far this frame lies behind the offset that was durable when its write began
        16     8  sequence number

Salt, offset and sequence number bind a frame to its place: a stale block (of a deleted segment whose blocks the file
system used again, of an earlier frame at another offset, or of a payload that looks like a journal) is never
taken for a frame.
The lag tells a torn write from damage: see `recovery`.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from quorate.runtime.errors import JournalCorrupt, UnknownFormat, WrongIdentity
from quorate.runtime.files import Buffer, Identity

MAGIC = b"QUORJRNL"
VERSION = 1
HEADER_SIZE = 256
FRAME_HEADER_SIZE = 24
FRAME_SIZE_BYTES_MAX = 64 << 20  # of a payload

_CHECKPOINT = 1
_AFTER_CHECKPOINT = 2
_HEADER = struct.Struct("<8sHHHHQQQI4sQ196s")
_CRC = struct.Struct("<I")
_FRAME_START = struct.Struct("<4sI")
_FRAME_BOUND = struct.Struct("<IIQ")
_FRAME = struct.Struct("<4sIIIQ")
_NAME = re.compile(r"(\d{8,})\.journal")


class SegmentHeader(NamedTuple):
    """The decoded header of one segment.

    skipped: the sequence numbers of the checkpoint in the segment before; where that is not there, since the checkpoint
    was not done, this segment goes on from the one before it. 0: this segment follows no checkpoint that was under way.
    """

    identity: Identity
    number: int
    first_sequence: int
    checkpoint: bool
    checkpoint_frames: int
    salt: bytes
    sealed: int
    skipped: int = 0


class SegmentFrame(NamedTuple):
    """Where a valid frame lies: its payload is [start:end) of the file; below `synced` all was durable before it."""

    sequence: int
    synced: int
    start: int
    end: int


def segment_path(directory: Path, number: int) -> Path:
    """Where the segment of this number lies."""
    return directory / f"{number:08d}.journal"


def segment_numbers(directory: Path) -> list[int]:
    """The numbers of the segments in a folder, ascending."""
    names = (_NAME.fullmatch(path.name) for path in directory.iterdir())
    return sorted(int(name[1]) for name in names if name)


def new_salt() -> bytes:
    """Four random bytes that mark a segment's frames as its own."""
    # No zero byte: a search for the salt then runs fast through zeroed blocks.
    return bytes(1 + byte % 255 for byte in os.urandom(4))


def encode_header(header: SegmentHeader) -> bytes:
    """The HEADER_SIZE bytes at the start of a segment, with their checksum."""
    cluster = header.identity.cluster.encode()
    flags = _CHECKPOINT if header.checkpoint else _AFTER_CHECKPOINT if header.skipped else 0
    body = _HEADER.pack(
        *(MAGIC, VERSION, flags, len(cluster), 0, header.identity.node, header.number, header.first_sequence),
        *(header.checkpoint_frames or header.skipped, header.salt, header.sealed, cluster),
    )
    return body + _CRC.pack(zlib.crc32(body))


def decode_header(data: bytes, path: Path, identity: Identity) -> SegmentHeader:
    """Read a segment's header. Raises JournalCorrupt, UnknownFormat, WrongIdentity."""
    if data[:8] != MAGIC or len(data) < HEADER_SIZE:
        raise JournalCorrupt(path, 0, "this is not a journal segment, or its header is damaged")
    if is_damaged_version(data, VERSION, _HEADER.size):
        raise JournalCorrupt(path, 8, "the format version in the segment's header is damaged")
    version = int.from_bytes(data[8:10], "little")
    if version != VERSION:
        raise UnknownFormat(
            f"{path}: journal format version {version}; this release reads version {VERSION}. Start the release "
            "that wrote it (if none newer ever ran here, the header is damaged)"
        )
    body = data[: _HEADER.size]
    if _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(body):
        raise JournalCorrupt(path, 0, "the checksum of the segment's header is wrong")
    _, _, flags, length, _, node, number, first, count, salt, sealed, cluster = _HEADER.unpack(body)
    name = cluster[:length].decode(errors="replace")
    if (name, node) != (identity.cluster, identity.node):
        raise WrongIdentity(
            f"{path} belongs to node {node} of cluster {name!r}; this is node {identity.node} of cluster "
            f"{identity.cluster!r}. Give each node its own data folder"
        )
    skipped = count if flags & _AFTER_CHECKPOINT else 0
    return SegmentHeader(identity, number, first, bool(flags & _CHECKPOINT), count - skipped, salt, sealed, skipped)


def is_damaged_version(data: bytes, version: int, size: int) -> bool:
    """Whether a header of ``size`` bytes, with its CRC-32 behind, is right but for the version, at offset 8.

    Then no other release wrote it.
    """
    body = data[:8] + version.to_bytes(2, "little") + data[10:size]
    return body != data[:size] and _CRC.unpack_from(data, size)[0] == zlib.crc32(body)


def check_frame(frame: bytes) -> None:
    """Raises TypeError, ValueError for what cannot be a frame."""
    if not isinstance(frame, bytes):
        raise TypeError(f"a frame is bytes, which nobody can change while it waits: {type(frame).__name__}")
    if len(frame) > FRAME_SIZE_BYTES_MAX:
        raise ValueError(f"a frame of {len(frame)} bytes; the limit is {FRAME_SIZE_BYTES_MAX}")


def encode_frames(
    frames: Iterable[bytes], offset: int, sequence: int, salt: bytes, *, sealed: bool = False
) -> tuple[list[Buffer], int]:
    """The buffers of one write at `offset` (payloads are not copied), and the offset behind it.

    sealed: the frames of a checkpoint, which need no lag (0).
    """
    begin = offset
    buffers: list[Buffer] = []
    for payload in frames:
        lag = 0 if sealed else offset - begin
        bound = _FRAME_BOUND.pack(len(payload), lag, sequence)
        crc = zlib.crc32(payload, zlib.crc32(bound, offset & 0xFFFFFFFF))
        buffers += (_FRAME_START.pack(salt, crc) + bound, payload)
        offset += FRAME_HEADER_SIZE + len(payload)
        sequence += 1
    return buffers, offset


def frame_at(data: memoryview, offset: int, salt: bytes) -> SegmentFrame | None:
    """The frame at an offset of a segment's bytes, or None if no valid one is there."""
    return read_frame(lambda size, at: data[at : at + size], offset, salt)


def read_frame(read: Callable[[int, int], bytes | memoryview], offset: int, salt: bytes) -> SegmentFrame | None:
    """The frame at an offset, or None. ``read(size, offset)`` gives less where the file ends."""
    start = offset + FRAME_HEADER_SIZE
    head = read(FRAME_HEADER_SIZE, offset)
    if len(head) < FRAME_HEADER_SIZE:
        return None
    found, crc, length, lag, sequence = _FRAME.unpack(head)
    if found != salt or length > FRAME_SIZE_BYTES_MAX:
        return None
    payload = read(length, start)
    if len(payload) < length or zlib.crc32(payload, zlib.crc32(head[8:], offset & 0xFFFFFFFF)) != crc:
        return None
    return SegmentFrame(sequence, offset - lag, start, start + length)
