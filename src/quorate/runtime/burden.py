"""Burden: how much may wait for a disk that is slow or hangs, and what a node does when it is more.

What is written waits in memory until the disk has it. A node whose disk is slower than what comes in therefore takes in
less, in two steps: it refuses what its own clients submit, and later it stops reading what peers send, who feel it
through TCP, keep a bounded backlog and drop what is more.
"""

from __future__ import annotations

from typing import Final

SUBMISSIONS_BYTES_MAX: Final = 32 << 20
"""What waits for the journal: above this, what the App submits is refused."""
BACKLOG_BYTES_MAX: Final = 64 << 20
"""Above this, nothing is read from peers. One step may come on top."""
RELIEF_BYTES: Final = 8 << 20
"""How much less it has to be until reading goes on: one write of the journal, so that a leader hears of its followers
before it takes them for gone."""


class Burden:
    """Of one node. ``is_heavy``: whether it reads nothing from peers."""

    def __init__(self) -> None:
        self.is_heavy = False

    def weigh(self, backlog_bytes: int) -> bool:
        """The journal's backlog has changed: whether ``is_heavy`` has, too."""
        bound = BACKLOG_BYTES_MAX - RELIEF_BYTES if self.is_heavy else BACKLOG_BYTES_MAX
        was_heavy, self.is_heavy = self.is_heavy, backlog_bytes > bound
        return self.is_heavy != was_heavy

    @staticmethod
    def takes(backlog_bytes: int) -> bool:
        """Whether the App may submit more."""
        return backlog_bytes <= SUBMISSIONS_BYTES_MAX
