"""The simulated network: delay, loss, duplication, cuts and clogs, all by link.

How it works. A message costs one or two draws: the first says whether it is lost and, if not, which entry it takes of a
table of delays, made when the world began; the second says whether it is duplicated, in worlds that duplicate. A cut is
a bit in the sender's mask, so a one-way partition is half of a symmetric one; it takes what is on its way as well. A
clogged link holds everything back until a moment and then delivers it at once.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from random import Random
from typing import TYPE_CHECKING, Any

from quorate.kernel import Received, Send
from quorate.sim.swarm import Mix

if TYPE_CHECKING:
    from quorate.sim.world import World

DELAYS = 1024
HEALTHY_DELAY_S_MAX = 0.01
EPSILON_S = 1e-9


class Network:
    """All links between nodes."""

    def __init__(self, world: World, rng: Random, mix: Mix, nodes: int) -> None:
        self._world = world
        self._rng = rng
        self._random = rng.random
        self._fifo = mix.is_fifo
        self._delays = _delays(rng, mix)
        self._last = [[0.0] * nodes for _ in range(nodes)]
        self._factors = [[_factor(rng, mix) for _ in range(nodes)] for _ in range(nodes)]
        self.cuts = [0] * nodes
        """By sender, the mask of nodes that it cannot reach."""
        self.clogs: dict[tuple[int, int], float] = {}
        """By link, until when it delivers nothing."""
        self.parted: Callable[[int, int, Any], bool] | None = None
        """Whether a partition by the content of messages takes this one, from sender to node."""
        self.loss = mix.loss
        self.duplication = mix.duplication
        self.delivered = self.lost = self.cut = self.duplicated = self.clogged = 0

    def heal(self) -> None:
        """From now on nothing is lost, doubled, cut or late."""
        self.cuts = [0] * len(self.cuts)
        self.clogs.clear()
        self.parted = None
        self.loss = self.duplication = 0.0
        self._delays = [min(delay, HEALTHY_DELAY_S_MAX) for delay in self._delays]
        self._factors = [[1.0] * len(row) for row in self._factors]

    def send(self, sender: int, send: Send) -> None:
        """Put one message on its ways. One to oneself passes no network."""
        world = self._world
        now = world.now
        random = self._random
        loss = self.loss
        cuts = self.cuts[sender]
        factors = self._factors[sender]
        parted = self.parted
        item = Received(sender, send.message, send.path)
        for to in send.to:
            if to == sender:
                world.nodes[to].loop_back(item)
                continue
            if cuts >> to & 1 or (parted is not None and parted(sender, to, send.message)):
                self.cut += 1
                if world.tracing:
                    world.trace(sender, "cut", to, send.message)
                continue
            draw = random()
            if draw < loss:
                self.lost += 1
                if world.tracing:
                    world.trace(sender, "lost", to, send.message)
                continue
            at = now + self._delays[int((draw - loss) / (1.0 - loss) * DELAYS)] * factors[to]
            if self.clogs:
                at = self._behind_clog(sender, to, at)
            if self._fifo:
                last = self._last[sender]
                if at <= last[to]:
                    at = last[to] + EPSILON_S
                last[to] = at
            world.sequence += 1
            heappush(world.heap, (at, world.sequence, world.nodes[to].receive, item, None))
            if self.duplication and random() < self.duplication:
                self.duplicated += 1
                again = now + self._delays[int(random() * DELAYS)] * 5.0 * factors[to]
                world.sequence += 1
                heappush(world.heap, (again, world.sequence, world.nodes[to].receive, item, None))

    def is_cut(self, sender: int, to: int) -> bool:
        """Whether a cut takes what is on its way at this moment."""
        if self.cuts[sender] >> to & 1:
            self.cut += 1
            return True
        return False

    def _behind_clog(self, sender: int, to: int, at: float) -> float:
        until = self.clogs.get((sender, to))
        if until is None or until <= at:
            return at
        self.clogged += 1
        return until + (at - self._world.now)


def _factor(rng: Random, mix: Mix) -> float:
    """A few links of an uneven network are far slower than the rest."""
    draw = rng.random()
    return 10.0 if mix.uneven_links and draw < 0.1 else 1.0


def _delays(rng: Random, mix: Mix) -> list[float]:
    """A table to pick delays from: a minimum, an exponential part, and now and then a long tail."""
    delays = []
    for _ in range(DELAYS):
        delay = mix.delay_s_min + rng.expovariate(1.0 / mix.delay_s_mean)
        if rng.random() < mix.delay_tail:
            delay += rng.expovariate(1.0 / 0.3)
        delays.append(delay)
    return delays
