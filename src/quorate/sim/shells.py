"""Shells with a planted bug. Each breaks one rule of what is done with a Turn, and so every protocol above it."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from quorate.kernel import Barrier, Path, Record, Shell, Turn
from quorate.sim.mutant import Mutant


class _Open(Barrier):
    def add(self, turn: Turn, sequence: int | None) -> bool:
        """Everything may leave at once."""
        return True


class _Leaky(Barrier):
    def add(self, turn: Turn, sequence: int | None) -> bool:
        """What has no records may leave at once."""
        return sequence is None or super().add(turn, sequence)


class NoBarrier(Shell):
    """Nothing waits until it is durable."""

    barrier_type = _Open


class OutOfOrder(Shell):
    """A Turn waits for its own records, but not for those of earlier Turns."""

    barrier_type = _Leaky


class JobsFirst(Shell):
    """Jobs begin before the outputs of their Turn are with the App."""

    def upward(self, turn: Turn) -> Sequence[Any]:
        """In the wrong order."""
        return (*turn.jobs, *turn.outputs)


class Overtaking(Shell):
    """What comes after a snapshot does not wait until it is loaded."""

    def loading_before(self, path: Path) -> deque[Any] | None:
        """As if none were."""
        return None


class EmptyCheckpoint(Shell):
    """A journal is replaced by a checkpoint in which nothing is."""

    def write(self, records: Sequence[Record]) -> int:
        """Whatever the state."""
        if self._machine.is_checkpoint_due():
            return self._machine.replace((), records)
        return self._machine.append(records)


class Tireless(Shell):
    """Nobody looks how long a write takes: a disk that hangs says nothing, so nothing is known of it."""

    def tick(self) -> None:
        """Not at the clock."""


DURABILITY = (
    Mutant("no-barrier", "sends and outputs leave before the records they rest on are durable", shell=NoBarrier),
    Mutant("barrier-out-of-order", "a Turn without records overtakes earlier ones", shell=OutOfOrder),
    Mutant("empty-checkpoint", "an empty checkpoint replaces the journal", shell=EmptyCheckpoint),
)
"""For every protocol."""
SNAPSHOTS = (
    Mutant("jobs-first", "a snapshot is taken before the outputs of its Turn are applied", shell=JobsFirst),
    Mutant("overtakes-snapshot", "outputs overtake a snapshot that is being loaded", shell=Overtaking),
)
"""For those that take snapshots."""
HANGS = (Mutant("no-clock-on-writes", "a node waits for a disk that hangs, and notices nothing", shell=Tireless),)
"""For those in which one node leads, and keeps its place by messages that no record holds back."""
