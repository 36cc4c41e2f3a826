"""Reads by lease under faults. Clocks drift by up to a tenth; they are not set, as a lease cannot bear that.

A node that gives no lease, or forgets in a restart that it gave one, breaks something too seldom for a campaign (not in
250 seeds of Multi-Paxos). Those two rules have tests of one step: ``tests/protocols/multipaxos/test_leaders.py``,
``tests/protocols/raft/test_leases.py``.
"""

from math import inf
from random import Random

import pytest
from msgspec.structs import replace

from quorate.kernel import Core
from quorate.parts.leaderlog.lease import Lease
from quorate.parts.log import configuration
from quorate.protocols import REGISTRY
from quorate.protocols.raft import Raft
from quorate.protocols.raft.election import Election
from quorate.protocols.raft.messages import RequestVote
from quorate.protocols.raft.mutants import RaftLeasesTooLong
from quorate.protocols.raft.replication import LogReplication
from quorate.sim.checkers.base import Violation
from quorate.sim.node import SimNode
from quorate.sim.options import FAULTS, MemberChange, Options
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.swarm import Mix, draw
from quorate.sim.trial import Trial
from quorate.sim.world import World
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import subject

CHANGE = MemberChange(configuration.encode_change)
DEPOSED = range(20)
"""Of these several show a lease that ends too late, in each protocol."""
LATE = range(36, 44)
"""Of these one shows a lease that counts from too late."""
PROTOCOLS = ("raft", "multipaxos")
LEASE_S = 0.5
LEADS_S = 1.6
"""From then on somebody leads."""
CLOSE = Mix(clients=12, keys=1, think_s=0.02, timeout_s=0.08, delay_s_min=0.001, delay_s_mean=0.001)


class NeverEndingLease(Lease):
    """Breaks the bound: a lease lasts as long as whoever gave it keeps it, and that again and again."""

    def __init__(self, lease_s: float, drift: float) -> None:
        super().__init__(lease_s * 8, drift)


def swarm(seed: int) -> Mix:
    """The seed's own mix of faults, but no clock is set."""
    mix = draw(Random(f"{seed}/swarm"), FAULTS)
    mix.jump_s_max = 0.0
    return mix


def deposed(seed: int) -> Mix:
    """Leaders are cut off for longer than a lease, and clients are of two kinds then.

    A stale read needs both in the half second until the old leader steps down: one that writes to the new leader, as it
    soon gave the old one up, and one that reads from the old leader, as it has asked for no write since. So there are
    many clients, each with little to do and little patience.
    """
    mix = draw(Random(f"{seed}/swarm"), ("partition", "clock"))
    mix.jump_s_max = 0.0
    mix.partition_every_s, mix.partition_s, mix.coup = 1.0, 1.5, 0.3
    mix.members_every_s = None
    mix.clients, mix.keys, mix.think_s, mix.timeout_s = 12, 1, 0.3, 0.1
    return mix


def trial_of(protocol: str, seed: int, mix: Mix, lease_s: float = LEASE_S, core: type[Core] | None = None) -> Trial:
    """One seed, with reads by lease."""
    entry, equipment = REGISTRY[protocol], equipment_of(protocol)
    return Trial(
        entry.make(replace(equipment.simulation, lease_s=lease_s), core),
        subject("register"),
        Options(seed=seed),
        equipment.invariants,
        change=CHANGE if entry.traits.members.can_change else None,
        mix=mix,
    )


def run(protocol: str, seed: int, mix: Mix, core: type[Core] | None = None) -> RunOutcome:
    """The same, run."""
    return simulate(trial_of(protocol, seed, mix, core=core))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 60), marks=pytest.mark.slow)])
def test_reads_by_lease_are_linearizable(seeds: range, protocol: str) -> None:
    for seed in seeds:
        outcome = run(protocol, seed, swarm(seed))
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seeds", [DEPOSED[:5], pytest.param(DEPOSED[5:], marks=pytest.mark.slow)])
def test_reads_by_lease_are_linearizable_when_leaders_are_deposed(protocol: str, seeds: range) -> None:
    for seed in seeds:
        outcome = run(protocol, seed, deposed(seed))
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"


def finds_stale_reads(protocol: str, core: type[Core] | None = None, seeds: range = DEPOSED) -> bool:
    for seed in seeds:
        found = run(protocol, seed, deposed(seed), core)
        assert found.violated in (None, "linearizability"), f"seed {seed}: {found.violated}: {found.text}"
        if found.violated is not None:
            return True
    return False


# --- clocks, at their worst ---


