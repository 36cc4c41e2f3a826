"""The end of a journal: the open segment, and how it grows and is followed by the next.

Every method blocks on the disk and runs in the journal's writer thread. A method either returns with everything
durable or raises OSError with the journal's end where it was.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from quorate.runtime.files import ASIDE, Identity, create, drop_cached, publish, write_all, write_durably
from quorate.runtime.forks import let_go, not_for_forks
from quorate.runtime.journal.checkpoint import Place
from quorate.runtime.journal.recovery import Recovered, remove_before
from quorate.runtime.journal.segment import (
    HEADER_SIZE,
    SegmentHeader,
    encode_frames,
    encode_header,
    new_salt,
    segment_path,
)

logger = logging.getLogger(__name__)


class SegmentWriter:
    """Appends to the last segment of one folder. sequence: of the last durable frame.

    doing: what the disk was asked for last, as a format and its values, since it is rarely read.
    """

    def __init__(self, directory: Path, identity: Identity, segment_size_bytes: int, recovered: Recovered) -> None:
        self.doing: tuple[object, ...] = ("nothing",)
        self._directory = directory
        self.identity = identity
        self._segment_size_bytes = segment_size_bytes
        self._fd = -1
        self._salt = b""
        self.number = 0
        self.end = 0
        self.sequence = recovered.last_sequence
        if recovered.tail is None:
            self._begin_segment(self.sequence + 1)
        else:
            self.number = recovered.tail.number
            self.end = recovered.end
            self._salt = recovered.tail.salt
            self._fd = os.open(self.path, os.O_RDWR)
            not_for_forks(self._fd)

    @property
    def path(self) -> Path:
        return segment_path(self._directory, self.number)

    def append(self, frames: Sequence[bytes]) -> None:
        """Write the frames as one write, in a new segment if this one has its size."""
        if self.end >= self._segment_size_bytes:
            self._begin_segment(self.sequence + 1)
        buffers, end = encode_frames(frames, self.end, self.sequence + 1, self._salt)
        self.doing = ("a write of %d bytes at offset %d of segment %d", end - self.end, self.end, self.number)
        write_durably(self._fd, buffers, self.end)
        self.end = end
        self.sequence += len(frames)

    def make_way(self, frames: int) -> Place:
        """Go on in a segment that follows one for a checkpoint of so many frames; where that goes.

        It takes one sequence number for itself and one for each frame.
        """
        place = Place(self.number + 1, self.sequence + 2)
        self._begin_segment(self.sequence + 2 + frames, number=self.number + 2, skipped=1 + frames)
        self.sequence += 1 + frames
        return place

    def remove_before(self, number: int) -> None:
        """Delete the segments that a checkpoint has replaced."""
        self.doing = ("the removal of the segments before %d", number)
        try:
            remove_before(self._directory, number)
        except OSError as error:
            # The checkpoint stands. Recovery ignores older segments, and the next checkpoint tries again.
            logger.warning("%s: older segments could not be deleted: %s", self._directory, error)

    def cut(self) -> None:
        """Remove what a failed write left behind the last durable frame."""
        self.doing = ("a cut of segment %d at offset %d", self.number, self.end)
        os.ftruncate(self._fd, self.end)

    def close(self) -> None:
        if self._fd >= 0:
            let_go(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _begin_segment(self, first_sequence: int, *, number: int | None = None, skipped: int = 0) -> None:
        """Create the next segment aside, make it durable, give it its name, and go on there."""
        salt, number = new_salt(), self.number + 1 if number is None else number
        header = SegmentHeader(
            self.identity, number, first_sequence, False, 0, salt, sealed=HEADER_SIZE, skipped=skipped
        )
        path = segment_path(self._directory, number)
        aside = path.with_name(path.name + ASIDE)
        self.doing = ("the start of segment %d", number)
        fd = create(aside)
        try:
            write_all(fd, [encode_header(header)], 0)
            os.fsync(fd)
            publish(aside, path)
        except OSError:
            os.close(fd)
            with suppress(OSError):
                aside.unlink()
            raise
        if self._fd >= 0:
            drop_cached(self._fd)
        self.close()
        not_for_forks(fd)
        self._fd, self._salt = fd, salt
        self.end, self.number = HEADER_SIZE, number  # in this order: who reads both finds no end of another segment
