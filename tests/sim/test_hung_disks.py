"""Disks that hang in silence: no error, no end, until they are released or the process dies."""

import msgspec
import pytest

from quorate.kernel import Shell
from quorate.kernel.writes import TICK_S, WRITE_S_MAX
from quorate.protocols.registry import REGISTRY
from quorate.sim.checkers.base import Violation
from quorate.sim.hangs import watch_hang
from quorate.sim.mutant import Mutant
from quorate.trials import campaign
from quorate.trials.campaign import Task
from quorate.trials.protocols import mutants_of

from tests.campaigns import many
from tests.sim.test_world_disk import Bench
from tests.sim.worlds import witness, witnesses

SPARING = sorted(set(REGISTRY) - {"echo"})
"""Those in which a node can be spared: only there is anything left to ask for while a disk hangs."""
NODES = {"pbft": 4, "tendermint": 4, "vote": 4}
HANGS = [
    (protocol, mutant.name)
    for protocol in ("raft", "multipaxos")
    for mutant in mutants_of(protocol)
    if mutant.name in ("no-clock-on-writes", "keeps-leading")
]


def hanging(protocol: str, seed: int, **more: object) -> Task:
    """A run in which nothing else fails."""
    return Task(protocol=protocol, seed=seed, nodes=NODES.get(protocol, 5), faults="hung-disk", **more)  # type: ignore[arg-type]


def test_a_disk_that_hangs_ends_no_sync_and_says_nothing() -> None:
    bench = Bench()
    bench.write(1)
    bench.run()
    bench.disk.hang()
    bench.write(2, 3)
    bench.run()
    assert (bench.journal, bench.synced, bench.disk.stalled) == ([1], [1], None)
    assert bench.disk.syncs_hung == 1
    bench.disk.release()
    bench.run()
    assert (bench.journal, bench.synced) == ([1, 2, 3], [1, 2, 3])


def test_a_sync_of_a_process_that_died_is_not_heard_of_again() -> None:
    for seed in range(20):
        bench = Bench(seed)
        bench.disk.hang()
        bench.write(1, 2)
        bench.run()
        bench.disk.crash()
        left = bench.journal
        bench.disk.release()
        bench.run()
        assert bench.journal == left == [1, 2][: len(left)]
        assert bench.synced == []
        bench.write(9)
        bench.run()
        assert bench.synced == [1], "with the process it hangs no longer"


def test_a_node_notices_within_the_bound_and_a_tick() -> None:
    world = witnesses()
    node = world.nodes[0]
    node.disk.hang()
    node.operate(b"7")
    world.run_until(WRITE_S_MAX)
    assert witness(world, 0).stalls == []
    world.run_until(WRITE_S_MAX + 2 * TICK_S)
    assert witness(world, 0).stalls == ["the disk hangs: a sync does not end"]
    assert node.hangs_found == 1
    node.disk.release()
    world.run_until(world.now + 1.0)
    assert witness(world, 0).stalls[1:] == [None]


@pytest.mark.parametrize("protocol", SPARING)
def test_the_others_answer_clients_while_one_disk_hangs(protocol: str) -> None:
    outcome = campaign.run_task(hanging(protocol, 1, duration_s=3.0))
    assert outcome.holds, outcome.text
    assert outcome.counts["hung at the end"] == 1
    assert outcome.counts["syncs hung"] >= outcome.counts["hangs found"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("protocol", SPARING)
def test_a_campaign_of_disks_that_hang(protocol: str) -> None:
    found = 0
    for seed in range(many(40)):
        outcome = campaign.run_task(hanging(protocol, seed))
        assert outcome.holds, (seed, outcome.text)
        found += outcome.counts["hangs found"]
    assert found > many(40)


@pytest.mark.parametrize(("protocol", "mutant"), HANGS)
def test_bugs_about_disks_that_hang_are_caught(protocol: str, mutant: str) -> None:
    """By clients that wait in vain, or at the node itself where the others answer them."""
    for seed in range(2, 10):
        task = hanging(protocol, seed, duration_s=2.0)
        if not campaign.run_task(msgspec.structs.replace(task, mutant=mutant)).holds:
            assert campaign.run_task(task).holds
            return
    pytest.fail("none of the seeds")


@pytest.mark.parametrize(("tick_s", "notices"), [(TICK_S, True), (1e9, False)])
def test_each_hang_is_watched_while_a_sync_is_overdue(
    tick_s: float, notices: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shell, "tick_s", tick_s)
    world = witnesses()
    node = world.nodes[0]
    node.disk.hang()
    watch_hang(world, node)
    world.run_until(20.0)
    assert node.hangs_found == 0, "nothing is to be written"
    node.operate(b"7")
    if notices:
        world.run_until(40.0)
        assert node.hangs_found == 1
    else:
        world.run_until(20.0 + WRITE_S_MAX)
        with pytest.raises(Violation, match="a disk that hangs is noticed: node 0"):
            world.run_until(40.0)


def test_a_hang_that_ends_is_not_watched_into_the_next() -> None:
    world = witnesses()
    node = world.nodes[0]
    for _ in range(10):
        node.disk.hang()
        watch_hang(world, node)
        node.operate(b"7")
        world.run_until(world.now + WRITE_S_MAX)
        node.disk.release()
    world.run_until(world.now + 10.0)
    assert (node.hangs_found, node.disk.syncs_hung) == (0, 10)


def test_a_node_that_is_stopped_has_no_time_to_notice() -> None:
    world = witnesses()
    node = world.nodes[0]
    node.disk.hang()
    watch_hang(world, node)
    node.operate(b"7")
    world.run_until(1.0)
    node.pause()
    world.run_until(60.0)
    assert node.hangs_found == 0
    node.resume()
    world.run_until(70.0)
    assert node.hangs_found == 1


def test_they_are_planted_where_a_leader_keeps_its_place_without_its_disk() -> None:
    planted: dict[str, list[Mutant]] = {name: list(mutants_of(name)) for name in REGISTRY}
    assert {name for name, many in planted.items() if "no-clock-on-writes" in {m.name for m in many}} == {
        "raft",
        "multipaxos",
    }
    assert len(HANGS) == 4
