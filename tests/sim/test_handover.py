"""A node that stops in order and leads has another lead first, so that clients wait for no election timeout."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Core
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.leaderlog.handover import Handover
from quorate.protocols import REGISTRY
from quorate.protocols.multipaxos import MultiPaxos
from quorate.protocols.raft import Raft
from quorate.sim.options import Options
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.swarm import Mix, draw
from quorate.sim.trial import Trial
from quorate.sim.world import World
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import subject

CORES: tuple[type[Core], ...] = (Raft, MultiPaxos)
OUTAGE_S_MAX = 0.15
"""Without a handover it is an election timeout, 0.6 s at least."""
PATIENT = Mix(clients=8, think_s=0.002, delay_s_min=0.003, delay_s_mean=0.001)
LEADS_S = 3.0
"""From then on somebody leads."""


def name_of(core: type[Core]) -> str:
    return "raft" if issubclass(core, Raft) else "multipaxos"


def trial_of(core: type[Core], seed: int, mix: Mix, nodes: int = 3, **more: Any) -> Trial:
    entry, equipment = REGISTRY[name_of(core)], equipment_of(name_of(core))
    make = entry.make(replace(equipment.simulation, **more), core)
    return Trial(make, subject("register"), Options(seed=seed, nodes=nodes), equipment.invariants, mix=mix)


def stopped(core: type[Core], seed: int = 1, *, slow: bool = False) -> tuple[World, float]:
    """The leader stops under load, and the longest time from then on in which no write was answered.

    ``slow``: the disk of one of its followers takes long for everything.
    """
    trial = trial_of(core, seed, PATIENT)
    world = World(trial, trial.checkers())
    world.start()
    world.run_until(LEADS_S)
    leader = next(node for node in world.nodes if node.host.root.standing().was_elected)
    if slow:
        next(node for node in world.nodes if node is not leader).disk.slowness = 500.0
        world.run_until(world.now + 0.3)
    began_at = world.now
    leader.hand_over()
    while leader.host.root.standing().leader in (None, leader.id) and world.now < began_at + 1.0:
        world.run_until(world.now + 0.005)
    leader.switch_off()
    world.run_until(began_at + 3.0)
    ends = [event.time / 1e9 for event in world.workload.history if event.type == "ok" and event.f != "read"]
    times = [began_at, *sorted(time for time in ends if time > began_at)]
    return world, max(after - before for before, after in zip(times, times[1:], strict=False))


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("slow", [False, True], ids=["all well", "a follower behind"])
def test_clients_wait_for_no_election_timeout(core: type[Core], slow: bool) -> None:
    _, outage_s = stopped(core, slow=slow)
    assert outage_s < OUTAGE_S_MAX


class KeepsTaking(Handover):
    """Breaks §3.10: a leader that hands over takes no new values, or nobody ever holds all that it has."""

    def takes(self, values: Sequence[bytes]) -> bool:
        return False


class AsksOneBehind(Handover):
    """Breaks §3.10: the one that is asked to lead holds all."""

    def _ask_one(self, followers: Followers, members: int, last_index: int) -> None:
        self._was_asked = True
        self._ask(min(followers, key=lambda node: followers.match[node]))

    def settle(self, followers: Followers, members: int, last_index: int, *, is_quiet: bool) -> None:
        super().settle(followers, members, last_index, is_quiet=True)


def broken(core: type[Core], handover: type[Handover]) -> type[Core]:
    return type("Broken", (core,), {"handover_class": handover})


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("handover", [KeepsTaking, AsksOneBehind])
def test_a_handover_that_breaks_its_rules_is_seen(core: type[Core], handover: type[Handover]) -> None:
    _, outage_s = stopped(broken(core, handover), slow=handover is AsksOneBehind)
    assert outage_s > 2 * OUTAGE_S_MAX


# --- under faults ---


def stops(seed: int) -> Mix:
    """The seed's own mix, in which nodes stop in order all the time."""
    mix = draw(Random(f"{seed}/swarm"), ("partition", "crash", "network", "pause"))
    mix.members_every_s, mix.stop_every_s = None, 0.5
    return mix


@pytest.mark.parametrize("core", CORES)
def test_all_holds_where_nodes_stop_all_the_time(core: type[Core]) -> None:
    handed = 0
    for seed in range(4):
        outcome = simulate(trial_of(core, seed, stops(seed), 5))
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"
        handed += outcome.counts.get("handed over", 0)
    assert handed > 10


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_all_holds_in_many_runs_where_nodes_stop_all_the_time(core: type[Core]) -> None:
    for seed in range(100, 160):
        outcome = simulate(trial_of(core, seed, stops(seed), 5))
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"


# --- leases ---


class KeepsItsLease(MultiPaxos):
    """Breaks the rule that a leader gives up its lease before it asks another to lead."""

    def _give_up_lease(self) -> None:
        """It reads on."""


def leased(core: type[Core], seed: int) -> RunOutcome:
    """Nodes that lead stop all the time, and are cut off often, so that they do not hear who leads now.

    A stale read takes one client that writes to the new leader and one that reads from the old one: there are many.
    """
    mix = draw(Random(f"{seed}/swarm"), ("partition", "clock"))
    mix.jump_s_max, mix.members_every_s, mix.stop_every_s = 0.0, None, 0.3
    mix.delay_tail, mix.coup = 0.0, 0.0
    mix.delay_s_min, mix.delay_s_mean, mix.uneven_links = 0.001, 0.03, True
    mix.partition_every_s, mix.partition_s = 0.6, 0.3
    mix.clients, mix.keys, mix.think_s, mix.timeout_s = 16, 1, 0.05, 0.1
    return simulate(trial_of(core, seed, mix, 5, lease_s=0.5))


LEASED = range(6)


def test_reads_by_lease_are_linearizable_though_leaders_hand_over() -> None:
    for seed in LEASED:
        outcome = leased(MultiPaxos, seed)
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"


def test_a_leader_that_reads_by_lease_while_it_hands_over_is_seen() -> None:
    assert any(leased(KeepsItsLease, seed).violated == "linearizability" for seed in LEASED)
