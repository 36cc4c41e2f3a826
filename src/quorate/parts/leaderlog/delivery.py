"""Delivery: what is committed goes up in portions, so that no step of a node gives its App more than a moment of work.

Usually a portion is all there is. After a restart the whole log since the snapshot is committed at once, and after a
while without a quorum all that waited for one: hundreds of thousands of commands. What is left goes with the next step.
"""

from __future__ import annotations

from quorate.kernel import Env
from quorate.parts.log.entries import Entry, Log, size_of

DELIVER = "deliver"
"""The timer that makes the next step."""
ENTRIES_MAX = 4096
"""Some 20 ms of the key-value store."""
BYTES_MAX = 4 << 20
"""An entry at least."""


def portion(env: Env, log: Log, delivered_index: int, commit_index: int) -> tuple[list[Entry], int]:
    """The next entries to be delivered, at least one, and their bytes."""
    waiting = commit_index - delivered_index
    if waiting <= ENTRIES_MAX:
        entries = log.slice(delivered_index + 1, commit_index)
        size_bytes = size_of(entries)
        if size_bytes <= BYTES_MAX:
            return entries, size_bytes
    entries = log.batch(delivered_index + 1, min(waiting, ENTRIES_MAX), BYTES_MAX)
    if len(entries) < waiting:
        env.set_timer(DELIVER, 0.0)
    return entries, size_of(entries)
