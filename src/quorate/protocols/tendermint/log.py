"""DecidedLog: the heights that were decided, each with the commit that proves it, for whoever is behind.

It is in memory and in the journal. What is before a snapshot that a quorum has is dropped (``checkpoints.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from quorate.kernel import Env
from quorate.protocols.tendermint.messages import Decision, Here, extensions_bytes

DECISIONS_MAX: Final = 16
"""For a node that is behind, at each of its beats; and no more bytes than two batches may have, but one at least."""


class DecidedLog:
    """The attributes may be read; they change by the methods."""

    def __init__(self, env: Env, batch_bytes_max: int) -> None:
        self._env = env
        self._bytes_max = 2 * batch_bytes_max
        self.decisions: list[Decision] = []
        """Of the heights after ``base``."""
        self.base = 0
        """The last height that is not here any more."""
        self.others_next: dict[int, int] = {}
        """By node, the height that it said last to be the first that it has not decided."""
        self._helped: set[int] = set()

    def add(self, decision: Decision) -> None:
        """The next height is decided: make it durable."""
        self._env.persist(decision)
        self.decisions.append(decision)

    @property
    def last(self) -> int:
        """The last height that is decided."""
        return self.base + len(self.decisions)

    def recover(self, decision: Decision) -> None:
        """One that was durable. After a checkpoint of the journal, the first one says where the log begins."""
        if not self.decisions and self.base == 0:
            self.base = decision.height - 1
        assert decision.height == self.last + 1, f"height {decision.height} does not follow on {self.last}"
        self.decisions.append(decision)

    def drop(self, height: int) -> None:
        """Those up to this height: whoever needs them gets a snapshot."""
        if height > self.base:
            del self.decisions[: height - self.base]
            self.base = height

    def reset(self, height: int) -> None:
        """The state is that after this height, and came from others."""
        self.decisions.clear()
        self.base = height

    def after(self, height: int) -> list[Decision]:
        """Those after this height."""
        return self.decisions[max(0, height - self.base) :]

    def at(self, height: int) -> Decision | None:
        """That of this height; None: it is not here."""
        return self.decisions[height - self.base - 1] if self.base < height <= self.last else None

    def beat(self) -> None:
        """Nodes that are behind may be helped again."""
        self._helped.clear()

    def on_here(self, sender: int, m: Here) -> None:
        """Send it what it lacks, as far as it is here, once between two beats of this node."""
        self.others_next[sender] = m.height
        if not self.base < m.height <= self.last or sender in self._helped:
            return
        self._helped.add(sender)
        for decision in self._from(m.height):
            self._env.send(sender, decision)

    def _from(self, height: int) -> Iterator[Decision]:
        size = 0
        for decision in self.after(height - 1)[:DECISIONS_MAX]:
            size += len(decision.block) + extensions_bytes(decision)
            if size > self._bytes_max and decision.height > height:
                return
            yield decision
