"""Catching up: a node that was away holds what the others hold a while after its return, though clients go on.

It is for runs in which nothing fails but what the test has fail: a node that is cut off has no way to catch up.
"""

from __future__ import annotations

from typing import Any

from quorate.kernel import Core
from quorate.sim.checkers.base import Checker, Violation

CATCHING_UP = "catching up"


class CatchingUp(Checker):
    """Within ``within_s`` of its start a node has been no more than ``lag_max`` entries behind the first.

    The world checks nothing while it is quiet, so this looks whenever a node takes a step.
    """

    def __init__(self, within_s: float, lag_max: int) -> None:
        self._within_s = within_s
        self._lag_max = lag_max
        self._due: dict[int, float] = {}
        """By node, until when it must have caught up; who has is not here."""
        self.caught_up = 0
        """How often one has."""

    def watch(self, world: Any) -> None:
        """Keep it, for its clock."""
        self._world = world

    def started(self, node: int, core: Core) -> None:
        """A new life."""
        self._due[node] = self._world.now + self._within_s

    def stepped(self, node: int, core: Core) -> None:
        """Any node's step is an occasion to look at all."""
        if not self._due:
            return
        world = self._world
        applied = {member.id: member.applied for member in world.honest if member.up}
        first = max(applied.values())
        for late, due in list(self._due.items()):
            if late not in applied:
                del self._due[late]  # it went away again
            elif first - applied[late] <= self._lag_max and applied[late] > 0:
                del self._due[late]
                self.caught_up += 1
            elif world.now > due:
                raise Violation(
                    CATCHING_UP,
                    f"{self._within_s:g} s after its start node {late} has applied {applied[late]} of {first} entries, "
                    "while clients go on",
                )
