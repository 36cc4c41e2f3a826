"""Liars that say nothing false: they say nothing, or say it late. To others they look like crashed nodes."""

from __future__ import annotations

from collections.abc import Iterable

from quorate.kernel import Send
from quorate.sim.adversary.liar import Liar, Means


class Silent(Liar):
    """Silent towards all, towards some, or now and then."""

    name = "silent"
    summary = "says nothing, to all, to some, or now and then"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        draw = means.rng.random()
        self.victims = means.others if draw < 0.5 else means.some(means.others)
        self.share = 1.0 if draw < 0.75 else means.rng.uniform(0.1, 0.9)

    def tell(self, send: Send) -> Iterable[Send]:
        """To whom it still speaks."""
        to = tuple(node for node in send.to if node not in self.victims or not self.means.chance(self.share))
        if len(to) < len(send.to):
            self.means.count(self.name)
        if to:
            yield Send(to, send.path, send.message)


class Slow(Liar):
    """Says everything later than it should, some or all of it."""

    name = "slow"
    summary = "says it late"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.share = means.rng.uniform(0.2, 1.0)
        self.delay_s_max = 0.002 * 500 ** means.rng.random()  # 2 ms to 1 s

    def tell(self, send: Send) -> Iterable[Send]:
        """Nothing now; each recipient hears it in its own time."""
        if not self.means.chance(self.share):
            return (send,)
        self.means.count(self.name)
        for to in send.to:
            delay_s = self.means.rng.random() * self.delay_s_max
            self.means.delayed.append((delay_s, Send((to,), send.path, send.message)))
        return ()
