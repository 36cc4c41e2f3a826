"""Farewell: when all else is healed, some nodes never come back, and the rest must do without them.

Who goes: every honest node that is not a member, if members can change and all nodes agree who they are, as an operator
was told then that these may be switched off; and as many members as can be spared. What remains restarts together in
most of these runs. A group that quietly needs a node that it has declared unnecessary, or whose minority must return
before it can go on, stands still.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from quorate.parts.log.configuration import Reconfigurable
from quorate.sim.ground import Ground
from quorate.sim.node import SimNode

SETTLED_S_MAX: Final = 20.0
"""How long nodes may take to agree who the members are; if they need more, none goes."""
POLL_S: Final = 0.05
AIMED: Final = 0.5
"""How often a node that leads is among those that go."""
RESTART_S: Final = 0.5
"""Within how long what remains restarts."""
QUIET: Final = 0.5
"""How often clients ask for nothing while nodes go."""
QUIET_S: Final = 2.0


class Farewell:
    """``borne(members)`` is how many of them can be spared, ``count(name)`` counts what happens.

    ``has_settled()`` says whether plans about members are over.
    """

    def __init__(
        self,
        world: Ground[SimNode],
        rng: Random,
        borne: Callable[[Sequence[int]], int],
        count: Callable[[str], None],
        hush: Callable[[float], None],
        has_settled: Callable[[], bool],
    ) -> None:
        self._world = world
        self._rng = rng
        self._borne = borne
        self._count = count
        self._hush = hush
        self._has_settled = has_settled

    def run(self) -> None:
        """Have nodes go, now that nothing else fails. Time passes."""
        world = self._world
        if self._rng.random() < QUIET:
            self._hush(float("inf"))
            world.run_until(world.now + self._rng.random() * QUIET_S)
        members = self._settled_members()
        if members is None:
            return
        outside = [node.id for node in world.honest if node.id not in members]
        for node in outside:
            self._count("decommissions")
            world.leave(node)
        for node in self._chosen(members):
            self._count("gone for good")
            world.die(node)
        if world.mix.restarts:
            self._restart()
        self._hush(0.0)

    def _settled_members(self) -> tuple[int, ...] | None:
        """Who votes; None if nodes differ about it for too long."""
        world = self._world
        if world.change is None:
            return world.peers
        end = world.now + SETTLED_S_MAX
        while world.now < end:
            said = set()
            for node in world.honest:
                core = node.host.root
                assert isinstance(core, Reconfigurable)
                said.add(core.in_force().voters)
            if len(said) == 1 and self._has_settled():
                voters = said.pop()
                if not voters.next_members:
                    return voters.members
            world.run_until(world.now + POLL_S)
        return None

    def _chosen(self, members: tuple[int, ...]) -> list[int]:
        """Which members go. Liars stay, and count as faulty."""
        world = self._world
        missing = sum(1 for node in members if node not in world.peers or world.liars >> node & 1)
        spared = self._borne(members) - missing
        there = [node for node in members if node in world.peers and not world.liars >> node & 1]
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
