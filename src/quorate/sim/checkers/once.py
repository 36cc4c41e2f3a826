"""Once: no operation of a client takes effect twice, however often it was sent, ordered or repeated."""

from __future__ import annotations

from collections.abc import Callable

from quorate.kernel import App
from quorate.sim.checkers.base import Checker, Violation, Watched

ONCE = "once"


class Once(Checker):
    """Asks, in the end, what each node ``repeated``. Operations have values that are never used twice."""

    def __init__(self, repeated: Callable[[App], str | None]) -> None:
        self._repeated = repeated

    def finish(self, world: Watched) -> None:
        for node in world.honest:
            repeated = self._repeated(node.app)
            if repeated is not None:
                raise Violation(ONCE, f"node {node.id} executed {repeated} twice")
