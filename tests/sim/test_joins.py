"""Nodes that come and go: what the nemesis finds in Multi-Paxos and PBFT, and that it would find what is planted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from quorate.parts.log.configuration import Nodes, Reconfigurable
from quorate.protocols.multipaxos import MultiPaxos
from quorate.protocols.pbft import Pbft
from quorate.protocols.pbft.members import EpochMembers
from quorate.protocols.raft import Raft
from quorate.protocols.raft.messages import Snapshotted
from quorate.protocols.raft.state import ServerState
from quorate.sim.mutant import Mutant
from quorate.sim.options import OptionsError
from quorate.sim.world import LIVENESS
from quorate.trials import campaign
from quorate.trials.campaign import Task
from quorate.trials.protocols import EQUIPMENT, equipment_of

from tests.sim.wedges import (
    OLD_MEMBERS,
    UNWATCHED,
    VIEWS_APART,
    Kept,
    cure,
    moves,
    wedged,
    which,
)

PLANTED_WEDGES = [
    *[("multipaxos", "tells-change-early", seed, OLD_MEMBERS) for seed in (85, 148)],
    *[("pbft", "watches-requests", seed, UNWATCHED) for seed in (5, 11)],
    ("pbft", "counts-equals", 194, VIEWS_APART),
]
"""What was mended, and comes back with the old rule: protocol, mutant, seed."""

HOLDS = range(10)
PLANS = ("members", "join", "leave", "replace", "away", "outage", "death")
COME_AND_GO_MIN = 3
"""So many of them must end with newcomers that vote, others that have left, and no member that is dead."""
HOLDS_WITH_LIARS = [
    ("kv", [1, 2, 7]),
    ("register", [7]),
    pytest.param("kv", [3, 4, 5], marks=pytest.mark.slow),
    pytest.param("register", [1, 2, 3, 4, 5], marks=pytest.mark.slow),
]
"""The same for PBFT with one liar, by workload. Once a view-change rested on a checkpoint of earlier members (2, kv),
and a node that had restarted forgot the proofs of earlier changes (7, register)."""

HELD_SINCE = {
    "multipaxos": [164, 258, 6, 36, 15, 25, 71, 79, 85, 94, 114, 148, 168, 184, 185, 255, 261, 262, 267, 273, 299, 877],
    "pbft": [5, 11, 18, 21, 24, 26, 45, 48, 53, 72, 82, 111, 194, 288, 331, 366, 318],
}
"""Seeds that found something that is mended."""


def joins(protocol: str, seed: int, **more: Any) -> Task:
    """As `quorate sim PROTOCOL --joins --faults common --seed SEED`."""
    return Task(protocol=protocol, seed=seed, joins=True, faults="common", **more)


# --- what was found ---


@pytest.mark.parametrize(("protocol", "mutant", "seed", "wedge"), PLANTED_WEDGES)
def test_what_was_mended_is_found_with_the_old_rule(
    protocol: str, mutant: str, seed: int, wedge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome, world = wedged(Task(protocol=protocol, seed=seed, mutant=mutant), monkeypatch)
    assert (outcome.violated, which(world)) == (LIVENESS, wedge)
    assert not moves(world), "it is no matter of patience"
    cure(world, wedge)
    assert moves(world), "it was for this reason"


# --- what holds ---


@pytest.mark.parametrize("protocol", ["raft", "multipaxos", pytest.param("pbft", marks=pytest.mark.slow)])
def test_nodes_come_and_go_and_promises_are_kept(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    worlds = []
    counts: Counter[str] = Counter()
    for seed in HOLDS:
        outcome, world = wedged(Task(protocol=protocol, seed=seed), monkeypatch)
        assert outcome.holds, outcome.text
        worlds.append(world)
        counts.update(outcome.counts)
    assert sum(map(came_and_went, worlds)) >= COME_AND_GO_MIN
    if protocol != "pbft":
        assert min(counts[plan] for plan in PLANS) > 0, "every plan is carried out"


def came_and_went(world: Kept) -> bool:
    """Whether nodes joined and left, and newcomers vote."""
    newest = world.honest[0].host.root
    assert isinstance(newest, Reconfigurable)
    members = newest.in_force().voters.members
    has_left = world.options.nodes < len(world.nodes) > len(world.peers)
    return has_left and set(members) <= set(world.peers) and any(member >= world.options.nodes for member in members)


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "seed"), [(name, seed) for name, seeds in HELD_SINCE.items() for seed in seeds])
def test_what_was_mended_holds(protocol: str, seed: int) -> None:
    outcome = campaign.run_task(joins(protocol, seed))
    assert outcome.holds, outcome.text


def test_runs_repeat_exactly() -> None:
    assert campaign.run_task(joins("raft", 1)) == campaign.run_task(joins("raft", 1))
    assert campaign.run_task(joins("multipaxos", 1)) == campaign.run_task(joins("multipaxos", 1))
    assert campaign.run_task(joins("pbft", 1, byzantine=1)) == campaign.run_task(joins("pbft", 1, byzantine=1))


@pytest.mark.parametrize(("workload", "seeds"), HOLDS_WITH_LIARS)
def test_with_liars_among_those_that_come_and_go(workload: str, seeds: list[int]) -> None:
    for seed in seeds:
        outcome = campaign.run_task(joins("pbft", seed, byzantine=1, workload=workload))
        assert outcome.holds, outcome.text


LOST = "seeds that lost a joint leader"


@pytest.mark.parametrize("seeds", [range(16), pytest.param(range(16, 40), marks=pytest.mark.slow)])
def test_leaders_of_raft_are_lost_while_members_are_joint(seeds: range) -> None:
    """With a majority of the old members parted from one of the new: no seed breaks a promise, and many have it."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        outcome = campaign.run_task(Task(protocol="raft", seed=seed, joins=True, faults="all"))
        assert outcome.holds, outcome.text
        counts.update(outcome.counts)
    assert counts[LOST] >= counts[f"{LOST} with the majorities parted"] >= 4


