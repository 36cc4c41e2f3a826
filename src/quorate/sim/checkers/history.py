"""What the clients saw was linearizable: the history of a run against a sequential model."""

from __future__ import annotations

from quorate.sim.checkers.base import Checker, Violation, Watched
from quorate.sim.checkers.linearizability import check_linearizable
from quorate.sim.checkers.models import MODELS
from quorate.sim.history.events import Operation

LINEARIZABILITY = "linearizability"
STATES_MAX = 500_000


class LinearizableHistory(Checker):
    """``model`` is a name in ``models.MODELS``. ``undecided``: the search gave up, which proves nothing either way."""

    def __init__(self, model: str = "kv", states_max: int = STATES_MAX) -> None:
        self.undecided = False
        self._model = model
        self._states_max = states_max

    def finish(self, world: Watched) -> None:
        verdict = check_linearizable(world.workload.history, MODELS[self._model](), states_max=self._states_max)
        self.undecided = verdict.linearizable is None
        if verdict.linearizable is False:
            stuck = f"; {_text(verdict.stuck)} fits nowhere" if verdict.stuck is not None else ""
            states = ", ".join(repr(state) for state in verdict.states[:3])
            where = f", with the value {states}" if states else ""
            raise Violation(
                LINEARIZABILITY, f"what clients saw of {verdict.key} has no order that explains it{stuck}{where}"
            )


def _text(operation: Operation) -> str:
    asked = "" if operation.value is None else f" {operation.value!r}"
    return f"client {operation.process}'s {operation.f}{asked} (answer: {operation.output!r})"
