"""A node's own clock: it runs at its own rate and may be set. Global virtual time is the world's affair alone."""

EPOCH_S = 1_800_000_000
"""The time of the world at which a run begins, in seconds since 1970."""


class Clock:
    """Local time as a line over global time. All times in seconds."""

    __slots__ = ("_local", "_since", "rate")

    def __init__(self, local: float = 0.0) -> None:
        self._local = local
        self._since = 0.0
        self.rate = 1.0

    def at(self, now: float) -> float:
        """The local time at the global time ``now``."""
        return self._local + (now - self._since) * self.rate

    def until(self, local: float, now: float) -> float:
        """The global time at which this clock will show ``local``, if nothing changes it; at least ``now``."""
        return now + max(0.0, (local - self.at(now)) / self.rate)

    def change(self, now: float, rate: float, jump: float = 0.0) -> None:
        """From ``now`` on run at ``rate``, after a jump of so many seconds."""
        self._local = self.at(now) + jump
        self._since = now
        self.rate = rate

    def reach(self, local: float, now: float) -> None:
        """Show at least ``local``: a timer that ran out is never early by a rounding error."""
        if self.at(now) < local:
            self._local += local - self.at(now)
            while self.at(now) < local:
                self._local += max(abs(local) * 1e-15, 1e-15)


class WallClock:
    """A node's idea of the world's time, which may be off. Whoever sets it may set it back.

    ``epoch_ns`` is what it shows when the run begins.
    """

    __slots__ = ("epoch_ns",)

    def __init__(self, skew_s: float = 0.0) -> None:
        self.epoch_ns = EPOCH_S * 10**9 + int(skew_s * 1e9)

    def at(self, now: float) -> int:
        """Nanoseconds since 1970 at the global time ``now``."""
        return int(now * 1e9) + self.epoch_ns
