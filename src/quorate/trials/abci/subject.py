"""AppSubject: a chain whose nodes each have the built-in kvstore behind them.

What the app has committed outlives a crash of its node at most nodes, as an app of its own process would have it; at
one of them it begins anew each time, and is told all blocks again. Every call goes through a grammar checker.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from quorate.kernel import App, Rng
from quorate.ledger.comet.abci.contents import Misbehavior
from quorate.ledger.comet.abci.request_messages import Request
from quorate.machines.abci.kvstore import KVStoreApp
from quorate.parts.crypto.keys import Scheme
from quorate.protocols.tendermint.extension_liars import OF_EXTENSIONS
from quorate.protocols.tendermint.sync_liars import SYNC_LIARS
from quorate.sim.adversary.liar import Liar
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.workload import Results, Subject, Workload
from quorate.trials.abci.asked_app import AskedApp
from quorate.trials.abci.one_history import OneHistory
from quorate.trials.abci.submitting import MakesAttack, Submitting

SAME_STATE: Final = "all apps have one state"
FORGETFUL: Final = 1
"""The node whose app keeps nothing."""


class Lenient(KVStoreApp):
    """Who votes twice keeps his power, so that the validators stay those that the invariants count with."""

    def _punish(self, piece: Misbehavior, updates: dict[bytes, int]) -> None:
        """Nothing."""


class AppSubject(Subject):
    """``apps`` has all that were made, by node, one a life. ``attack``: on light clients, of which evidence is shown.

    ``make`` makes an app that has nothing yet.
    """

    history_class: ClassVar[type[OneHistory]] = OneHistory
    idle: ClassVar[tuple[type[Liar], ...]] = (*OF_EXTENSIONS, *SYNC_LIARS)
    """Liars that have nothing to lie about where there are such apps."""

    def __init__(self, make: Callable[[], KVStoreApp] = Lenient) -> None:
        self.history = self.history_class()
        self.apps: dict[int, list[AskedApp]] = {}
        self.attack: MakesAttack | None = None
        self.make = make
        self._kept: dict[int, KVStoreApp] = {}

    def app(self, node: int, rng: Rng) -> App:
        """With what it had kept."""
        state = copy.deepcopy(self._kept.get(node)) or self.make()

        def keep() -> None:
            if node != FORGETFUL:
                self._kept[node] = copy.deepcopy(state)

        made = AskedApp(state, keep)
        self.apps.setdefault(node, []).append(made)
        return made

    def workload(self, world: Any) -> Workload:
        """Clients."""
        return Submitting(world, self.history, self.attack)

    def checkers(self, protocol: Sequence[Checker], scheme: Scheme | None) -> list[Checker]:
        """That the blocks are one history, first."""
        return [self.history, *protocol]

    def converged(self, world: Any) -> bool:
        """Whether all honest nodes have applied the same, and then their apps are equal."""
        height = len(self.history.heights)
        if {self.history.reached[node.id] for node in world.honest} != {height}:
            return False
        apps = [(node.id, self.last_app(node.id)) for node in world.honest]
        if any(app.height != height for _, app in apps):
            return False  # one has committed a block of which its node has not heard yet
        first = apps[0][1]
        for node, app in apps:
            if (app.pairs, app.powers) != (first.pairs, first.powers):
                raise Violation(SAME_STATE, f"two apps differ after height {height}")
            self.history.check_kept(node, app.pairs, app.size)
            for life in self.apps[node]:
                self.history.check_told(node, life.calls)
        return True

    def last_app(self, node: int) -> KVStoreApp:
        """Of the node's newest life."""
        app = self.apps[node][-1].abci
        assert isinstance(app, KVStoreApp)
        return app

    def missing(self, world: Any) -> str:
        """How far the nodes are."""
        reached = [self.history.reached[node.id] for node in world.honest]
        return f"the nodes have applied up to {reached} of {len(self.history.heights)}"

    def calls(self, kind: type) -> list[Any]:
        """The requests of one type, to all apps in all lives."""
        return [
            call for lives in self.apps.values() for asked in lives for call in asked.calls if isinstance(call, kind)
        ]

    def results(self, world: Any) -> Results:
        """The blocks, and what apps were asked how often."""
        asked = Counter(_name(call) for lives in self.apps.values() for life in lives for call in life.calls)
        return Results(
            committed=len(self.history.heights),
            counts={"lives of apps": sum(map(len, self.apps.values())), **dict(sorted(asked.items()))},
            data=[block for block, _ in self.history.heights],
        )


def _name(call: Request) -> str:
    return type(call).__name__.removeprefix("Request")
