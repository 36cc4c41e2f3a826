"""What the further kinds do: snags of snapshots, delays that drift, nodes that go for good, other quorums."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from quorate.kernel import Failed, Job
from quorate.parts.log.configuration import Reconfigurable
from quorate.parts.log.replicated import (
    ReadChunk,
    ReadPiece,
    SnapshotInfo,
    TakeCommonSnapshot,
    TakeSnapshot,
    WriteChunk,
)
from quorate.parts.quorum.choice import GridChoice, MajorityChoice, SizesChoice, WeightedChoice
from quorate.sim import run as runs
from quorate.sim.drifting import DELAY_S_MAX, Drifting
from quorate.sim.farewell import QUIET, Farewell
from quorate.sim.jobs import Pending, SimDoer
from quorate.sim.operator import Operator
from quorate.sim.snags import FAILED, Snagging
from quorate.sim.snapshot_store import SimSnapshots
from quorate.sim.swarm import Drift, Snags
from quorate.sim.variants import drawn_choice, spared
from quorate.sim.world import World
from quorate.trials import campaign
from quorate.trials.campaign import Task

# --- snapshots ---

WORKS = (TakeSnapshot, TakeCommonSnapshot, ReadChunk, ReadPiece, WriteChunk)
"""Every job of snapshots."""
READS = (
    pytest.param(lambda offset: ReadChunk(7, offset, 16), id="chunk"),
    pytest.param(lambda offset: ReadPiece(7, offset, 16, b"root"), id="piece"),
)
"""How a source reads from an offset."""
Read = Callable[[int], ReadChunk | ReadPiece]


class Source:
    """A node that has jobs done."""

    id = 3
    life = 1
    up = True


def snagging(snags: Snags, seed: int = 1) -> tuple[dict[type, SimDoer], dict[str, list[Any]]]:
    """Doers with snags around them that answer "done", and what happened: kills, counts and delays of calls."""
    seen: dict[str, list[Any]] = {"killed": [], "counted": []}
    made = Snagging(
        snags, Random(seed), lambda: 5.0, lambda delay_s, act: act(), seen["killed"].append, seen["counted"].append
    )

    def done(node: Any, job: Job) -> Pending:
        return Pending(lambda: "done")

    seen["snagging"] = [made]
    return dict(made.around(dict.fromkeys(WORKS, done))), seen


def begin(doers: dict[type, SimDoer], work: Any) -> Pending:
    return doers[type(work)](Source(), Job((), "key", work))  # type: ignore[arg-type]


def test_jobs_of_snapshots_fail() -> None:
    doers, seen = snagging(Snags(failed=1.0, untaken=1.0))
    assert isinstance(FAILED, Failed)
    works = (
        (ReadChunk(7, 0, 16), "pieces failed"),
        (ReadPiece(7, 0, 16, b"root"), "pieces failed"),
        (WriteChunk(7, 1, 0, b"abc", 9), "pieces failed"),
        (TakeSnapshot(7, 1), "snapshots failed"),
        (TakeCommonSnapshot(7, 1, piece_bytes=16), "snapshots failed"),
    )
    assert {type(work) for work, _ in works} == set(WORKS)
    for work, _ in works:
        assert begin(doers, work).end() is FAILED
    assert seen["counted"] == [counted for _, counted in works]
    seen["snagging"][0].finish()
    assert [begin(doers, work).end() for work, _ in works] == ["done"] * len(works), "all is healed"


@pytest.mark.parametrize("read", READS)
def test_a_node_crashes_in_the_middle_of_a_transfer_and_at_no_other_time(read: Read) -> None:
    doers, seen = snagging(Snags(killed=1.0))
    begin(doers, read(0))  # the first piece
    begin(doers, WriteChunk(7, 1, 0, b"abc", 3))  # all of it
    assert seen["killed"] == []
    begin(doers, read(16))
    begin(doers, WriteChunk(7, 1, 0, b"abc", 9))
    assert seen["killed"] == [3, 3]
    assert seen["counted"] == ["sources killed", "receivers killed"]


@pytest.mark.parametrize("read", READS)
def test_a_source_is_slow_or_dries_up(read: Read) -> None:
    doers, _ = snagging(Snags(slow=1.0, slow_s=10.0))
    assert (begin(doers, read(0)).delay_s or 0.0) > 0.1
    doers, seen = snagging(Snags(dry=1.0, dry_s=100.0))
    first, second = begin(doers, read(0)), begin(doers, read(16))
    assert first.delay_s == second.delay_s, "nothing is read before it flows again"
    assert (first.delay_s or 0.0) > 1.0
    assert seen["counted"] == ["sources dry"]


def test_a_source_is_spent_for_as_long_as_it_lives_and_one_node_at_a_time() -> None:
    hanging = set()
    for seed in range(8):
        doers, seen = snagging(Snags(spent=1.0), seed)
        source, other = Source(), Source()
        work = ReadChunk(7, 0, 16)
        first = doers[ReadChunk](source, Job((), "key", work))  # type: ignore[arg-type]
        hanging.add((first.delay_s or 0.0) > 1e6)
        assert first.end() is FAILED
        assert doers[ReadChunk](other, Job((), "key", work)).end() == "done"  # type: ignore[arg-type]
        assert begin(doers, ReadPiece(7, 0, 16, b"root")).end() == "done", "not where sources may lie as well"
        seen["snagging"][0].finish()
        assert doers[ReadChunk](source, Job((), "key", work)).end() is FAILED, "that all is healed does not help"
        source.life = 2
        assert doers[ReadChunk](source, Job((), "key", work)).end() == "done"  # type: ignore[arg-type]
        assert seen["counted"] == ["sources dry", "sources spent"]
    assert hanging == {False, True}


def test_what_arrives_in_pieces_and_stops_half_way_is_counted() -> None:
    store = SimSnapshots()
    store.write(WriteChunk(7, 1, 0, b"abc", 9))
    assert (store.pieces, store.cut, store.is_arriving) == (1, 0, True)
    store.write(WriteChunk(8, 1, 0, b"abc", 6))
    assert store.cut == 1, "another came instead"
    store.write(WriteChunk(8, 1, 3, b"def", 6))
    assert (store.pieces, store.cut, store.received, store.is_arriving) == (3, 1, 1, False)
    store.write(WriteChunk(9, 1, 0, b"whole", 5))
    assert (store.pieces, store.received) == (3, 2), "what travels whole is no piece"
    assert isinstance(store.file(10, 1, b"own"), SnapshotInfo)


# --- delays ---


def test_each_way_of_a_link_has_a_delay_of_its_own_which_changes() -> None:
    drifting = Drifting(Random(4), Drift(every_s=1.0, shape=1.0, factor_max=50.0))
    ways = {(sender, to): drifting.delay_s(sender, to, 0.01, 0.0) for sender in range(5) for to in range(5)}
    assert len(set(ways.values())) > 20
    assert all(0.01 <= delay_s <= 0.5 for delay_s in ways.values())
    assert max(ways.values()) > 5 * min(ways.values())
    assert drifting.delay_s(0, 1, 0.01, 0.0) == ways[0, 1], "for a while it stays"
    assert drifting.delay_s(0, 1, 0.01, 100.0) != ways[0, 1]


def test_no_delay_becomes_endless_and_none_shorter() -> None:
    drifting = Drifting(Random(4), Drift(every_s=1.0, shape=0.3, factor_max=1e9))
    delays = [drifting.delay_s(0, to, 1.0, 0.0) for to in range(100)]
    assert max(delays) == DELAY_S_MAX
    assert drifting.delay_s(0, 0, 7.0, 0.0) == 7.0


# --- quorums ---


def test_how_many_nodes_quorums_can_do_without() -> None:
    five = range(5)
    assert spared(MajorityChoice(), five) == 2
    assert spared(SizesChoice(4, 2), five) == 1
    assert spared(SizesChoice(5, 1), five) == 0
    assert spared(GridChoice(((0, 1, 2), (3, 4, 5))), range(6)) == 1
    assert spared(WeightedChoice(((0, 3), (1, 1), (2, 1), (3, 1))), range(4)) == 0
    assert spared(SizesChoice(4, 2), range(3)) == 0, "they make no quorums of so few"


@pytest.mark.parametrize("nodes", range(1, 8))
def test_drawn_quorums_are_quorums_of_all_nodes(nodes: int) -> None:
    drawn = [drawn_choice(Random(seed), nodes) for seed in range(40)]
    assert all(choice.build(range(nodes)).members == (1 << nodes) - 1 for choice in drawn)
    assert len({type(choice) for choice in drawn}) >= (3 if nodes in (4, 6) else 2)


# --- nodes that go for good ---


class Kept(World):
    """The last world that a campaign made."""

    last: World

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        Kept.last = self


def world_of(monkeypatch: pytest.MonkeyPatch, protocol: str, seeds: range, **more: Any) -> World:
    """One that has held, and in which nodes went for good; the first of these seeds that has such a mix."""
    monkeypatch.setattr(runs, "World", Kept)
    task = next(task for seed in seeds if campaign.trial_of(task := Task(protocol=protocol, seed=seed, **more)).kinds)
    outcome = campaign.run_task(task)
    assert outcome.holds, outcome.text
    return Kept.last


def test_a_minority_never_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of(monkeypatch, "raft", range(100), faults="crash,gone", duration_s=2.0)
    assert len(world.present) == 3
    assert sum(not node.up for node in world.nodes) == 2
    assert world.nemesis.counts["gone for good"] == 2


def test_liars_stay_and_count_as_faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    more: dict[str, Any] = {"faults": "crash,gone", "duration_s": 1.0, "adversary": "silent"}
    world = world_of(monkeypatch, "vote", range(100), nodes=7, byzantine=1, **more)
    assert [node.up for node in world.nodes if world.liars >> node.id & 1] == [True]
    assert len(world.present) == 6


def test_members_leave_by_a_change_and_then_a_minority_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of(monkeypatch, "multipaxos", range(1, 100), faults="gone", duration_s=2.0)
    counts, core = world.nemesis.counts, world.honest[0].host.root
    members = core.in_force().voters.members  # type: ignore[attr-defined]
    assert counts["gone for good"] == (len(members) - 1) // 2
    assert (
        len(world.present)
        == len(members) - counts["gone for good"]
        == 5 - counts.get("decommissions", 0) - counts["gone for good"]
    )


@pytest.mark.parametrize("protocol", ["raft", "multipaxos", "pbft"])
def test_who_has_left_by_an_earlier_change_is_not_seen_off_by_another(protocol: str) -> None:
    """Nodes refuse a change by which somebody leaves twice; whoever names it again would wait for ever."""
    trial = campaign.trial_of(Task(protocol=protocol, seed=1, faults="none"))
    world, change = World(trial, ()), trial.change
    assert change is not None
    world.start()
    world.run_until(2.0)  # somebody leads
    core = world.nodes[0].host.root
    assert isinstance(core, Reconfigurable)
    earlier = change.value((0, 1, 2, 3), core.in_force().voters.epoch, [], [4])
    for node in world.nodes:
        node.operate(earlier)
    world.run_until(5.0)
    assert core.in_force().nodes.left == (4,)
    operator = Operator(
        *(world, change, Random(1), lambda _: lambda: None, lambda _: None, lambda _: None),
        crashes=False,
        partitions=False,
    )
    for delay_s in operator.see_off():
        world.run_until(world.now + delay_s)
        assert world.now < 15.0, "it is not over"
    assert 4 not in [node.id for node in world.present]
    assert 4 not in operator.members


class AwaitsQuiet(Operator):
    """Under load a node that is far behind never catches up, and what is to be decided waits for it."""

    is_quiet = False

    def see_off(self) -> Iterator[float]:  # type: ignore[override]
        while not self.is_quiet:
            yield 0.5


def test_clients_fall_silent_when_half_of_the_time_is_over_in_which_nodes_may_leave() -> None:
    trial = campaign.trial_of(Task(protocol="pbft", seed=1, faults="none"))
    world = World(trial, ())
    assert trial.change is not None
    hushed: list[tuple[float, float]] = []

    def hush(until: float) -> None:
        hushed.append((world.now, until))
        operator.is_quiet = until == float("inf")

    operator = AwaitsQuiet(
        *(world, trial.change, Random(1), lambda _: lambda: None, lambda _: None, hush),
        crashes=False,
        partitions=False,
    )
    world.start()
    loud = next(Random(seed) for seed in range(10) if Random(seed).random() >= QUIET)
    Farewell(world, loud, lambda _: 0, operator, lambda _: None, hush, lambda: True).run()
    half = world.options.healing_s / 2
    assert hushed == [(pytest.approx(half, abs=1.0), float("inf")), (world.now, 0.0)]
    assert world.now < world.options.healing_s
