"""LyingNode: a SimNode whose Turns and answers pass through an Adversary, and at which no checker looks.

Its honest half may come to believe what no correct node would, as it hears answers to what it never said to itself. If
that makes it raise, the node is down from then on, which is one more thing that a Byzantine node may be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from quorate.kernel import Meet, Received, Requester, RosterChange, Turn
from quorate.sim.adversary.actor import Adversary
from quorate.sim.adversary.liar import Liar, Means, Resign
from quorate.sim.ground import Ground
from quorate.sim.node import SimNode
from quorate.sim.options import OptionsError


class LyingNode(SimNode):
    """``means.told`` counts its lies."""

    def __init__(
        self, world: Ground[SimNode], node: int, seed: str, liars: Sequence[type[Liar]], resign: Resign
    ) -> None:
        super().__init__(world, node, seed)
        keys = None if world.scheme is None else world.scheme.keys(node)
        self.means = Means(node, world.peers, Random(f"{seed}/adversary/{node}"), keys, resign)
        self.adversary = Adversary(liars, self.means, laggards=world.mix.snags is not None)
        self.fell: str = ""
        """What its honest half raised."""
        self._checkers = ()
        self._on_output = []
        self._on_step = []
        self._on_turn = []
        self._mark = _nothing

    def start(self) -> None:
        """Begin a life, unless it fell."""
        if not self.fell:
            self._try(super().start)

    def receive(self, item: Received, _: Any) -> None:
        """Hear it, and take it."""
        if self.up:
            self.adversary.hear(item)
        super().receive(item, _)

    def reply(self, client: Requester, response: Any) -> None:
        """What the Adversary makes of an answer."""
        response = self.adversary.answer(response)
        if response is not None:
            super().reply(client, response)

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        """As any node, but what it raises is its own affair."""
        super().after(delay_s, lambda: self._try(act))

    def _go(self) -> None:
        self._try(super()._go)

    def _synced(self, sequence: int) -> None:
        self._try(lambda: super(LyingNode, self)._synced(sequence))

    def acting(self) -> Callable[[Turn], None]:
        """What the Adversary makes of it."""
        return self._lie

    def _lie(self, turn: Turn) -> None:
        self.shell.act(self.adversary.act(turn, self.world.now, self.host.root))
        delayed, self.means.delayed = self.means.delayed, []
        for delay_s, send in delayed:
            self.world.after(delay_s, lambda send=send: self.world.network.send(self.id, (send,)))  # type: ignore[misc]

    def change_roster(self, change: RosterChange) -> None:
        """Its lies follow."""
        super().change_roster(change)
        means = self.means
        means.others = self.host.roster.others
        if isinstance(change, Meet) and change.node is not None and means.keys is not None:
            means.keys = means.keys.knowing(change.node, change.key)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OptionsError:  # not its honest half's
            raise
        except Exception as error:  # whatever a half that was lied around may raise
            self.fell = f"{type(error).__name__}: {error}"
            if self.world.tracing:
                self.world.trace(self.id, "fell", "", self.fell)
            self.crash()


def _nothing(node: int) -> None:
    """A liar promises nothing."""
