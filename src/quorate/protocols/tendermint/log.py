"""DecidedLog: the heights that were decided, each with the certificate that proves it, for whoever is behind.

All of it is in memory and in the journal; it is never compacted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from quorate.kernel import Env
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Decided
from quorate.protocols.tendermint.messages import Decision, Here

DECISIONS_MAX: Final = 16
"""For a node that is behind, at each of its beats; and no more bytes than two batches may have."""


class DecidedLog:
    """The attributes may be read; they change by the methods."""

    def __init__(self, env: Env, batch_bytes_max: int) -> None:
        self._env = env
        self._bytes_max = 2 * batch_bytes_max
        self.decisions: list[Decision] = []
        """Of the heights from 1 on."""
        self.index = 0
        """Of the last entry that was delivered."""
        self._helped: set[int] = set()

    def add(self, decision: Decision) -> None:
        """The next height is decided: make it durable, and deliver it."""
        self._env.persist(decision)
        self.decisions.append(decision)
        self.deliver(decision)

    def deliver(self, decision: Decision) -> None:
        """Upwards, in order; after a restart once more."""
        entries = tuple([Entry(decision.height, value) for value in decision.values])
        self._env.deliver(Decided(self.index + 1, entries, decision.proof))
        self.index += len(entries)

    def beat(self) -> None:
        """Nodes that are behind may be helped again."""
        self._helped.clear()

    def on_here(self, sender: int, m: Here) -> None:
        """Send it what it lacks, once between two beats of this node."""
        if not 1 <= m.height <= len(self.decisions) or sender in self._helped:
            return
        self._helped.add(sender)
        for decision in self._from(m.height):
            self._env.send(sender, decision)

    def _from(self, height: int) -> Iterator[Decision]:
        size = 0
        for decision in self.decisions[height - 1 :][:DECISIONS_MAX]:
            size += sum(map(len, decision.values))
            if size > self._bytes_max:
                return
            yield decision
