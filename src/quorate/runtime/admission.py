"""Admission: which requests of clients a node takes in, so that all of them together fit its memory, and clients share.

How it works. A request costs its bytes and a little, and at least one part in ``REQUESTS_MAX`` of all that there is, as
many small ones take time. A client may hold as much as is free: alone at most half of all, one of n greedy ones about
one part in n + 1 (Choudhury and Hahne 1998, dynamic queue length thresholds). What does not fit is refused, and its
client stands in line: whoever comes after it is refused what it waits for. Otherwise those who were just answered would
take the room at once, again and again, and those who were refused and try again a little later would never find any.
Whoever does not return in time loses its place.

What is free depends on time, too. A client that waits too long asks again elsewhere, so that a node with a long queue
does everything twice and in vain. So no more is taken in than was done of late in ``WAIT_S``, but always
``FLOOR_BYTES`` and one part in ``FLOOR_SHARE``, which keeps a node busy enough to show what it can do.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

REQUESTS_MAX: Final = 4096
"""In all."""
REQUEST_OVERHEAD_BYTES: Final = 512
WAIT_S: Final = 0.25
"""How long the last that is taken in is to wait; clients are patient for four times as long."""
WINDOW_S: Final = 0.25
"""How long is counted what is done. What was done in the best window counts, less with each that follows."""
AGING: Final = 0.8
FLOOR_BYTES: Final = 8 << 20
FLOOR_SHARE: Final = 16
PLACE_S: Final = 1.0
"""How long a place in line is kept: longer than a client waits before it tries again."""


class Admission:
    """The room of one node. ``now`` is a monotonic clock in seconds."""

    def __init__(self, size_bytes_max: int, now: Callable[[], float]) -> None:
        self.size_bytes_max = size_bytes_max
        self.cost_bytes = 0
        """Of all that was taken in and is not done."""
        self._now = now
        self._floor_bytes = min(size_bytes_max, max(FLOOR_BYTES, size_bytes_max // FLOOR_SHARE))
        self._window_at = now()
        self._done_bytes = 0  # in this window
        self._rate = 0.0  # per second; 0.0: nothing was done yet
        self._held: dict[Hashable, int] = {}
        self._line: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()
        """Who was refused, since when, and what it costs to take that in."""

    @property
    def room_bytes(self) -> int:
        """For how much there is room in all, at the pace at which requests are done."""
        if not self._rate:
            return self.size_bytes_max
        return min(self.size_bytes_max, max(self._floor_bytes, int(self._rate * WAIT_S)))

    def take(self, client: Hashable, size_bytes: int) -> bool:
        """Take a request in, if there is room for it now."""
        cost, held = self._cost(size_bytes), self._held.get(client, 0)
        free = self.room_bytes - self.cost_bytes
        if self._line:
            free -= self._claimed(client, free)
        if held + cost > free and not (not self.cost_bytes and not self._line):
            self._line.setdefault(client, (cost, self._now()))
            return False
        self._line.pop(client, None)
        self._held[client] = held + cost
        self.cost_bytes += cost
        return True

    def done(self, client: Hashable, size_bytes: int) -> None:
        """A request of so many bytes is answered."""
        cost = self._cost(size_bytes)
        left = self._held[client] - cost
        self.cost_bytes -= cost
        self._count(cost)
        if left:
            self._held[client] = left
        else:
            del self._held[client]

    def left(self, client: Hashable) -> None:
        """It has gone, with all that it asked for."""
        self.cost_bytes -= self._held.pop(client, 0)
        self._line.pop(client, None)

    def _cost(self, size_bytes: int) -> int:
        return max(size_bytes + REQUEST_OVERHEAD_BYTES, self.size_bytes_max // REQUESTS_MAX)

    def _count(self, cost: int) -> None:
        self._done_bytes += cost
        elapsed_s = self._now() - self._window_at
        if elapsed_s >= WINDOW_S:
            self._rate = max(self._done_bytes / elapsed_s, AGING * self._rate)
            self._done_bytes, self._window_at = 0, self._now()

    def _claimed(self, client: Hashable, free: int) -> int:
        """What those in line before this client wait for, as far as it matters."""
        now, claimed = self._now(), 0
        for other, (cost, since) in list(self._line.items()):
            if other == client or claimed > free:
                break
            if now - since > PLACE_S:
                del self._line[other]
            else:
                claimed += cost
        return claimed
