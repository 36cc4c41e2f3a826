"""Barrier: the durability rule, in one place, for every shell.

A Turn's sends, outputs and jobs leave when its records, and those of every earlier Turn, are durable. A Turn without
records waits for the earlier ones all the same: what it says may rest on what they decided. ``Turn.early`` and
``Turn.at_once`` never come here.
"""

from collections import deque

from quorate.kernel.turn import Turn


class Barrier:
    """Turns in order, each with the sequence number of the last record written before it may leave."""

    __slots__ = ("_durable", "_waiting", "_written")

    def __init__(self) -> None:
        self._written = 0
        self._durable = 0
        self._waiting: deque[tuple[int, Turn]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, turn: Turn, sequence: int | None) -> bool:
        """Take a Turn whose records were given to the journal as ``sequence`` (None: it has none).

        Returns True where nothing holds it back (its records may be durable already): it may leave now, and is not
        kept.
        """
        if sequence is not None:
            self._written = sequence
        if self._durable >= self._written:
            return True
        if turn.sends or turn.outputs or turn.jobs:
            self._waiting.append((self._written, turn))
        return False

    def durable(self, sequence: int) -> list[Turn]:
        """The journal is durable up to ``sequence``: the Turns that may leave now, in order."""
        self._durable = max(self._durable, sequence)
        waiting = self._waiting
        released = []
        while waiting and waiting[0][0] <= self._durable:
            released.append(waiting.popleft()[1])
        return released
