"""Scores of strangers: in an open network misbehaviour costs points, where a closed one lays blame.

How it works. Each offence adds points; whoever reaches BAN_AT is to be parted from and refused for BAN_S. Points halve
every HALF_LIFE_S, so what honest nodes do now and then (they promise a block and are cut off) does not add up: an
offence of p points every t seconds stays below p / (1 - 2 ** (-t / HALF_LIFE_S)), which for BROKEN_PROMISE every ten
minutes is 49. By chance offences come in clusters; one an hour on average is safe. A stranger that falls silent with
much outstanding has broken one promise, not one for each thing that was asked for. What honest nodes do all the time
costs nothing at all.

A stranger is whatever the core knows it by, a key or an address, not the number of its link, which another may have
next. Only those who have points are remembered, at most ``entries_max`` of them. When there are too many, the lowest
scores go, which are nearest to being forgotten; a few at a time, so that a crowd of new strangers costs no search each.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

BAN_AT: Final = 100
BAN_S: Final = 24 * 3600.0
HALF_LIFE_S: Final = 1800.0
ENTRIES_MAX: Final = 4096
FORGOTTEN_BELOW: Final = 0.5
"""Points that are as good as none."""
FORGOTTEN_AT_ONCE: Final = 16
"""The part of all entries that makes room at once: a sixteenth."""

# What no correct node sends, whatever it has or has not heard.
WRONG_WORK: Final = 100
WRONG_SEAL: Final = 100
INVALID: Final = 100
"""What the stranger itself said that it had checked."""
UNDECODABLE: Final = 100

# What may happen to a correct node, but not often.
OVERSIZE: Final = 20
BROKEN_PROMISE: Final = 10
"""Announced and not given when asked."""

# What happens to correct nodes: clocks differ, messages cross, chains reorganise.
ORPHAN: Final = 0
FUTURE: Final = 0
DUPLICATE: Final = 0
STALE: Final = 0
LOW_FEE: Final = 0


class Scores:
    """Points by stranger. ``now`` is the local clock in seconds, which may stand still but does not go back."""

    __slots__ = ("_entries_max", "_half_life_s", "_scores")

    def __init__(self, entries_max: int = ENTRIES_MAX, half_life_s: float = HALF_LIFE_S) -> None:
        """Raises ValueError for limits that are not above 0."""
        if entries_max < 1 or half_life_s <= 0:
            raise ValueError(f"entries_max is {entries_max}, half_life_s {half_life_s}: both must be above 0")
        self._entries_max = entries_max
        self._half_life_s = half_life_s
        self._scores: dict[Hashable, tuple[float, float]] = {}
        """Points, and when they were that many; in the order of the newest offence."""

    def __len__(self) -> int:
        return len(self._scores)

    def add(self, who: Hashable, points: int, now: float) -> bool:
        """Count an offence. True if it brings the score to BAN_AT or above: part, and ban for BAN_S.

        An offence of no points changes nothing, so it neither bans nor makes anybody be remembered.
        """
        if points <= 0:
            return False
        score = self.score(who, now) + points
        if self._scores.pop(who, None) is None and len(self._scores) >= self._entries_max:
            self._make_room(now)
        self._scores[who] = (score, now)
        return score >= BAN_AT

    def score(self, who: Hashable, now: float) -> float:
        """The points that a stranger has now."""
        points, since = self._scores.get(who, (0.0, now))
        return float(points * 0.5 ** (max(0.0, now - since) / self._half_life_s))

    def forget(self, who: Hashable) -> None:
        """Begin anew with a stranger, as when its ban is over."""
        self._scores.pop(who, None)

    def _make_room(self, now: float) -> None:
        """Forget those with next to no points, and a few at least: the lowest, then the longest without offence."""
        current = {who: self.score(who, now) for who in self._scores}
        fewest = 1 + len(current) // FORGOTTEN_AT_ONCE
        for count, who in enumerate(sorted(current, key=current.__getitem__)):
            if count >= fewest and current[who] >= FORGOTTEN_BELOW:
                break
            del self._scores[who]
