"""A checkpoint on its way: a segment that replaces all before it, written aside a piece at a time.

Frames that are appended meanwhile go to the segment after it, which begins when the checkpoint does. So nobody waits
for a checkpoint, however large it is. Until it has its name, the older segments count, and that one after them.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from quorate.runtime.files import ASIDE, Buffer, Identity, create, drop_cached, publish, write_all, write_durably
from quorate.runtime.journal.segment import (
    HEADER_SIZE,
    SegmentHeader,
    check_frame,
    encode_frames,
    encode_header,
    new_salt,
    segment_path,
)

logger = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
"""What is encoded and synced at once. Frames that come meanwhile wait so long."""
ENCODED_AT_ONCE_BYTES = 256 << 10
"""Of a piece, between two chances for the event loop."""


class Place(NamedTuple):
    """Where a checkpoint goes: the number of its segment, and of its first frame."""

    number: int
    first_sequence: int


class CheckpointWriter:
    """Writes one. ``encode`` makes a frame of each item (None: they are frames); nobody may change the items.

    size_bytes: of the frames so far.
    """

    def __init__(
        self,
        directory: Path,
        identity: Identity,
        place: Place,
        items: Sequence[Any],
        encode: Callable[[Any], bytes] | None,
    ) -> None:
        self.number = place.number
        self.path = segment_path(directory, place.number)
        self.size_bytes = 0
        self._aside = self.path.with_name(self.path.name + ASIDE)
        self._identity = identity
        self._place = place
        self._items = items
        self._encode = encode
        self._salt = new_salt()
        self._fd = -1

    def pieces(self) -> Generator[int]:
        """Write it; gives the offset reached after each piece. The segment has its name when there are no more.

        Raises OSError, what ``encode`` raises, ValueError for a frame that is too large. Nothing is left behind then,
        nor if the caller stops before the end and closes the iterator.
        """
        self._fd = create(self._aside)
        try:
            offset = HEADER_SIZE
            frames: list[bytes] = []
            size = 0
            first = self._place.first_sequence
            for frame in self._frames():
                frames.append(frame)
                size += len(frame)
                if size >= PIECE_BYTES:
                    buffers, end = encode_frames(frames, offset, first, self._salt, sealed=True)
                    write_durably(self._fd, buffers, offset)
                    first += len(frames)
                    offset, frames, size = end, [], 0
                    yield offset
            buffers, end = encode_frames(frames, offset, first, self._salt, sealed=True)
            self._finish(buffers, offset, end)
            os.close(self._fd)
        except BaseException:
            os.close(self._fd)
            with suppress(OSError):
                self._aside.unlink()
            raise

    def _frames(self) -> Iterator[bytes]:
        """The event loop has its chance in between."""
        encoded = 0
        for item in self._items:
            frame = item if self._encode is None else self._encode(item)
            check_frame(frame)
            self.size_bytes += len(frame)
            encoded += len(frame)
            yield frame
            if encoded >= ENCODED_AT_ONCE_BYTES:
                encoded = 0
                time.sleep(0)  # whoever waits for the interpreter has it now

    def _finish(self, buffers: list[Buffer], offset: int, end: int) -> None:
        """The last frames, the header, which knows the length only now, and the name."""
        header = SegmentHeader(
            self._identity,
            self._place.number,
            self._place.first_sequence,
            checkpoint=True,
            checkpoint_frames=len(self._items),
            salt=self._salt,
            sealed=end,
        )
        write_all(self._fd, buffers, offset)
        write_all(self._fd, [encode_header(header)], 0)
        os.fsync(self._fd)
        drop_cached(self._fd)
        publish(self._aside, self.path)
        logger.info("journal: checkpoint of %d bytes", self.size_bytes)
