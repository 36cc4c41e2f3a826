"""WriteWatch: notices that storage has made no progress with what it was given to write.

A disk that hangs reports nothing: no error, and no end. So the Shell counts. How it works: while something is written
that is not durable, the Machine ticks every TICK_S. More than TICKS_MAX ticks in a row without progress are a stall,
which ends with the first progress. Progress is whatever becomes durable.

Ticks are counted, and not seconds, so that a process that was stopped for a minute (its disk's threads were, too) or
whose loop was busy finds one tick late, and not a disk that hangs.

Pure.
"""

from __future__ import annotations

from typing import Final

WRITE_S_MAX: Final = 2.0
"""How old a write may be without progress. Longer than what busy disks and cloud volumes take now and then, several
election timeouts, and short of the five seconds that clients often wait."""
TICKS_MAX: Final = 4
TICK_S: Final = WRITE_S_MAX / TICKS_MAX
"""How often to look: a stall is noticed so much later at most."""


class WriteWatch:
    """Of one life of a node. Sequence numbers are those of its journal."""

    __slots__ = ("_durable", "_idle_ticks", "_is_ticking", "_written")

    def __init__(self) -> None:
        self._written = 0
        self._durable = 0
        self._idle_ticks = 0
        self._is_ticking = False

    @property
    def is_stuck(self) -> bool:
        """Whether what was written takes too long."""
        return self._idle_ticks > TICKS_MAX

    def wrote(self, sequence: int) -> bool:
        """A frame was given to the journal: whether ticks have to begin now."""
        is_first = self._durable >= self._written
        self._written = sequence
        if self._durable >= sequence:
            return False
        if is_first:
            self._idle_ticks = 0
        begins = not self._is_ticking
        self._is_ticking = True
        return begins

    def durable(self, sequence: int) -> None:
        """All up to here is. What was known already is no progress."""
        if sequence > self._durable:
            self._durable = sequence
            self._idle_ticks = 0

    def progressed(self) -> None:
        """Storage says that it takes records again."""
        self._idle_ticks = 0

    def tick(self) -> bool:
        """Some time has passed: whether ticks have to go on."""
        self._is_ticking = self._durable < self._written
        if self._is_ticking:
            self._idle_ticks += 1
        return self._is_ticking
