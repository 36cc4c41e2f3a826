"""Shell: the least that runs a Host: a journal in memory, the barrier, and crashes.

The test plays the disk and the network.
"""

import random
from collections.abc import Callable
from typing import Any

from quorate.kernel import Barrier, Core, Env, Host, Input, Record, Send, Turn


class Shell:
    """One node. What has left it is in ``sent`` and ``outputs``; what its journal holds survives ``crash``."""

    def __init__(
        self, make: Callable[[Env], Core], node: int, peers: tuple[int, ...], *, seed: int = 0, by_inputs: bool = False
    ) -> None:
        self._make = make
        self._peers = peers
        self._seed = seed
        self._by_inputs = by_inputs
        self.node = node
        self.journal: list[list[Record]] = []  # the records of one Turn are written whole or not at all
        self.durable = 0
        self.sent: list[Send] = []
        self.outputs: list[Any] = []
        self.boot()

    def boot(self, now: float = 0.0) -> None:
        """A process begins: restore what the journal holds, then start."""
        self.barrier = Barrier()
        # A node's chance is its own, and the same in each life: a nonce must not hang on luck.
        self.host = Host(self._make, self.node, self._peers, random.Random(self._seed), by_inputs=self._by_inputs)
        for records in self.journal:
            for record in records:
                self.host.restore(record, now)
        self.durable = len(self.journal)
        self.barrier.durable(self.durable)
        self.take(self.host.start(now))

    def step(self, *inputs: Input, now: float = 0.0) -> Turn:
        """One step; what may leave at once leaves."""
        turn = self.host.step(inputs, now)
        self.take(turn)
        return turn

    def take(self, turn: Turn) -> None:
        self.sent += turn.early
        if turn.records:
            self.journal.append(list(turn.records))
        if self.barrier.add(turn, len(self.journal) if turn.records else None):
            self._release(turn)

    def sync(self) -> None:
        """All that was written is durable now."""
        self.durable = len(self.journal)
        for turn in self.barrier.durable(self.durable):
            self._release(turn)

    def crash(self, lucky: int = 0) -> None:
        """The process ends. Of the Turns not yet durable, the first ``lucky`` reached the disk all the same."""
        del self.journal[self.durable + lucky :]

    def _release(self, turn: Turn) -> None:
        self.sent += turn.sends
        self.outputs += turn.outputs
