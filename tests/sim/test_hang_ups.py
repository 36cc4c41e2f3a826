"""Nodes notice that the leader's process has ended, and do not depose one that lives."""

from random import Random

import pytest

from quorate.kernel import Core, HungUp
from quorate.protocols.raft import Raft
from quorate.protocols.raft.election import Election
from quorate.sim.node import SimNode
from quorate.sim.run import simulate
from quorate.sim.swarm import Mix, draw
from quorate.sim.world import World

from tests.sim.test_handover import BUSY, CORES, LEADS_S, trial_of

LEADERLESS_S_MAX = 0.3
"""Two heartbeats, and some round trips. By timeouts alone it is 0.5 s at least: 0.6 s less a heartbeat."""


def led(core: type[Core], seed: int, mix: Mix = BUSY) -> tuple[World, SimNode]:
    """Five nodes, and the one that leads."""
    trial = trial_of(core, seed, mix, 5)
    world = World(trial, trial.checkers())
    world.start()
    world.run_until(LEADS_S)
    return world, next(node for node in world.nodes if node.host.root.standing().was_elected)


def leaderless_s(core: type[Core], seed: int, *, noticed: bool) -> float:
    """How long nobody leads after the leader was killed; ``noticed``: its links end."""
    world, leader = led(core, seed)
    leader.switch_off()
    killed_at = world.now
    others = [node for node in world.nodes if node is not leader]
    world.run_until(world.now + 0.03)  # what was on its way arrives before the end of the link
    for node in others if noticed else ():
        node.put(HungUp(leader.id))
    while not any(node.host.root.standing().was_elected for node in others):
        world.run_until(world.now + 0.005)
    return world.now - killed_at


@pytest.mark.parametrize("core", CORES)
def test_a_leader_whose_process_ends_is_replaced_at_once(core: type[Core]) -> None:
    assert max(leaderless_s(core, seed, noticed=True) for seed in range(6)) < LEADERLESS_S_MAX
    assert min(leaderless_s(core, seed, noticed=False) for seed in range(6)) > LEADERLESS_S_MAX


def terms(core: type[Core], seed: int) -> int:
    """How many terms begin within three seconds, while one link after the other ends between the leader, which lives,
    and one of the others."""
    world, leader = led(core, seed)
    before = leader.host.root.standing().term
    rng = Random(seed)
    for _ in range(30):
        world.nodes[(leader.id + 1 + int(rng.random() * 4)) % 5].put(HungUp(leader.id))
        world.run_until(world.now + 0.1)
    return max(node.host.root.standing().term for node in world.nodes) - before


@pytest.mark.parametrize("core", CORES)
def test_a_leader_that_lives_is_not_deposed_by_links_that_end(core: type[Core]) -> None:
    assert [terms(core, seed) for seed in range(4)] == [0] * 4


class StandsAtOnce(Election):
    """Breaks §9.6: whoever sees the leader's link end asks first whether it could win."""

    def on_hung_up(self, node: int) -> None:
        """It begins a term."""
        if node == self.watch.leader:
            self._campaign()


def test_one_that_stands_unasked_is_seen() -> None:
    broken = type("Broken", (Raft,), {"election_class": StandsAtOnce})
    assert max(terms(broken, seed) for seed in range(4)) > 0


@pytest.mark.parametrize("core", CORES)
def test_all_holds_where_links_end_all_the_time(core: type[Core]) -> None:
    for seed in range(4):
        mix = draw(Random(f"{seed}/swarm"), ("partition", "crash", "network", "pause"))
        mix.members_every_s, mix.hang_ups, mix.hang_up_every_s = None, 1.0, 0.05
        outcome = simulate(trial_of(core, seed, mix, 5))
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"
