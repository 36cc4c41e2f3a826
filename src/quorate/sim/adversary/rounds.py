"""Partitions by round, the network faults of ByzzFuzz (Winter and others, OOPSLA 2023).

In few rounds (see ``round_of``) the nodes are in two halves, which do not hear each other's messages of that round. It
hits the one message that matters, where partitions by time hit all or none of a burst.
"""

from __future__ import annotations

from random import Random
from typing import Any

from quorate.sim.adversary.lies import round_of


class RoundPartitions:
    """``cut`` says of one message on one link whether it is lost."""

    def __init__(self, rng: Random, nodes: int) -> None:
        self._rng = rng
        self._nodes = nodes
        self._rate = rng.uniform(0.005, 0.1)
        self._sides: dict[tuple[Any, ...], int] = {}
        self.cuts = 0

    def cut(self, sender: int, to: int, message: Any) -> bool:
        """Whether the partition of its round parts them."""
        now = round_of(message)
        side = self._sides.get(now)
        if side is None:
            side = self._sides[now] = self._rng.getrandbits(self._nodes) if self._rng.random() < self._rate else 0
        if (side >> sender ^ side >> to) & 1:
            self.cuts += 1
            return True
        return False
