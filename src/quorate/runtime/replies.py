"""Replies: what clients were sent and have not taken, in all. Too much, and the client with the most is cut off.

How it works. A connection is weighed when it is sent something, when that is flushed, and when its transport can take
more. In between it gets lighter unnoticed, so what is known is an upper bound; before anybody is cut off or refused for
it, it is weighed again.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from typing import Final
from typing import Protocol as Interface

RECOUNT_S: Final = 0.05
"""How often all may be weighed again to see whether there is room."""


class Reader(Interface):
    """A connection to a client."""

    loop: AbstractEventLoop
    is_open: bool

    @property
    def backlog_bytes(self) -> int:
        """What waits for it."""

    def flush(self) -> None:
        """Give the operating system what it takes, now."""

    def cut_slow(self) -> None:
        """It does not read."""


class Replies:
    """Those of one client port."""

    def __init__(self, size_bytes_max: int) -> None:
        self.size_bytes = 0
        self._size_bytes_max = size_bytes_max
        self._waiting: dict[Reader, int] = {}
        """By client, as of the last time that it was weighed."""
        self._counted_at = 0.0

    def weigh(self, client: Reader) -> None:
        """It was sent something, or has taken something."""
        self._count(client)
        if self.size_bytes > self._size_bytes_max:
            client.flush()
            self._make_room()

    def has_room(self, client: Reader) -> bool:
        """Whether more may be read for its clients, which adds to it: up to half of what there may be."""
        if 2 * self.size_bytes > self._size_bytes_max and (now := client.loop.time()) - self._counted_at > RECOUNT_S:
            self._counted_at = now
            for other in list(self._waiting):
                self._count(other)
        return 2 * self.size_bytes <= self._size_bytes_max

    def forget(self, client: Reader) -> None:
        """It has gone."""
        self.size_bytes -= self._waiting.pop(client, 0)

    def _make_room(self) -> None:
        while self.size_bytes > self._size_bytes_max:
            slowest = max(self._waiting, key=self._waiting.__getitem__)
            before = self._waiting[slowest]
            self._count(slowest)
            if self._waiting.get(slowest, 0) >= before:
                self.forget(slowest)
                slowest.cut_slow()

    def _count(self, client: Reader) -> None:
        self.forget(client)
        if client.is_open and (size_bytes := client.backlog_bytes):
            self._waiting[client] = size_bytes
            self.size_bytes += size_bytes
