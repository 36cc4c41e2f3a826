"""Proposals: values submitted where nobody leads, on their way to the node that does."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from quorate.parts.log.entries import ENTRY_OVERHEAD_BYTES

ENTRIES_PER_MESSAGE_MAX = 65_536


class Propose(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Values submitted at a follower, forwarded to the leader. Lost ones are tried again from above."""

    values: Annotated[list[bytes], Meta(max_length=ENTRIES_PER_MESSAGE_MAX)]


def in_messages(values: Sequence[bytes], count_max: int, bytes_max: int) -> Iterator[list[bytes]]:
    """The values in order, in lists that fit a message; one that is too large goes alone."""
    batch: list[bytes] = []
    size = 0
    for value in values:
        size += len(value) + ENTRY_OVERHEAD_BYTES
        if batch and (len(batch) == count_max or size > bytes_max):
            yield batch
            batch, size = [], len(value) + ENTRY_OVERHEAD_BYTES
        batch.append(value)
    if batch:
        yield batch
