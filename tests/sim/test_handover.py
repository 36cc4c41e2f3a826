"""A node that stops in order and leads has another lead first, so that clients wait for no election timeout."""

from collections.abc import Sequence
from math import inf
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Core
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.leaderlog.handover import Handover
from quorate.protocols import REGISTRY
from quorate.protocols.multipaxos import MultiPaxos
from quorate.protocols.multipaxos.following import PREPARING
from quorate.protocols.raft import Raft
from quorate.sim.checkers.base import Violation
from quorate.sim.options import Options
from quorate.sim.run import simulate
from quorate.sim.swarm import Mix, draw
from quorate.sim.trial import Trial
from quorate.sim.world import World
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import subject

CORES: tuple[type[Core], ...] = (Raft, MultiPaxos)
OUTAGE_S_MAX = 0.15
"""Without a handover it is an election timeout, 0.6 s at least."""
BUSY = Mix(think_s=0.001, delay_s_min=0.003, delay_s_mean=0.001)
LEADS_S = 1.6
"""From then on somebody leads."""


def name_of(core: type[Core]) -> str:
    return "raft" if issubclass(core, Raft) else "multipaxos"


def trial_of(core: type[Core], seed: int, mix: Mix, nodes: int = 3, **more: Any) -> Trial:
    entry, equipment = REGISTRY[name_of(core)], equipment_of(name_of(core))
    make = entry.make(replace(equipment.simulation, **more), core)
    return Trial(make, subject("register"), Options(seed=seed, nodes=nodes), equipment.invariants, mix=mix)


def stopped(core: type[Core], seed: int, *, slow: bool = False, clients: int = 12) -> float:
    """The leader of five stops under load: for how long no write is answered around the time when another leads.

    ``slow``: the disk of one of its followers takes long for everything.
    """
    trial = trial_of(core, seed, replace(BUSY, clients=clients), 5)
    world = World(trial, trial.checkers())
    world.start()
    world.run_until(LEADS_S)
    leader = next(node for node in world.nodes if node.host.root.standing().was_elected)
    others = [node for node in world.nodes if node is not leader]
    if slow:
        others[0].disk.slowness = 1000.0
        world.run_until(world.now + 0.2)
    began_at = world.now
    leader.hand_over()
    while leader.host.root.standing().leader in (None, leader.id) and world.now < began_at + 1.0:
        world.run_until(world.now + 0.005)
    leader.switch_off()
    while not any(node.host.root.standing().was_elected for node in others):
        world.run_until(world.now + 0.005)
    leads_at = world.now
    world.run_until(leads_at + 0.5)
    ends = [event.time / 1e9 for event in world.workload.history if event.type == "ok" and event.f != "read"]
    return min((end for end in ends if end > leads_at), default=inf) - max(end for end in ends if end < leads_at)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("slow", [False, True], ids=["all well", "a follower behind"])
def test_clients_wait_for_no_election_timeout(core: type[Core], slow: bool) -> None:
    assert max(stopped(core, seed, slow=slow) for seed in (1, 2)) < OUTAGE_S_MAX


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
    slow = handover is AsksOneBehind
    found = (stopped(broken(core, handover), seed, slow=slow, clients=24) for seed in range(1, 6))
    assert any(outage_s > 2 * OUTAGE_S_MAX for outage_s in found)


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


def leased(core: type[Core], seed: int) -> None:
    """A leader hands over, and is cut off as soon as another node stands: it does not hear who leads then.

    A stale read takes one client that writes to the new leader, as the old one kept its last command for too long, and
    one that reads from the old one: there are many, of little patience. Raises Violation.
    """
    mix = Mix(clients=12, keys=1, think_s=0.02, timeout_s=0.08, delay_s_min=0.001, delay_s_mean=0.001)
    trial = trial_of(core, seed, mix, lease_s=0.6)
    world = World(trial, trial.checkers())
    world.start()
    world.run_until(LEADS_S)
    leader = next(node for node in world.nodes if node.host.root.standing().was_elected)

    def cut(node: int, root: Core) -> None:
        if root.standing().role == PREPARING:
            world.network.cuts = [0 if sender == leader.id else 1 << leader.id for sender in world.peers]

    world.on_step.append(cut)
    leader.hand_over()
    world.run_until(LEADS_S + 0.7)
    others = [node for node in world.nodes if node is not leader]
    assert any(node.host.root.standing().was_elected for node in others)
    assert leader.host.root.standing().leader == leader.id, "it does not know"
    world.on_step.remove(cut)
    world.heal()
    for checker in world.checkers:
        checker.finish(world)


LEASED = range(4)


def test_reads_by_lease_are_linearizable_though_a_leader_hands_over() -> None:
    for seed in LEASED:
        leased(MultiPaxos, seed)


def test_a_leader_that_reads_by_lease_while_it_hands_over_is_seen() -> None:
    seen = set()
    for seed in LEASED:
        try:
            leased(KeepsItsLease, seed)
        except Violation as violation:
            seen.add(violation.property)
    assert seen == {"linearizability"}
