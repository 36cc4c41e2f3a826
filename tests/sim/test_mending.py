"""Simulated nodes that mend their folders: what they keep, whom it may strike, and that promises are kept."""

from __future__ import annotations

from collections import Counter

import pytest

from quorate.sim.damage import ENDED, REFUSED, UNNOTICED, Lost, Refusal, Unreadable
from quorate.sim.mending import MENDED, RETURNED, may_mend
from quorate.sim.world import World
from quorate.trials import campaign
from quorate.trials.campaign import Task

from tests.campaigns import many

DAMAGE = "bit-rot,misdirected-write,lost-write,read-error,snapshot-rot,crash,partition"


def calm(protocol: str = "raft", nodes: int = 3) -> World:
    """A world with no faults of its own, after some writes."""
    world = World(campaign.trial_of(Task(protocol=protocol, seed=1, nodes=nodes, faults="disks")))
    world.mix.disk_faults = ()
    world.start()
    world.run_until(4.0)
    return world


def until_returned(world: World) -> None:
    """Run on until nobody is missed who has forgotten."""
    for _ in range(100):
        world.run_until(world.now + 0.05)
        world.nemesis._disks.menders.look()
        if not world.mending:
            return
    raise AssertionError(world.nemesis.missing())


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_what_stands_before_the_damage_is_kept_and_the_node_returns(protocol: str) -> None:
    world = calm(protocol)
    node = next(node for node in world.nodes if not node.host.root.standing().was_elected)
    node.crash()
    before = list(node.disk.journal)
    world.doomed.add(node.id)
    node.disk.damage.append(Lost(node.disk.numbers[-2]))
    node.restart()
    kept = node.disk.journal
    assert 0 < len(kept) < len(before)
    assert list(kept) == before[: len(kept)]
    assert (node.disk.damage, len(node.incarnation)) == ([], 16)
    assert node.host.root.standing().role == "learner"
    assert (world.refusals, world.mending) == ({MENDED: 1}, {node.id})
    until_returned(world)
    assert (world.doomed, world.mending) == (set(), set())
    assert world.nemesis.counts == {RETURNED: 1}


def test_of_a_journal_that_cannot_be_read_and_of_a_spoiled_snapshot_nothing_is_kept() -> None:
    world = calm()
    first, second = [node for node in world.nodes if not node.host.root.standing().was_elected]
    first.crash()
    world.doomed.add(first.id)
    first.disk.damage.append(Unreadable())
    first.restart()
    assert first.disk.journal == []
    until_returned(world)
    assert world.doomed == set()
    world.doomed.add(second.id)
    second.end("its snapshot is spoiled")
    assert second.disk.journal == []
    world.run_until(world.now + 0.5)
    assert second.up, "it starts again by itself"


def test_who_has_no_way_back_is_refused_as_before() -> None:
    for protocol, nodes in (("raft", 2), ("pbft", 4), ("paxos", 3)):
        world = calm(protocol, nodes)
        world.doomed.add(0)
        assert not may_mend(world.nodes[0], REFUSED)
    world = calm()
    world.doomed.add(0)
    assert may_mend(world.nodes[0], REFUSED)
    assert may_mend(world.nodes[0], ENDED)
    assert not may_mend(world.nodes[0], UNNOTICED), "nobody notices that"
    assert not may_mend(world.nodes[1], REFUSED), "its disk is whole: a refusal is a bug"


def test_a_refusal_keeps_nothing_unless_it_says_so() -> None:
    assert Refusal(REFUSED, "why").kept == ()


@pytest.mark.parametrize(("protocol", "nodes"), [("raft", 3), ("raft", 5), ("multipaxos", 3), ("multipaxos", 5)])
def test_no_quorum_loses_its_copy_and_promises_are_kept(protocol: str, nodes: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(1000, 1006):
        world = World(campaign.trial_of(Task(protocol=protocol, seed=seed, nodes=nodes, faults=DAMAGE, duration_s=4.0)))

        def look(number: int, core: object, world: World = world) -> None:
            gone = {node.id for node in world.nodes if node not in world.present}
            assert len(world.doomed | world.mending | gone) <= world.storage.borne

        world.on_step.append(look)
        world.run()
        counts.update(world.refusals)
        counts.update(world.nemesis.counts)
    assert counts[MENDED] >= counts[RETURNED] > 0, counts


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "nodes"), [("raft", 3), ("raft", 5), ("multipaxos", 3), ("multipaxos", 5)])
def test_they_are_kept_with_many_seeds(protocol: str, nodes: int) -> None:
    for seed in range(1000, 1000 + many(120)):
        outcome = campaign.run_task(Task(protocol=protocol, seed=seed, nodes=nodes, faults=DAMAGE))
        assert outcome.holds, f"seed {seed}: {outcome.text}"
