"""A rate limiter that is exact: in no span of ``per_s`` seconds do more than ``limit`` requests of a key pass.

A span is counted in SLICES parts. A request counts until the whole slice in which it passed is older than ``per_s``, so
room comes back up to one slice late, never early. What a key costs is bounded by SLICES, not by ``limit``; keys of
which nothing counts any more are forgotten. Time is that of the log.
"""

from __future__ import annotations

from typing import Final

from quorate.machines.objects.definition import Replicated, command, read
from quorate.objects.arguments import Full, check_int, check_name, check_span
from quorate.objects.clock import seconds
from quorate.objects.heaps import push, remove

SLICES: Final = 100
KEYS_MAX: Final = 10_000
LIMIT_MAX: Final = 1_000_000_000
SPAN_S_MAX: Final = 366 * 86_400.0
MICROS: Final = 1_000_000
FORGOTTEN_MAX: Final = 2
"""Keys that one request forgets: more than the one that it may add, so the old ones go, and none takes long."""


class RateLimiter(Replicated):
    """Lets 100 requests of each key pass in a minute; ``configure`` changes that, or a subclass's ``__init__``."""

    def __init__(self) -> None:
        self.limit = 100
        self.per_s = 60.0
        self.keys_max = KEYS_MAX
        self.passed: dict[str, dict[int, int]] = {}  # by key, how many in which slice
        self.newest: list[tuple[int, str]] = []  # a heap of each key's newest slice
        self.places: dict[str, int] = {}

    @command
    def configure(self, limit: int, per_s: float, keys_max: int = KEYS_MAX) -> None:
        """Set what passes, and how many keys are kept. Another ``per_s`` begins anew for all keys."""
        self.limit = check_int("limit", limit, 1, LIMIT_MAX)
        self.keys_max = check_int("keys_max", keys_max, 1)
        if check_span("per_s", per_s, SPAN_S_MAX, 0.01) != self.per_s:
            self.per_s = float(per_s)
            self.passed.clear()
            self.newest.clear()
            self.places.clear()

    @command
    def allow(self, key: str, n: int = 1) -> bool:
        """Whether ``n`` more requests of the key pass, all of them or none. Those that do not pass count for nothing.

        Raises ValueError for more than ever pass at once, and Full if ``keys_max`` other keys were active of late.
        """
        check_name("key", key)
        check_int("n", n, 1, self.limit)
        current = int(seconds() * MICROS) * SLICES // int(self.per_s * MICROS)
        self._forget(current - SLICES)
        slices = self.passed.get(key)
        if slices is None:
            if len(self.passed) >= self.keys_max:
                raise Full(
                    f"{len(self.passed)} keys had requests in the last {self.per_s} seconds, and keys_max is "
                    f"{self.keys_max}: raise it with configure(limit, per_s, keys_max)"
                )
            self.passed[key] = {current: n}
            push(self.newest, self.places, (current, key))
            return True
        for old in [number for number in slices if number < current - SLICES]:
            del slices[old]
        if sum(slices.values()) + n > self.limit:
            return False
        if current not in slices:
            remove(self.newest, self.places, key)
            push(self.newest, self.places, (current, key))
        slices[current] = slices.get(current, 0) + n
        return True

    @command
    def forget(self, key: str) -> bool:
        """Let a key begin anew; return whether there was anything to forget."""
        if key not in self.passed:
            return False
        remove(self.newest, self.places, key)
        del self.passed[key]
        return True

    @read
    def __len__(self) -> int:
        return len(self.passed)

    def _forget(self, oldest: int) -> None:
        for _ in range(FORGOTTEN_MAX):
            if not self.newest or self.newest[0][0] >= oldest:
                return
            key = self.newest[0][1]
            remove(self.newest, self.places, key)
            del self.passed[key]
