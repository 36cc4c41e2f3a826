"""Farewell: when all else is healed, some nodes never come back, and the rest must do without them.

How it works. Where members can change, an operator has every node that is not a member leave, and perhaps some members
as well, often while no client asks for anything; when all that stay say that this is in force, those are switched off.
Then as many members as can be spared die. What remains restarts together in most of these runs. A group that quietly
needs a node which it has declared unnecessary, or whose minority must return before it can go on, stands still.

No member dies where the nemesis has named any members it liked: such a change names no epoch, so a leader that finds it
with one acceptor may still have it decided, and the dead would be members again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from quorate.sim.checkers.base import Violation
from quorate.sim.ground import Ground
from quorate.sim.node import SimNode
from quorate.sim.operator import Operator

POLL_S: Final = 0.05
AIMED: Final = 0.5
"""How often a node that leads is among those that die."""
RESTART_S: Final = 0.5
"""Within how long what remains restarts."""
QUIET: Final = 0.6
"""How often clients ask for nothing while nodes go."""
QUIET_S: Final = 2.0
LIVENESS: Final = "liveness"


class Farewell:
    """``borne(members)`` is how many of them can be spared, ``count(name)`` counts what happens.

    ``operator`` changes members; None where they cannot be changed. ``has_settled()`` says whether earlier plans about
    members are over.
    """

    def __init__(
        self,
        world: Ground[SimNode],
        rng: Random,
        borne: Callable[[Sequence[int]], int],
        operator: Operator | None,
        count: Callable[[str], None],
        hush: Callable[[float], None],
        has_settled: Callable[[], bool],
    ) -> None:
        self._world = world
        self._rng = rng
        self._borne = borne
        self._operator = operator
        self._count = count
        self._hush = hush
        self._has_settled = has_settled

    def run(self) -> None:
        """Have nodes go, now that nothing else fails. Time passes. Raises Violation."""
        world = self._world
        if self._rng.random() < QUIET:
            self._hush(float("inf"))
            world.run_until(world.now + self._rng.random() * QUIET_S)
        if not self._await_plans():
            return
        if self._operator is not None:
            self._see_off(self._operator)
        if world.mix.members_every_s is None or world.change is None:
            members = world.peers if self._operator is None else self._operator.members
            for node in self._chosen(members):
                self._count("gone for good")
                world.die(node)
        if world.mix.restarts:
            self._restart()
        self._hush(0.0)

    def _await_plans(self) -> bool:
        """Whether earlier plans are over in time; if not, that is for the check of liveness to say."""
        world = self._world
        end = world.now + world.options.healing_s
        while world.now < end and not self._has_settled():
            world.run_until(world.now + POLL_S)
        return self._has_settled()

    def _see_off(self, operator: Operator) -> None:
        """A node that is far behind gets a snapshot only if that arrives before others take its place. Under load that
        may be never, which is a limit that protocols state; so clients fall silent when half of the time is over."""
        world = self._world
        begin, healing_s = world.now, world.options.healing_s
        is_quiet = False
        for delay_s in operator.see_off():
            if world.now >= begin + healing_s:
                raise Violation(LIVENESS, f"{healing_s:g} s after all was healed nodes cannot leave yet")
            if not is_quiet and world.now >= begin + healing_s / 2:
                is_quiet = True
                self._hush(float("inf"))
            world.run_until(world.now + delay_s)

    def _chosen(self, members: Sequence[int]) -> list[int]:
        """Which members die. Liars stay, and count as faulty."""
        world = self._world
        there = [node for node in members if node in world.peers and not world.liars >> node & 1]
        spared = self._borne(members) - (len(members) - len(there))
        self._rng.shuffle(there)
        if self._rng.random() < AIMED:
            there.sort(key=lambda node: not world.nodes[node].host.root.standing().was_elected)
        return there[: max(0, spared)]

    def _restart(self) -> None:
        world = self._world
        self._count("restart of the rest")
        for node in world.present:
            if node.up:
                node.crash()
        for node in world.present:
            world.after(self._rng.random() * RESTART_S, node.restart)
        world.run_until(world.now + RESTART_S)
