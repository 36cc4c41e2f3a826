"""The simulated network: delay, loss, duplication, cuts and clogs, all by link.

How it works. A message costs one or two draws: the first says whether it is lost and, if not, which entry it takes of a
table of delays, made when the world began; the second says whether it is duplicated, in worlds that duplicate. A cut is
a bit in the sender's mask, so a one-way partition is half of a symmetric one; it takes what is on its way as well. A
clogged link holds everything back until a moment and then delivers it at once.

If the mix asks for it, a message first passes its sender's uplink and the distance between two regions (``ways.py``).

Among n nodes there are n * n links. Only what sets a link apart is stored: masks of the slow ones, and the time of the
last arrival on those that were used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappush
from math import log
from random import Random
from typing import Any
from typing import Protocol as Interface

from quorate.kernel import Received, Send, mask_of
from quorate.sim.drifting import Drifting
from quorate.sim.swarm import Mix
from quorate.sim.ways import Ways

DELAYS = 1024
HEALTHY_DELAY_S_MAX = 0.01
EPSILON_S = 1e-9
SLOW_LINKS = 0.1
"""How many of the links of an uneven network are slow."""
SLOW_FACTOR = 10.0
AGAIN_FACTOR = 5.0
"""How much later than the first copy a duplicate comes."""


class Hearer(Interface):
    """A node, as far as a network goes."""

    def receive(self, item: Received, _: Any) -> None:
        """A message arrives."""

    def loop_back(self, item: Received) -> None:
        """A message to oneself."""


class Air(Interface):
    """What messages travel through: time, and nodes that hear (``ground.py``)."""

    seed: str
    now: float
    sequence: int
    heap: list[tuple[float, int, Callable[[Any, Any], None], Any, Any]]
    tracing: bool

    @property
    def nodes(self) -> Sequence[Hearer]:
        """By number."""

    def trace(self, node: int | None, event: str, subject: Any, what: Any) -> None:
        """One line, where lines are wanted."""


class Network:
    """All links between nodes."""

    def __init__(self, world: Air, rng: Random, mix: Mix, nodes: int) -> None:
        self._world = world
        self._rng = rng
        self._random = rng.random
        self._fifo = mix.is_fifo
        self._delays = _delays(rng, mix)
        self._last: list[dict[int, float]] = [{} for _ in range(nodes)]
        """By sender and receiver, the last arrival, where messages keep their order."""
        self._slow = _slow_links(rng, mix, nodes)
        self._is_uneven = mix.uneven_links
        has_ways = mix.uplink_bytes_per_s is not None or mix.regions is not None
        self.ways = Ways(world.seed, mix, nodes) if has_ways else None
        self.drifting = None if mix.drift is None else Drifting(Random(f"{world.seed}/drift"), mix.drift)
        self.drifted = 0
        self.cuts = [0] * nodes
        """By sender, the mask of nodes that it cannot reach."""
        self.clogs: dict[tuple[int, int], float] = {}
        """By link, until when it delivers nothing."""
        self.parted: Callable[[int, int, Any], bool] | None = None
        """Whether a partition by the content of messages takes this one, from sender to node."""
        self.loss = mix.loss
        self.duplication = mix.duplication
        self.delivered = self.lost = self.cut = self.duplicated = self.clogged = self.overflowed = 0

    def join(self, rng: Random) -> None:
        """One node more."""
        node = len(self.cuts)
        self._last.append({})
        self.cuts.append(0)
        self._slow.append(0)
        for other in range(node) if self._is_uneven else ():
            self._slow[node] |= (rng.random() < SLOW_LINKS) << other
            self._slow[other] |= (rng.random() < SLOW_LINKS) << node
        if self.ways is not None:
            self.ways.join(rng)

    def heal(self) -> None:
        """From now on nothing is doubled, cut or late, and nothing is lost except in a full uplink."""
        self.cuts = [0] * len(self.cuts)
        self.clogs.clear()
        self.parted = None
        self.loss = self.duplication = 0.0
        self._delays = [min(delay, HEALTHY_DELAY_S_MAX) for delay in self._delays]
        self._slow = [0] * len(self._slow)
        self._is_uneven = False
        if self.drifting is not None:
            self.drifted, self.drifting = self.drifting.drifted, None

    def send(self, sender: int, sends: Sequence[Send]) -> None:
        """Put messages on their ways. One to oneself passes no network."""
        world = self._world
        nodes, heap, sequence = world.nodes, world.heap, world.sequence
        now = since = world.now
        random, loss, ways, parted = self._random, self.loss, self.ways, self.parted  # what many sends would look up
        cuts, slow, delays = self.cuts[sender], self._slow[sender], self._delays
        for send in sends:
            item = Received(sender, send.message, send.path)
            size_bytes = 0 if ways is None else ways.size_bytes(send.message)
            for to in send.to:
                if to == sender:
                    nodes[to].loop_back(item)
                    continue
                if ways is not None:  # also for a copy that is cut or lost then: its sender cannot know
                    passed = ways.passed_at(sender, to, size_bytes, now)
                    if passed is None:
                        self.overflowed += 1
                        self._trace("overflow", item, to)
                        continue
                    since = passed
                if cuts >> to & 1 or (parted is not None and parted(sender, to, send.message)):
                    self.cut += 1
                    self._trace("cut", item, to)
                    continue
                draw = random()
                if draw < loss:
                    self.lost += 1
                    self._trace("lost", item, to)
                    continue
                if loss:
                    draw = (draw - loss) / (1.0 - loss)
                delay = delays[int(draw * DELAYS)]
                if slow and slow >> to & 1:
                    delay *= SLOW_FACTOR
                if self.drifting is not None:
                    delay = self.drifting.delay_s(sender, to, delay, now)
                at = since + delay
                if self.clogs:
                    at = self._behind_clog(sender, to, at)
                if self._fifo:
                    last = self._last[sender]
                    if to in last and at <= last[to]:
                        at = last[to] + EPSILON_S
                    last[to] = at
                sequence += 1
                heappush(heap, (at, sequence, nodes[to].receive, item, None))
                if self.duplication and random() < self.duplication:
                    self.duplicated += 1
                    again = delays[int(random() * DELAYS)] * AGAIN_FACTOR * (SLOW_FACTOR if slow >> to & 1 else 1.0)
                    sequence += 1
                    heappush(heap, (since + again, sequence, nodes[to].receive, item, None))
        world.sequence = sequence

    def _trace(self, event: str, item: Received, to: int) -> None:
        if self._world.tracing:
            self._world.trace(item.sender, event, to, item.message)

    def delay_s(self, sender: int, to: int) -> float:
        """What one message takes on a link that loses nothing."""
        delay = self._delays[int(self._random() * DELAYS)]
        return delay * SLOW_FACTOR if self._slow[sender] >> to & 1 else delay

    def _behind_clog(self, sender: int, to: int, at: float) -> float:
        until = self.clogs.get((sender, to))
        if until is None or until <= at:
            return at
        self.clogged += 1
        return until + (at - self._world.now)


def _slow_links(rng: Random, mix: Mix, nodes: int) -> list[int]:
    """By sender, the mask of those to whom its link is slow: a few links of an uneven network, and none of another."""
    masks = []
    for _ in range(nodes):
        slow = mask_of([to for to in range(nodes) if rng.random() < SLOW_LINKS])  # draws for an even network as well
        masks.append(slow if mix.uneven_links else 0)
    return masks


def _delays(rng: Random, mix: Mix) -> list[float]:
    """A table to pick delays from: a minimum, an exponential part, and now and then a long tail; or uniform ones."""
    random, least, rate, tail = rng.random, mix.delay_s_min, 1.0 / mix.delay_s_mean, mix.delay_tail
    if mix.delay_s_max is not None:
        return [rng.uniform(least, mix.delay_s_max) for _ in range(DELAYS)]
    delays = []
    for _ in range(DELAYS):
        delay = least - log(1.0 - random()) / rate  # as expovariate has it, which would be a call more for each
        if random() < tail:
            delay += rng.expovariate(1.0 / 0.3)
        delays.append(delay)
    return delays
