"""Early: messages for a view that this node has not entered yet. Bounded for each sender, so that none fills it.

A node that enters a view a moment after the others would else miss their first votes until they are sent again.
"""

from __future__ import annotations

from collections import deque

from quorate.protocols.pbft.messages import Prepare, PrePrepare

COUNT_MAX = 256
BYTES_MAX = 4 << 20
LOG_SHARE = 5
"""All senders together have at most one part in so many of what the log may have."""


class Early:
    """By sender; the oldest go first. What is lost is sent again at a beat."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        """``bytes_max``: of one sender."""
        self._bytes_max = bytes_max
        self._kept: dict[int, deque[PrePrepare | Prepare]] = {}
        self._bytes: dict[int, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def keep(self, sender: int, message: PrePrepare | Prepare) -> None:
        """Add one."""
        kept = self._kept.setdefault(sender, deque())
        kept.append(message)
        size = self._bytes.get(sender, 0) + _size(message)
        while len(kept) > COUNT_MAX or size > self._bytes_max:
            size -= _size(kept.popleft())
        self._bytes[sender] = size

    def take(self) -> list[tuple[int, PrePrepare | Prepare]]:
        """All of them with their senders, out of here; each sender's in their order."""
        taken = [(sender, message) for sender, messages in sorted(self._kept.items()) for message in messages]
        self._kept.clear()
        self._bytes.clear()
        return taken


def _size(message: PrePrepare | Prepare) -> int:
    return sum(map(len, message.batch)) if isinstance(message, PrePrepare) else 0