def cut_off(protocol: str, seed: int, drift: float, jump_s: float = 0.0, core: type[Core] | None = None) -> str | None:
    """Which property does not hold, if any, where the leader's clock is as slow as can be, and those of the others as
    fast, and it is cut off from them and not from its clients. Its clock is set by ``jump_s`` as well.

    A stale read takes one client that writes to the new leader, and one that reads from the old one: there are many, of
    little patience.
    """
    trial = trial_of(protocol, seed, CLOSE, 0.6, core)
    world = World(trial, trial.checkers())
    leader = leader_of(world)
    for node in world.nodes:
        node.set_clock(1.0 - drift if node is leader else 1.0 + drift, jump_s if node is leader else 0.0)
    part(world, leader.id)
    world.run_until(world.now + 1.5)
    return verdict(world)


def leader_of(world: World) -> SimNode:
    """The world begins, and somebody leads."""
    world.start()
    world.run_until(LEADS_S)
    return next(node for node in world.nodes if node.host.root.standing().was_elected)


def part(world: World, leader: int) -> None:
    """The leader from all others."""
    everybody = (1 << len(world.peers)) - 1
    world.network.cuts = [everybody & ~(1 << leader) if node == leader else 1 << leader for node in world.peers]


def verdict(world: World) -> str | None:
    """Which property does not hold in the end, if any."""
    world.heal()
    try:
        for checker in world.checkers:
            checker.finish(world)
    except Violation as violation:
        return violation.property
    return None


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_clocks_that_drift_by_the_bound_break_nothing(protocol: str) -> None:
    drift = equipment_of(protocol).simulation.clock_drift
    assert {cut_off(protocol, seed, drift) for seed in range(6)} == {None}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("drift", "jump_s"), [(0.5, 0.0), (0.0, -1.0)], ids=["drifts beyond it", "is set back"])
def test_a_clock_that_breaks_the_bound_gives_stale_reads_which_are_seen(
    protocol: str, drift: float, jump_s: float
) -> None:
    found = {cut_off(protocol, seed, drift, jump_s) for seed in range(3)}
    assert found - {None} == {"linearizability"}


# --- rules that are broken ---


def test_a_lease_of_multipaxos_that_ends_too_late_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate.protocols.multipaxos.core.Lease", NeverEndingLease)
    assert finds_stale_reads("multipaxos")


class GivesNoLease(Election):
    """Breaks §6.4.1: who answered a leader keeps its vote back."""

    def _keeps_vote_back(self, m: RequestVote) -> bool:
        return False

    def _hears_leader(self) -> bool:
        return False


class CountsFromItsEnd(Lease):
    """Breaks §6.4.1: a lease counts from when its round left, not from when it was answered, half a second later."""

    def answered(self, node: int, number: int) -> None:
        before = self._until
        super().answered(node, number)
        if self._until > before:
            self._until += 0.5


class CountsLate(LogReplication):
    """With such leases."""

    lease_class = CountsFromItsEnd


@pytest.mark.parametrize(("replication", "seeds"), [(RaftLeasesTooLong, DEPOSED), (CountsLate, LATE)])
def test_a_lease_of_raft_that_ends_too_late_is_seen(replication: type[LogReplication], seeds: range) -> None:
    assert finds_stale_reads("raft", type("Broken", (Raft,), {"replication_class": replication}), seeds)


def deserted(seed: int, core: type[Core]) -> str | None:
    """Which property does not hold, if any, where one server and the leader do not hear each other, so that it stands
    while the others hear the leader; as soon as it is elected the leader is cut off from them as well.

    Until then clients ask for nothing, so that its log is not behind.
    """
    trial = trial_of("raft", seed, CLOSE, 0.6, core)
    world = World(trial, trial.checkers())
    leader = leader_of(world).id
    other = (leader + 1) % len(world.peers)
    world.network.cuts[leader], world.network.cuts[other] = 1 << other, 1 << leader

    def cut(node: int, root: Core) -> None:
        if node != leader and root.standing().was_elected:
            part(world, leader)
            world.workload.hush(0.0)

    world.workload.hush(inf)
    world.on_step.append(cut)
    world.run_until(world.now + 1.5)
    world.on_step.remove(cut)
    world.workload.hush(0.0)
    return verdict(world)


def test_votes_that_are_not_kept_back_are_seen() -> None:
    assert {deserted(seed, Raft) for seed in range(4)} == {None}
    broken = type("Broken", (Raft,), {"election_class": GivesNoLease})
    assert {deserted(seed, broken) for seed in range(4)} - {None} == {"linearizability"}
