"""Leadership is transferred to a node that is named: it leads soon, or the old leader leads on (§3.10)."""

from itertools import pairwise
from random import Random

import pytest
from msgspec.structs import replace

from quorate.kernel import Core
from quorate.parts.leaderlog.handover import Handover
from quorate.protocols.multipaxos import MultiPaxos
from quorate.protocols.raft import Raft
from quorate.protocols.raft.mutants import AsksTheFirst, ElectsByLeave
from quorate.sim.run import simulate
from quorate.sim.swarm import Mix, draw
from quorate.sim.world import World

from tests.sim.test_handover import BUSY, CORES, LEADS_S, OUTAGE_S_MAX, broken, trial_of

TIMEOUT_S = 0.6


def transferred(core: type[Core], seed: int, *, paused: bool = False) -> tuple[bool, float]:
    """The leader of five under load makes way for a node that is named: whether that one leads within 2 s, and for how
    long no write is answered from then on.

    ``paused``: the one that is named does nothing for two seconds.
    """
    trial = trial_of(core, seed, replace(BUSY, clients=24), 5)
    world = World(trial, trial.checkers())
    world.start()
    world.run_until(LEADS_S)
    leader = next(node for node in world.nodes if node.host.root.standing().was_elected)
    target = world.nodes[(leader.id + 1 + seed % 4) % 5]
    if paused:
        target.pause()
    began_at = world.now
    leader.hand_over(target.id)
    leads = False
    while world.now < began_at + 2.0:
        world.run_until(world.now + 0.01)
        leads = leads or target.host.root.standing().was_elected
    ends = [event.time / 1e9 for event in world.workload.history if event.type == "ok" and event.f != "read"]
    times = [began_at, *(end for end in ends if end >= began_at), world.now]
    outage_s = max(after - before for before, after in pairwise(times))
    if paused:
        target.resume()
    world.heal()
    for checker in world.checkers:
        checker.finish(world)
    return leads, outage_s


@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(1, 4), marks=pytest.mark.slow)], ids=["one", "more"])
@pytest.mark.parametrize("core", CORES)
def test_the_one_that_is_named_leads_and_no_client_waits_for_an_election(core: type[Core], seeds: range) -> None:
    for seed in seeds:
        leads, outage_s = transferred(core, seed)
        assert leads
        assert outage_s < OUTAGE_S_MAX


@pytest.mark.parametrize("core", CORES)
def test_the_old_leader_leads_on_if_the_other_does_not_stand(core: type[Core]) -> None:
    for seed in range(2):
        leads, outage_s = transferred(core, seed, paused=True)
        assert not leads
        assert TIMEOUT_S / 2 < outage_s < TIMEOUT_S + 2 * OUTAGE_S_MAX


class AsksAnybody(Handover):
    """Breaks the rule that the one which is named is to lead."""

    def begin(self, to: int | None) -> None:
        super().begin(None)


class GivesUpNever(Handover):
    """Breaks §3.10: after an election timeout the old leader goes on."""

    def beat(self) -> list[bytes]:
        self._was_asked = False
        return []


@pytest.mark.parametrize("core", CORES)
def test_another_than_the_one_that_is_named_is_seen(core: type[Core]) -> None:
    assert not all(transferred(broken(core, AsksAnybody), seed)[0] for seed in range(4))


@pytest.mark.parametrize("core", CORES)
def test_a_leader_that_waits_for_ever_is_seen(core: type[Core]) -> None:
    assert transferred(broken(core, GivesUpNever), 0, paused=True)[1] > 2 * TIMEOUT_S


# --- under faults ---


def transfers(seed: int) -> Mix:
    """The seed's own mix, in which leaders are told to make way all the time."""
    mix = draw(Random(f"{seed}/swarm"), ("partition", "crash", "network", "pause"))
    mix.members_every_s, mix.transfer_every_s = None, 0.2
    return mix


@pytest.mark.parametrize("core", CORES)
def test_all_holds_where_leadership_is_transferred_all_the_time(core: type[Core]) -> None:
    made = 0
    for seed in range(4):
        outcome = simulate(trial_of(core, seed, transfers(seed), 5))
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"
        made += outcome.counts.get("transferred", 0)
    assert made > 10


def test_votes_for_any_log_that_has_leave_are_seen() -> None:
    core = type("Trusting", (Raft,), {"election_class": ElectsByLeave, "handover_class": AsksTheFirst})
    assert any(not simulate(trial_of(core, seed, transfers(seed), 5)).holds for seed in range(10))


def test_one_that_is_behind_is_not_elected_by_its_leave_alone() -> None:
    """The same leader, and voters that compare logs."""
    core = type("Hasty", (Raft,), {"handover_class": AsksTheFirst})
    for seed in range(4):
        outcome = simulate(trial_of(core, seed, transfers(seed), 5))
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"


def test_both_protocols_hand_over() -> None:
    assert Raft.hands_over
    assert MultiPaxos.hands_over
