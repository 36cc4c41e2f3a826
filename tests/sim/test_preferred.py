"""Some nodes are preferred: they lead if they can, and others do if they cannot."""

from random import Random

import pytest

from quorate.kernel import Core
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.leaderlog.preference import Preference
from quorate.sim.node import SimNode
from quorate.sim.run import simulate
from quorate.sim.swarm import Mix, draw
from quorate.sim.world import World

from tests.sim.test_handover import BUSY, CORES, trial_of

PREFERRED = (3, 1)


def began(core: type[Core], seed: int, mix: Mix) -> World:
    """Five nodes, of which two are preferred, after some time."""
    trial = trial_of(core, seed, mix, 5, preferred=PREFERRED)
    world = World(trial, trial.checkers())
    world.start()
    world.run_until(3.0)
    return world


def leader_of(world: World) -> SimNode:
    """Of those that run, the one that all of them follow."""
    leaders = {node.host.root.standing().leader for node in world.nodes if node.up}
    assert len(leaders) == 1, leaders
    return world.nodes[leaders.pop() or 0]


@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(1, 3), marks=pytest.mark.slow)], ids=["one", "more"])
@pytest.mark.parametrize("core", CORES)
def test_the_preferred_lead_in_their_order_as_long_as_they_are_there(core: type[Core], seeds: range) -> None:
    for seed in seeds:
        world = began(core, seed, BUSY)
        for expected in (3, 1):
            assert leader_of(world).id == expected
            world.nodes[expected].switch_off()
            world.run_until(world.now + 3.0)
        assert leader_of(world).id in (0, 2, 4), "neither is there"
        for back in (1, 3):
            world.nodes[back].is_off = False
            world.nodes[back].restart()
            world.run_until(world.now + 12.0)
            assert leader_of(world).id == back
        world.heal()
        for checker in world.checkers:
            checker.finish(world)


@pytest.mark.parametrize("core", CORES)
def test_whoever_leads_makes_way_at_once(core: type[Core]) -> None:
    """Another is elected while the preferred node is cut off; when that is back nobody waits for an election."""
    world = began(core, 7, BUSY)
    everybody = 0b11111
    world.network.cuts = [everybody & ~(1 << 3) if node == 3 else 1 << 3 for node in world.peers]
    world.run_until(world.now + 3.0)
    assert leader_of_the_others(world).id == 1
    world.network.cuts = [0] * 5
    leaderless = 0
    while not world.nodes[3].host.root.standing().was_elected:
        world.run_until(world.now + 0.005)
        leaderless += not any(node.host.root.standing().was_elected for node in world.nodes)
    assert leaderless < 20, "a tenth of a second"
    world.run_until(world.now + 0.5)
    assert leader_of(world).id == 3


def leader_of_the_others(world: World) -> SimNode:
    """Of all but node 3."""
    return next(node for node in world.nodes if node.id != 3 and node.host.root.standing().was_elected)


class MakesNoWay(Preference):
    """Breaks the rule that a leader makes way for one that is preferred to it."""

    def better(self, followers: Followers, voters: int, last_index: int) -> int | None:
        return None


@pytest.mark.parametrize("core", CORES)
def test_a_leader_that_makes_no_way_is_seen(core: type[Core]) -> None:
    broken = type("Broken", (core,), {"preference_class": MakesNoWay})
    with pytest.raises(AssertionError):
        test_the_preferred_lead_in_their_order_as_long_as_they_are_there(broken, range(3))


def test_one_that_is_missed_makes_nobody_wait() -> None:
    config = LeaderConfig(preferred=(3, 1))
    assert [config.rank(node) for node in range(5)] == [2, 1, 2, 0, 2]
    assert [config.rank(node, missed=3) for node in range(5)] == [1, 0, 1, 0, 1]
    with pytest.raises(ValueError, match="name each node once"):
        LeaderConfig(preferred=(3, 3))


@pytest.mark.parametrize("core", CORES)
def test_all_holds_under_faults(core: type[Core]) -> None:
    for seed in range(4):
        mix = draw(Random(f"{seed}/swarm"), ("partition", "crash", "network", "pause", "clock"))
        mix.members_every_s = None
        outcome = simulate(trial_of(core, seed, mix, 5, preferred=PREFERRED))
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"
