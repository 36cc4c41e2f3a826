"""Read a journal back after a stop of any kind: process killed, power cut, disk damaged.

**Which segments count.** The newest segment that begins with a checkpoint, and all after it; what is older was about
to be deleted. A segment gets its name only when its header and its checkpoint are durable, so there is no
half-written one: a damaged header, or damage below the `sealed` offset, was not a crash. The segment after a checkpoint
is there before it, and says so: if the checkpoint is missing, it goes on from the segment before that.

**Torn or damaged?** A crash can tear only the last write, the one whose fdatasync had not returned; whatever was
reported durable must still be there. File systems may persist the blocks of one write in any order, so a torn
write can leave a hole with valid frames behind it. Every frame therefore carries the offset that was durable when
its write began. At the first invalid frame, at offset o, we search what follows for valid frames:

- one whose write began beyond o proves that o was durable once: the file is damaged, `JournalCorrupt`;
- none: frame o was part of the last write, which is cut off from there on.

A segment that is not the last was durable as a whole before its successor was made: any fault in it is damage.

What cannot be told apart: damage inside the very last write, say one flipped bit in a frame that was fsynced and
reported, leaves the same bytes as a write that was torn. It is cut, and logged. The loss of whole writes at the
end leaves no trace at all.

**After the cut** the last write is written once more and synced. The bytes do not change; but when the earlier
process ended in a failed fsync, the page cache may show, marked clean, what the disk never got (Rebello et al.,
"Can applications recover from fsync failures?", USENIX ATC 2020).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quorate.runtime.errors import JournalCorrupt, SegmentMissing
from quorate.runtime.files import Identity, fsync_directory, read_file, remove_asides, write_durably
from quorate.runtime.journal.segment import (
    HEADER_SIZE,
    SegmentFrame,
    SegmentHeader,
    decode_header,
    frame_at,
    segment_numbers,
    segment_path,
)

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Recovered:
    """What a journal held. tail: the header of its last segment, None for an empty folder.

    frames: from the last checkpoint on; last_sequence: of the last frame; end: the offset behind it in the last
    segment; cut_bytes: how much of a torn write was removed.
    """

    frames: list[bytes]
    last_sequence: int = 0
    tail: SegmentHeader | None = None
    end: int = 0
    cut_bytes: int = 0


def recover(directory: Path, identity: Identity) -> Recovered:
    """Read, cut and make durable what the folder holds; delete leftovers.

    Raises JournalCorrupt, SegmentMissing, DiskUnreadable, WrongIdentity, UnknownFormat, OSError.
    """
    remove_asides(directory)
    recovered = Recovered([])
    headers = scan(directory, identity, recovered, harden=True)
    if not headers:
        return recovered
    recovered.tail = headers[-1]
    # The name of the checkpoint must be durable before the segments it replaces go.
    fsync_directory(directory)
    remove_before(directory, headers[0].number)
    return recovered


def scan(directory: Path, identity: Identity, recovered: Recovered, *, harden: bool = False) -> list[SegmentHeader]:
    """Read what the folder holds into ``recovered``; the headers of the segments. It changes nothing but to ``harden``.

    Raises what ``recover`` does; ``recovered`` has then what stands before the damage.
    """
    headers = _live_segments(directory, identity)
    if headers:
        recovered.last_sequence = headers[0].first_sequence - 1
        before = headers[0].number - 1
    for header in headers:
        if header.number > before + 1:
            recovered.last_sequence += header.skipped
        last, path = header is headers[-1], segment_path(directory, header.number)
        data = read_file(path)
        last_write = read_segment(data, header, path, recovered, last=last)
        if last and harden:
            _harden(path, data, last_write, recovered.end)
        before = header.number
    return headers


def remove_before(directory: Path, number: int) -> None:
    """Delete the segments below a number, oldest first."""
    for old in segment_numbers(directory):
        if old < number:
            segment_path(directory, old).unlink()


def _live_segments(directory: Path, identity: Identity) -> list[SegmentHeader]:
    """The headers from the newest checkpoint on (or from segment 1), ascending."""
    numbers = segment_numbers(directory)
    live: list[SegmentHeader] = []
    for number in range(numbers[-1], 0, -1) if numbers else ():
        path = segment_path(directory, number)
        if not path.exists():
            if live and live[-1].skipped and segment_path(directory, number - 1).exists():
                continue  # a checkpoint that was not done
            raise SegmentMissing(path, 0, "this segment is missing, and no later one begins with a checkpoint")
        header = decode_header(read_file(path, HEADER_SIZE), path, identity)
        if header.number != number:
            raise JournalCorrupt(path, 0, f"the header says segment {header.number}: the file was renamed")
        live.append(header)
        if header.checkpoint:
            break
    return live[::-1]


def read_segment(data: bytes, header: SegmentHeader, path: Path, recovered: Recovered, *, last: bool) -> int:
    """Append the frames in a segment's bytes to `recovered`; returns where its last write begins.

    Pure: the path is for the text of errors. The last segment may have a torn end, which is counted as cut. Raises
    JournalCorrupt.
    """
    if header.first_sequence != recovered.last_sequence + 1:
        raise JournalCorrupt(
            path, 0, f"it begins with frame {header.first_sequence}; frame {recovered.last_sequence + 1} comes next"
        )
    end = last_write = HEADER_SIZE
    sealed_frames = 0
    for frame in _frames(memoryview(data), header, path):
        recovered.frames.append(data[frame.start : frame.end])
        recovered.last_sequence = frame.sequence
        end = frame.end
        sealed_frames += end <= header.sealed
        last_write = max(header.sealed, frame.synced)
    if end < header.sealed or sealed_frames != header.checkpoint_frames:
        raise JournalCorrupt(path, end, f"the checkpoint is damaged (frame {recovered.last_sequence + 1})")
    if end < len(data):
        _refuse_damage(data, end, header, path, last=last)
    if last:
        recovered.end = end
        recovered.cut_bytes = len(data) - end
    return last_write


def _frames(data: memoryview, header: SegmentHeader, path: Path) -> Iterator[SegmentFrame]:
    """The unbroken run of valid frames from the segment's start."""
    offset, expected = HEADER_SIZE, header.first_sequence
    while (frame := frame_at(data, offset, header.salt)) is not None:
        if frame.sequence != expected:
            raise JournalCorrupt(path, offset, f"frame {frame.sequence} is where frame {expected} belongs")
        yield frame
        offset, expected = frame.end, expected + 1


def _refuse_damage(data: bytes, offset: int, header: SegmentHeader, path: Path, *, last: bool) -> None:
    """Raise JournalCorrupt unless the invalid bytes at `offset` can be the rest of a torn write."""
    if not last:
        raise JournalCorrupt(path, offset, "a frame is damaged, and later segments exist")
    view, position = memoryview(data), offset
    while (position := data.find(header.salt, position + 1)) >= 0:
        frame = frame_at(view, position, header.salt)
        if frame is not None and frame.synced > offset:
            raise JournalCorrupt(
                path, offset, f"a frame is damaged that was durable before frame {frame.sequence} (offset {position})"
            )


def _harden(path: Path, data: bytes, start: int, end: int) -> None:
    """Cut the file at `end`, and write [start:end) again so that it is durable for certain."""
    fd = os.open(path, os.O_RDWR)
    try:
        if end < len(data):
            logger.warning("%s: cut %d bytes of an unfinished write at offset %d", path, len(data) - end, end)
            os.ftruncate(fd, end)
            os.fsync(fd)
        write_durably(fd, [memoryview(data)[start:end]], start)
    finally:
        os.close(fd)
