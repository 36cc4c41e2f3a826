"""What a checker is: it watches a run and raises Violation at the first thing that must never happen.

Checkers are called often, so each looks only at what changed since it last looked.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any
from typing import Protocol as Interface

from quorate.kernel import Core, Turn
from quorate.sim.history.events import Event
from quorate.sim.options import Options


class Violation(Exception):
    """A property does not hold. ``property`` is its name, ``text`` says in words what was seen."""

    def __init__(self, property: str, text: str) -> None:
        super().__init__(f"{property}: {text}")
        self.property = property
        self.text = text

    def __reduce__(self) -> tuple[type[Violation], tuple[str, str]]:
        return (Violation, (self.property, self.text))


class Outside(Interface):
    """What came to the nodes from outside (``workload.py``)."""

    @property
    def history(self) -> Sequence[Event]:
        """What clients asked and were told, if that is to be checked."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What else happened, by name, and how often."""

    @property
    def acknowledged(self) -> Mapping[Hashable, Any]:
        """By identity, what clients were told is done."""


class Watched(Interface):
    """A run, as checkers see it (``ground.py``)."""

    @property
    def options(self) -> Options:
        """Under what it runs."""

    @property
    def honest(self) -> Sequence[Any]:
        """The nodes that are there and do not lie."""

    @property
    def workload(self) -> Outside:
        """What came from outside."""


class Checker:
    """Does nothing. ``node`` is a node's number, ``core`` its root core."""

    def watch(self, world: Watched) -> None:
        """The run that is to be watched; none of its nodes has started."""

    def started(self, node: int, core: Core) -> None:
        """A node began, perhaps again: all that was not durable is forgotten."""

    def lost(self, node: int) -> None:
        """A node that is down has lost all that was durable: what it promised it will not know."""

    def stepped(self, node: int, core: Core) -> None:
        """A node took a step."""

    def acted(self, node: int, core: Core, turn: Turn) -> None:
        """The Turn that a node made of a step, before anything of it leaves."""

    def mark(self, node: int) -> Any:
        """What the Turn that a node just made promises to others, if it leaves; None: nothing."""
        return None

    def released(self, node: int, mark: Any) -> None:
        """A Turn left the node, to others or to its App: what it rests on is durable, and ``mark`` is a promise."""

    def output(self, node: int, value: Any) -> None:
        """A node handed a value to its App."""

    def finish(self, world: Watched) -> None:
        """The run is over and healed."""


class Promises(Checker):
    """Several checkers that mark Turns, as one: their marks travel together."""

    def __init__(self, checkers: Sequence[Checker]) -> None:
        self._checkers = checkers

    def mark(self, node: int) -> tuple[Any, ...]:
        return tuple([checker.mark(node) for checker in self._checkers])

    def released(self, node: int, mark: tuple[Any, ...]) -> None:
        for checker, its in zip(self._checkers, mark, strict=True):
            if its is not None:
                checker.released(node, its)


def promises_of(checkers: Sequence[Checker]) -> Checker:
    """Those among them that mark Turns, as one; a checker that does nothing where none does."""
    marking = [checker for checker in checkers if type(checker).mark is not Checker.mark]
    if not marking:
        return Checker()
    return marking[0] if len(marking) == 1 else Promises(marking)
