"""Proposals: values submitted where nobody leads, on their way to the node that does."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from quorate.kernel import Env
from quorate.parts.leaderlog.config import ENTRIES_PER_MESSAGE_MAX, LeaderConfig
from quorate.parts.log.entries import ENTRY_OVERHEAD_BYTES
from quorate.parts.log.replicated import Dropped


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


def forward(env: Env, config: LeaderConfig, values: Sequence[bytes], leader: int | None, stalled: str | None) -> None:
    """Pass values on to the leader; tell those above that they are dropped if there is none, or no disk."""
    if leader is None or stalled is not None:
        env.deliver(Dropped(tuple(values), stalled or "no leader is known"))
        return
    for batch in in_messages(values, config.message_entries_max, config.message_bytes_max):
        # Nothing durable is claimed; what gets lost is submitted again from above.
        env.send_now(leader, Propose(batch))
