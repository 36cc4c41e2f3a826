"""Reading a snapshot: so many bytes, or an error that says where it ends."""

from __future__ import annotations

from typing import BinaryIO


def read_exactly(file: BinaryIO, size: int) -> bytes:
    """The next bytes of a snapshot. Raises ValueError where it is cut short."""
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"the snapshot ends after {len(data)} bytes where {size} are expected")
    return data
