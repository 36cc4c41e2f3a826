"""Twins in a World: a Byzantine node as two honest copies with one key (Bano and others, arXiv 2004.10617).

Each of the others is on one side, or on both, for a while. The copy of that side hears it and speaks to it. Both copies
have disks, clocks and Apps of their own; crashes and pauses strike both. ``sim/twins`` is the same without chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final

import msgspec

from quorate.kernel import Received, Requester, Send, Turn
from quorate.sim.adversary.doubled import Doubled
from quorate.sim.adversary.liar import Means, Resign, to_others
from quorate.sim.adversary.lying_node import LyingNode
from quorate.sim.ground import Ground
from quorate.sim.node import SimNode

EVERY_S: Final = 1.0
"""How long the others are on their sides, on average."""
ON_BOTH: Final = 0.2


class Sides:
    """Who is on which side of a pair of twins, by chance and for a while."""

    def __init__(self, rng: Random, means: Means) -> None:
        self._rng = rng
        self._means = means
        self._until = 0.0
        self._masks = [0, 0]

    def has(self, side: int, node: int, now: float) -> bool:
        """Whether the twin of this side and that node hear each other."""
        if now >= self._until:
            self._until = now + EVERY_S * (0.1 + 2.0 * self._rng.random())
            self._masks = [0, 0]
            for other in self._means.others:
                first = int(self._rng.random() * 2)
                self._masks[first] |= 1 << other
                if self._rng.random() < ON_BOTH:
                    self._masks[1 - first] |= 1 << other
        return bool(self._masks[side] >> node & 1)


class Copy(LyingNode):
    """One of the two."""

    def __init__(
        self, world: Ground[SimNode], node: int, seed: str, resign: Resign, sides: Sides | None, side: int
    ) -> None:
        super().__init__(world, node, f"{seed}/twin {side}" if side else seed, (), resign)
        self.place = -1 - node if side else node  # numbers above are those of nodes that join
        self.side = side
        self.sides = sides or Sides(Random(f"{seed}/sides/{node}"), self.means)

    def hear(self, item: Received) -> None:
        """What this side's nodes say."""
        if item.sender == self.id or self.sides.has(self.side, item.sender, self.world.now):
            super().receive(item, None)

    def _lie(self, turn: Turn) -> None:
        super()._lie(msgspec.structs.replace(turn, early=self._mine(turn.early), sends=self._mine(turn.sends)))

    def _mine(self, sends: Sequence[Send]) -> list[Send]:
        """To this side's nodes alone. What one says to itself its twin does not hear."""
        mine = []
        for send in sends:
            others, own = to_others(send, self.id)
            if own is not None:
                if self.side:
                    item = Received(self.id, send.message, send.path)
                    self.world.after(0.0, lambda item=item: self.hear(item))  # type: ignore[misc]
                else:
                    mine.append(own)
            if others is None:
                continue
            to = tuple(node for node in others.to if self.sides.has(self.side, node, self.world.now))
            if len(to) < len(others.to):
                self.means.count(Doubled.name)
            if to:
                mine.append(Send(to, send.path, send.message))
        return mine


class Twin(Copy):
    """The first of the two, which is in the World's list, and brings the second along."""

    def __init__(self, world: Ground[SimNode], node: int, seed: str, resign: Resign) -> None:
        super().__init__(world, node, seed, resign, None, 0)
        self.other = Copy(world, node, seed, resign, self.sides, 1)
        self.other.means.told = self.means.told  # counted together

    def start(self) -> None:
        """Both."""
        super().start()
        self.other.restart()

    def crash(self) -> None:
        """Both."""
        super().crash()
        if self.other.up:
            self.other.crash()

    def pause(self) -> None:
        """Both."""
        super().pause()
        self.other.pause()

    def resume(self) -> None:
        """Both."""
        super().resume()
        if self.other.up:
            self.other.resume()

    def stall(self, why: str | None) -> None:
        """The disks of both."""
        super().stall(why)
        self.other.stall(why)

    def set_clock(self, rate: float, jump: float) -> None:
        """The clocks of both."""
        super().set_clock(rate, jump)
        self.other.set_clock(rate, jump)

    def receive(self, item: Received, _: Any) -> None:
        """To whichever of them hears it."""
        self.hear(item)
        self.other.hear(item)

    def request(self, client: Requester, request: Any) -> None:
        """Clients speak to both, and get answers of both."""
        super().request(client, request)
        self.other.request(client, request)
