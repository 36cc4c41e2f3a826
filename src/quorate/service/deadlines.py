"""Deadlines: until when somebody waits for an answer, as a client says it: so many milliseconds from now.

Clocks differ, so a request carries the time that is left and no date. On the node it is counted in ticks of the App's
timer, a second each, which go on only while something waits: a request that is answered soon costs a comparison. A node
may work a tick or two longer than somebody waits, and never shorter.
"""

from __future__ import annotations

from typing import Final

TICK_S: Final = 1.0
TICK: Final = "deadlines tick"
"""The key of the timer."""
NEVER: Final = 1 << 62
"""Of one that names no deadline, as older clients do."""


class Deadlines:
    """``now`` is a number of ticks."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0

    def until(self, remaining_ms: int) -> int:
        """The tick at which nobody waits any more for what is asked now; 0 ms: there is none."""
        return self.now + 2 + remaining_ms // 1000 if remaining_ms else NEVER
