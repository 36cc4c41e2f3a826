"""Strikes: what befalls nodes at the moment when new members are in force, or are about to be.

How it works. After every step it looks whether the node says that another epoch is in force. The first that says so
shows the moment at which two groups of nodes may both think that it is theirs to decide: one that has not heard, and
one that has. So a new member restarts at once, cut off from the node that led; or old and new members are parted.

Where a change counts before it is decided, as in Raft's joint consensus, the moment is an earlier one: a leader goes by
old and new members together. Then a majority of the old ones is parted from one of the new, and the leader is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from quorate.kernel import Core, mask_of
from quorate.parts.log.configuration import Reconfigurable, Voters
from quorate.sim.ground import Ground
from quorate.sim.node import SimNode

DOWN_S: Final = (0.005, 0.1)
"""How long a new member is down: less than most leases last."""
PARTED_S: Final = (0.3, 2.0)
JOINT_PARTED_S: Final = (1.0, 4.0)
"""Long enough for an election on either side."""
LOST = "seeds that lost a joint leader"
LOST_PARTED = "seeds that lost a joint leader with the majorities parted"


class Strikes:
    """``cut(cuts)`` cuts links by sender, and what it returns mends them; ``crash(node)`` crashes without a restart."""

    def __init__(
        self,
        world: Ground[SimNode],
        rng: Random,
        cut: Callable[[list[int]], Callable[[], None]],
        count: Callable[[str], None],
    ) -> None:
        self._world = world
        self._rng = rng
        self._cut = cut
        self._count = count
        self._is_over = False
        self._newest = 0
        self._decided = 0
        self._before: tuple[int, ...] = ()
        self._own = Random(f"{world.seed}/nemesis/strikes/joint")
        """Apart, so that runs in which no change counts early are what they were."""
        self._joint = 0
        """The newest epoch in which a leader was seen to go by old and new members together."""
        self._joint_term: int | None = None
        """Of such a leader, until it is lost or goes on to the new members."""
        self._was_parted = False
        """Whether the majorities were parted since it went by both."""
        self._counted: set[str] = set()

    def start(self) -> None:
        """Look from now on."""
        self._world.on_step.append(self._look)

    def finish(self) -> None:
        """All is healed."""
        self._is_over = True

    def _look(self, node: int, core: Core) -> None:
        if self._is_over or self._world.liars >> node & 1:
            return
        assert isinstance(core, Reconfigurable)
        voters, acting = core.in_force().voters, core.acting()
        if self._joint_term is not None or acting != voters:
            self._look_at_leader(node, core, acting)
        if voters.next_members:
            if voters.epoch > self._decided:
                self._decided = voters.epoch
                if self._rng.random() < self._world.mix.strikes:
                    self._strike_early(voters)
        elif voters.epoch > self._newest:
            before, self._newest, self._before = self._before, voters.epoch, voters.members
            if before and self._rng.random() < self._world.mix.strikes:
                self._strike(before, voters)

    # --- while a leader goes by old and new members together ---

    def _look_at_leader(self, node: int, core: Core, acting: Voters) -> None:
        standing = core.standing()
        if standing.leader != node:
            return
        if self._joint_term is not None and standing.term > self._joint_term:
            self._count_once(LOST)
            if self._was_parted:
                self._count_once(LOST_PARTED)
            self._joint_term, self._was_parted = None, False
        if not acting.next_members:
            if standing.term == self._joint_term:
                self._joint_term, self._was_parted = None, False
            return
        self._joint_term = standing.term
        if acting.epoch > self._joint:
            self._joint = acting.epoch
            if self._own.random() < self._world.mix.strikes:
                self._strike_joint(node, acting)

    def _strike_joint(self, leader: int, voters: Voters) -> None:
        """Now, or when some of the others have it in their logs too."""
        world, mix, rng = self._world, self._world.mix, self._own
        delay_s = (
            rng.choice((0.0, 1.0, 1.0)) * rng.uniform(0.0, 3.0) * (mix.delay_s_min + mix.delay_s_mean + mix.sync_s)
        )
        if "partition" in world.options.faults:
            world.after(delay_s, lambda: None if self._is_over else self._part_majorities(leader, voters))
        if "crash" in world.options.faults and rng.random() < 0.6:
            node = world.nodes[leader]
            world.after(delay_s, lambda: None if self._is_over else self._restart_leader(node))

    def _part_majorities(self, leader: int, voters: Voters) -> None:
        """Those who stay are dealt out so that, where it can be, each side has a majority of its own members."""
        rng = self._own
        stay = [node for node in voters.members if node in voters.next_members]
        new = [node for node in voters.next_members if node not in voters.members]
        rng.shuffle(stay)
        lacking = max(0, len(voters.next_members) // 2 + 1 - len(new))
        side = mask_of([*new, *stay[: min(lacking, len(stay))]])
        if rng.random() < 0.3:
            side ^= 1 << leader
        self._count("majorities parted")
        self._was_parted = self._joint_term is not None
        self._world.after(rng.uniform(*JOINT_PARTED_S), self._cut(self._cuts(side, 0.0)))

    def _restart_leader(self, node: SimNode) -> None:
        if node.up and node in self._world.present:
            self._count("joint leaders struck")
            node.crash()
            self._world.after(self._own.uniform(0.1, 2.0), node.restart)

    def _count_once(self, name: str) -> None:
        """In a run."""
        if name not in self._counted:
            self._counted.add(name)
            self._count(name)

    # --- when it is decided, and when it is in force ---

    def _strike_early(self, voters: Voters) -> None:
        """Now that a change is decided, and not in force."""
        can_mute = "crash" in self._world.options.faults and "partition" in self._world.options.faults
        if can_mute and self._rng.random() < 0.6:
            self._mute(voters.next_members)
        elif self._rng.random() < 0.5:
            self._after(lambda: self._part(voters.members, voters.next_members))

    def _mute(self, members: tuple[int, ...]) -> None:
        """New members hear all and are not heard, and one of them restarts when it has heard that its time has come.

        So whoever led does not hear that others go on without it.
        """
        world, mix = self._world, self._world.mix
        new = [node for node in members if not world.nodes[node].host.root.standing().was_elected]
        if not new:
            return
        self._count("members not heard")
        side, everybody = mask_of(new), (1 << len(world.nodes)) - 1
        cuts = [everybody & ~side if side >> node & 1 else 0 for node in range(len(world.nodes))]
        world.after(self._rng.uniform(*PARTED_S), self._cut(cuts))
        delay_s = self._rng.uniform(1.0, 8.0) * (mix.delay_s_min + mix.delay_s_mean + mix.sync_s)
        world.after(delay_s, lambda: None if self._is_over else self._restart(tuple(new)))

    def _strike(self, before: tuple[int, ...], voters: Voters) -> None:
        """Now that others are in force."""
        if self._rng.random() < 0.5 and "crash" in self._world.options.faults:
            self._after(lambda: self._restart(voters.members))
        else:
            self._after(lambda: self._part(before, voters.members))

    def _after(self, act: Callable[[], None]) -> None:
        """At once, or when some messages more have arrived."""
        mix = self._world.mix
        delay_s = self._rng.choice((0.0, 1.0)) * self._rng.uniform(0.0, 4.0) * (mix.delay_s_min + mix.delay_s_mean)
        self._world.after(delay_s, lambda: None if self._is_over else act())

    def _restart(self, members: tuple[int, ...]) -> None:
        """A new member, out of reach of the others for a while."""
        world = self._world
        node = world.nodes[self._rng.choice(members)]
        if not node.up or node not in world.present:
            return
        self._count("members struck")
        if "partition" in world.options.faults:
            self._isolate(1 << node.id, 0.0)
        node.crash()
        world.after(self._rng.uniform(*DOWN_S), node.restart)

    def _part(self, before: tuple[int, ...], members: tuple[int, ...]) -> None:
        """Those that are new, and perhaps some of those that stay, from the rest."""
        new = [node for node in members if node not in before]
        stay = [node for node in members if node in before]
        side = mask_of([*new, *(node for node in stay if self._rng.random() < 0.3)])
        if side and "partition" in self._world.options.faults:
            self._count("members parted")
            self._isolate(side, self._rng.random())

    def _isolate(self, side: int, way: float) -> None:
        """Cut links between these nodes and the rest: both ways below 0.5, else one."""
        self._world.after(self._rng.uniform(*PARTED_S), self._cut(self._cuts(side, way)))

    def _cuts(self, side: int, way: float) -> list[int]:
        count = len(self._world.nodes)
        cuts = [0] * count
        for node in range(count):
            is_inside = bool(side >> node & 1)
            if way < 0.5 or is_inside == (way < 0.75):
                cuts[node] = (1 << count) - 1 & ~side if is_inside else side
        return cuts
