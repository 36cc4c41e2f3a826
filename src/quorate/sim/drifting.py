"""Drifting: links whose delays differ by direction and change as time goes by.

How it works. Each link, one way, has a factor by which every delay on it is longer. The factor is drawn anew each time
the link is used after its time has passed, from a heavy-tailed distribution (Pareto): most links are near 1, a few are
very slow for a while, and the way back may be quick.
"""

from __future__ import annotations

from random import Random

from quorate.sim.swarm import Drift

DELAY_S_MAX = 5.0
"""What a factor makes of a delay, at most."""


class Drifting:
    """Of all links of one world."""

    def __init__(self, rng: Random, drift: Drift) -> None:
        self._rng = rng
        self._drift = drift
        self._factors: dict[tuple[int, int], tuple[float, float]] = {}
        """By sender and receiver: the factor, and until when it holds."""
        self.drifted = 0
        """How often a link drew a factor that at least doubles its delays."""

    def delay_s(self, sender: int, to: int, delay_s: float, now: float) -> float:
        """How long a message takes that leaves now and would take so long."""
        known = self._factors.get((sender, to))
        factor = known[0] if known is not None and now < known[1] else self._draw(sender, to, now)
        return max(delay_s, min(delay_s * factor, DELAY_S_MAX))

    def _draw(self, sender: int, to: int, now: float) -> float:
        drift, rng = self._drift, self._rng
        factor = min(rng.paretovariate(drift.shape), drift.factor_max)
        self.drifted += factor >= 2.0
        self._factors[sender, to] = factor, now + rng.expovariate(1.0 / drift.every_s)
        return factor
