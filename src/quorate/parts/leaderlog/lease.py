"""Lease: reads without asking, while nobody else can lead (Chandra and others 2007, §5.2; Ongaro 2014, §6.4.1).

A node that hears a leader lets nobody else lead for ``lease_s`` of its own clock. A round of heartbeats that began at
*t* on the leader's clock, and that nodes answered which meet every quorum that elects, is therefore a lease until *t*
plus ``lease_s``, less what the clocks may be apart: all run at a rate between 1 - drift and 1 + drift, so the leader's
may show no more than ``lease_s * (1 - drift) / (1 + drift)`` since then. A clock that is set breaks that: leases need
one that is not.
"""

from __future__ import annotations

from collections import deque

from quorate.parts.quorum import QuorumSystem
from quorate.parts.votes.tally import Tally

ROUNDS_MAX = 64
"""Rounds without an answer that are remembered; an older one would be of no use."""


class Lease:
    """A leader's. Times are of its own clock."""

    __slots__ = ("_rounds", "_until", "length_s")

    def __init__(self, lease_s: float, drift: float) -> None:
        self.length_s = lease_s * (1 - drift) / (1 + drift)
        self._rounds: deque[tuple[int, float, Tally]] = deque(maxlen=ROUNDS_MAX)
        self._until = float("-inf")

    def begin(self, number: int, now: float, quorum: QuorumSystem) -> None:
        """A round of heartbeats leaves."""
        self._rounds.append((number, now, Tally(quorum)))

    def answered(self, node: int, number: int) -> None:
        """A node answered a round, and so all before it."""
        for sent, began_at, tally in self._rounds:
            if sent > number:
                break
            if tally.add(node):
                self._until = max(self._until, began_at + self.length_s)

    def holds(self, now: float) -> bool:
        """Whether nobody else can lead now."""
        return now < self._until