# --- what is planted is found ---


class MeetsNobody(MultiPaxos):
    """Does not follow the log in whom it knows."""

    def _keep_roster(self) -> None:
        pass


class ForgetsNodes(MultiPaxos):
    """Its snapshots say who votes, and not where the nodes are."""

    def _keep_roster(self) -> None:
        nodes, self.members.spans[-1].nodes = self.members.nodes, Nodes()
        if not self.acceptor.snapshot_index:
            self.members.spans[-1].nodes = nodes
        super()._keep_roster()


class WithoutKeys(EpochMembers):
    """Meets newcomers, and cannot check what they say."""

    def _take_over_nodes(self, nodes: Nodes) -> None:
        keys = self._view.keys
        super()._take_over_nodes(nodes)
        self._view.group.keys = keys


class LearnsNoKeys(Pbft):
    """All of it but the keys of others."""

    members_class = WithoutKeys


class WithoutNewcomers(EpochMembers):
    """Newcomers cannot catch up before."""

    def _take_over_nodes(self, nodes: Nodes) -> None:
        self._history.nodes = nodes


class MeetsWhenTheyVote(Pbft):
    """Nobody is met when a change of members is executed."""

    members_class = WithoutNewcomers


class KnowsFoundersAlone(Raft):
    """Does not follow the log in whom it knows."""

    def _keep_roster(self) -> None:
        self.state.configurations.is_changed = False


class WithoutConfigurations(ServerState):
    """Its snapshots do not say who votes, nor where the nodes are."""

    def _snapshotted(self, base_index: int, base_term: int) -> Snapshotted:
        return Snapshotted(self.snapshot_index, self.snapshot_term, base_index, base_term)


class ForgetsMembers(Raft):
    """A server with this state."""

    state_class = WithoutConfigurations


PLANTED: list[tuple[str, type[Any]]] = [
    ("raft", KnowsFoundersAlone),
    ("raft", ForgetsMembers),
    ("multipaxos", MeetsNobody),
    ("multipaxos", ForgetsNodes),
    ("pbft", LearnsNoKeys),
    ("pbft", MeetsWhenTheyVote),
]


@pytest.mark.parametrize(("protocol", "core"), PLANTED, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_planted_is_found(protocol: str, core: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    planted = msgspec.structs.replace(equipment_of(protocol), mutants=(Mutant("planted", "for this test", core=core),))
    monkeypatch.setitem(EQUIPMENT, protocol, planted)
    runs = (campaign.run_task(joins(protocol, seed, mutant="planted")) for seed in HOLDS)
    assert any(not outcome.holds for outcome in runs)


class MeetsAnother(MultiPaxos):
    """Has the newcomer's address from somewhere else."""

    def _keep_roster(self) -> None:
        for newcomer in self.members.nodes.joined:
            if newcomer.node not in self.env.peers:
                self.env.meet("elsewhere:1", newcomer.key, newcomer.node)


def test_whom_a_node_meets_must_be_who_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    mutants = (Mutant("planted", "for this test", core=MeetsAnother),)
    planted = msgspec.structs.replace(equipment_of("multipaxos"), mutants=mutants)
    monkeypatch.setitem(EQUIPMENT, "multipaxos", planted)
    outcome = campaign.run_task(joins("multipaxos", 0, mutant="planted"))
    assert outcome.violated == "rosters"
    assert "elsewhere:1" in outcome.text


# --- what makes no sense ---


def test_members_that_never_change() -> None:
    with pytest.raises(
        OptionsError, match="paxos do not change: leave out --joins, or choose multipaxos or pbft or raft"
    ):
        campaign.run_task(joins("paxos", 1))
    with pytest.raises(OptionsError, match="--joins with 2 nodes"):
        campaign.run_task(joins("multipaxos", 1, nodes=2))
