"""Disks that fail worse than by a crash: what the real recovery makes of it, who is struck, and which bugs it shows."""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest

from quorate.kernel import Failed, Job, Record, Turn
from quorate.parts.log.replicated import Chunk, ReadChunk, Restored, TakeSnapshot, WriteChunk
from quorate.protocols import REGISTRY
from quorate.sim.checkers.base import Violation
from quorate.sim.damage import (
    ENDED,
    REFUSED,
    UNNOTICED,
    Damage,
    Flipped,
    JournalImage,
    Lost,
    Misdirected,
    Refusal,
    Unreadable,
)
from quorate.sim.disk import Disk
from quorate.sim.disk_nemesis import DAMAGING, draw_disks
from quorate.sim.mending import MENDED
from quorate.sim.options import DISK_FAULTS, FAULTS, Options, parse_faults
from quorate.sim.run import simulate
from quorate.sim.snapshot_store import SimSnapshots, Spoiled
from quorate.sim.storage import Storage
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.world import World
from quorate.trials import campaign
from quorate.trials.campaign import Task
from quorate.trials.disks import CutsDamage, JournalMedium, ServesUnverified, TrustsNextSync, medium_of
from quorate.trials.protocols import mutants_of

from tests.campaigns import many
from tests.sim.test_world_disk import Bench
from tests.sim.worlds import NoSubject, Note, Witness, witness

MEDIUM = medium_of(Witness)
HOWS = (REFUSED, UNNOTICED, ENDED, MENDED)


def durable(*writes: int) -> Bench:
    """A disk with some writes, of so many frames each."""
    bench = Bench()
    number = 0
    for frames in writes:
        bench.disk.stall("until all of this write is queued")
        for _ in range(frames):
            number += 1
            bench.disk.append([Record((), Note(number))])
        bench.disk.stall(None)
        bench.run()
    return bench


def numbers(frames: Any) -> list[int]:
    return [record.value.number for frame in frames for record in frame]


# --- what recovery makes of damage ---


def test_an_undamaged_journal_comes_back_from_its_bytes() -> None:
    bench = durable(1, 3, 2)
    bench.disk.damage.append(Lost(99))
    assert numbers(bench.disk.recover(MEDIUM)) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("at", [0.05, 0.4, 0.6, 0.7])
def test_a_flipped_bit_before_the_last_write_is_refused(at: float) -> None:
    bench = durable(*[1] * 9)
    bench.disk.damage.append(Flipped(at))
    with pytest.raises(Refusal, match=r"00000001.journal: offset \d+: .*(damaged|checksum)") as refusal:
        bench.disk.recover(MEDIUM)
    assert refusal.value.how == "refused to start"


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (Lost(1), "a frame is damaged"),
        (Lost(2), "a frame is damaged"),
        (Misdirected(2, 0.1), "header"),
        (Misdirected(1, 0.99), "a frame is damaged"),
        (Unreadable(), "input/output error"),
    ],
)
def test_other_damage_before_the_last_write_is_refused(damage: Damage, what: str) -> None:
    bench = durable(1, 2, 1, 1)
    bench.disk.damage.append(damage)
    with pytest.raises(Refusal, match=what):
        bench.disk.recover(MEDIUM)


@pytest.mark.parametrize("damage", [Flipped(0.999), Lost(3), Misdirected(3, 0.999)])
def test_damage_of_the_last_write_is_seen_by_no_journal_and_never_started_with(damage: Damage) -> None:
    bench = durable(1, 1, 2)
    bench.disk.damage.append(damage)
    with pytest.raises(Refusal, match="nothing shows it") as refusal:
        bench.disk.recover(MEDIUM)
    assert refusal.value.how == "lost in silence"


@pytest.mark.parametrize("damage", [Flipped(0.5), Lost(1), Misdirected(1, 0.5)])
def test_an_empty_journal_has_nothing_to_damage(damage: Damage) -> None:
    image = JournalImage(bytearray(), {})
    damage.do(image)
    assert image.data == b""


def test_what_nobody_counts_on_may_be_damaged() -> None:
    """A write that a crash interrupted survived, and is damaged before the node starts: it is cut as a torn one."""
    for seed in range(20):
        bench = Bench(seed)
        bench.disk.append([Record((), Note(1))])
        bench.run()
        bench.disk.append([Record((), Note(2))])
        bench.disk.crash()
        if len(bench.disk.journal) == 2:
            bench.disk.damage.append(Lost(2))
            assert numbers(bench.disk.recover(MEDIUM)) == [1]
            assert len(bench.disk.journal) == bench.disk.acknowledged == 1
            return
    pytest.fail("the write never survived")


def test_a_checkpoint_is_a_new_file() -> None:
    bench = durable(1, 1)
    bench.disk.damage.append(Lost(1))
    bench.disk.replace([Record((), Note(7)), Record((), Note(8))])
    bench.run()
    assert bench.disk.damage == []
    bench.disk.append([Record((), Note(9))])
    bench.run()
    bench.disk.damage.append(Lost(99))
    assert numbers(bench.disk.recover(MEDIUM)) == [7, 8, 9]
    bench.disk.damage.append(Flipped(0.8))
    with pytest.raises(Refusal, match="the checkpoint is damaged"):
        bench.disk.recover(MEDIUM)


def test_recovery_that_cuts_damage_is_a_violation() -> None:
    bench = durable(1, 1, 1)
    bench.disk.damage.append(Lost(2))
    with pytest.raises(Violation, match="starts with 1 frames of 3 that were durable"):
        bench.disk.recover(CutsDamage(MEDIUM.codec))


def test_recovery_that_makes_things_up_is_a_violation() -> None:
    class Confused(JournalMedium):
        def read(self, data: bytes) -> list[bytes]:
            return super().read(data)[::-1]

    bench = durable(1, 1, 1)
    bench.disk.damage.append(Lost(99))
    with pytest.raises(Violation, match="not all of them are what it wrote"):
        bench.disk.recover(Confused(MEDIUM.codec))


# --- syncs that fail, and syncs that lie ---


def test_after_a_failed_sync_nothing_more_is_durable() -> None:
    bench = durable(1)
    told: list[str] = []
    bench.disk.broke = told.append
    bench.disk.is_failing = True
    bench.disk.append([Record((), Note(2))])
    bench.disk.append([Record((), Note(3))])
    bench.run()
    assert (bench.synced, told) == ([1], ["a sync failed: input/output error"])
    bench.disk.crash()
    assert numbers(bench.disk.recover(MEDIUM)) in ([1], [1, 2], [1, 2, 3])


def test_a_disk_that_trusts_the_next_sync_lost_what_it_reported() -> None:
    bench = Bench()
    disk = TrustsNextSync(bench.disk._rng, 0.01, bench._after)
    disk.synced = bench.synced.append
    disk.is_failing = True
    for number in (1, 2):
        disk.append([Record((), Note(number))])
        bench.run()
    assert bench.synced == [1, 2]
    with pytest.raises(Refusal, match="offset 256: a frame is damaged that was durable before frame 2"):
        disk.recover(MEDIUM)


def test_what_a_lie_reported_is_gone_with_the_power_and_there_without_that() -> None:
    bench = durable(1)
    bench.disk.lie(is_lying=True)
    bench.disk.append([Record((), Note(2))])
    bench.run()
    assert bench.synced == [1, 2]
    bench.disk.crash()
    assert numbers(bench.disk.recover(MEDIUM)) == [1, 2], "the process died, the machine did not"
    assert bench.disk.lose_power() == 1
    with pytest.raises(Refusal, match="power failed"):
        bench.disk.recover(MEDIUM)


def test_an_honest_disk_loses_nothing_with_the_power() -> None:
    bench = durable(1, 1)
    bench.disk.lie(is_lying=True)
    bench.disk.lie(is_lying=False)
    assert bench.disk.lose_power() == 0
    assert numbers(bench.disk.recover(MEDIUM)) == [1, 2]


# --- snapshots ---


def test_a_spoiled_snapshot_is_neither_served_nor_restored() -> None:
    store = SimSnapshots()
    store.file(3, 1, b"state")
    assert store.spoil(3, 0.5)
    assert not store.spoil(3, 0.5), "a second flip could mend it"
    for read in (lambda: store.data(3), lambda: store.read(ReadChunk(3, 0, 2))):
        with pytest.raises(Spoiled, match="snapshot at index 3: the digest"):
            read()
    store.file(3, 1, b"state")
    assert store.data(3) == b"state"


def test_a_snapshot_that_does_not_fit_fails_and_may_be_taken_again() -> None:
    store = SimSnapshots()
    store.full = "no space"
    assert store.file(3, 1, b"state") == Failed("no space")
    assert (store.indexes, store.unfit) == ([], 1)
    store.full = None
    store.file(3, 1, b"state")
    assert store.indexes == [3]


def test_a_snapshot_stays_until_the_journal_names_a_newer_one() -> None:
    """What has come, or was taken, is not named yet: a restart needs the one before, and a second restart, too."""
    store = SimSnapshots()
    store.file(3, 1, b"state")
    for index in (5, 7, 8):
        store.write(WriteChunk(index, 1, 0, b"theirs", 6))
    assert store.indexes == [3, 5, 7, 8]
    store.file(9, 1, b"state", keep_index=7)
    assert store.indexes == [7, 8, 9]


def test_what_is_taken_lets_those_go_that_are_below_the_one_that_the_journal_names() -> None:
    world = world_of()
    node = world.nodes[0]
    kept = []
    for index in (1, 2, 3):
        node.jobs.applied[()] = index
        node.shell.act(Turn(jobs=[Job((), "job", TakeSnapshot(index, 1))]))
        world.run_until(world.now + 0.5)
        kept.append(node.snapshots.indexes)
    node.snapshots.write(WriteChunk(7, 1, 0, b"theirs", 6))
    node.shell.act(Turn(outputs=[Restored(7, 1)]))
    world.run_until(world.now + 0.5)
    kept.append(node.snapshots.indexes)
    node.jobs.applied[()] = 9
    node.shell.act(Turn(jobs=[Job((), "job", TakeSnapshot(9, 1))]))
    world.run_until(world.now + 0.5)
    assert [*kept, node.snapshots.indexes] == [[1], [1, 2], [2, 3], [2, 3, 7], [7, 9]]


# --- nodes ---


def world_of(mix: Mix | None = None, storage: Storage | None = None, nodes: int = 3, seed: int = 0) -> World:
    trial = Trial(
        Witness, NoSubject(), Options(nodes=nodes, seed=seed), mix=mix or Mix(), storage=storage or Storage(MEDIUM, 1)
    )
    world = World(trial)
    for node in world.nodes:
        node.start()
    return world


def test_a_node_that_finds_damage_stays_down_and_is_not_missed() -> None:
    world = world_of()
    world.nodes[1].operate(b"7")
    world.run_until(1.0)
    world.nodes[1].crash()
    world.nodes[1].disk.damage.append(Unreadable())
    world.doomed.add(1)
    world.nodes[1].restart()
    assert not world.nodes[1].up
    assert world.refusals == {"refused to start": 1}
    assert [node.id for node in world.honest] == [0, 2]
    world.nodes[1].restart()
    assert not world.nodes[1].up


def test_a_healthy_disk_that_is_refused_is_a_violation() -> None:
    world = world_of()
    world.nodes[1].operate(b"7")
    world.run_until(1.0)
    world.nodes[1].crash()
    world.nodes[1].disk.damage.append(Unreadable())
    with pytest.raises(Violation, match="healthy disks: node 1 refused to start, and nothing durable was damaged"):
        world.nodes[1].restart()


def test_a_node_whose_sync_failed_ends_and_starts_again_with_what_was_durable() -> None:
    world = world_of()
    node = world.nodes[0]
    node.operate(b"1")
    world.run_until(1.0)
    node.disk.is_failing = True
    node.operate(b"2")
    world.run_until(2.0)
    assert not node.up
    node.restart()
    assert witness(world, 0).restored in ([1], [1, 2])
    assert world.refusals == {}


def read_at(world: World, node: int) -> None:
    """The node is asked for a piece of its snapshot."""
    machine = world.nodes[node]
    machine.begin(Job((), "piece", ReadChunk(4, 0, 100)))


def test_a_node_ends_rather_than_serve_a_spoiled_snapshot() -> None:
    world = world_of()
    node = world.nodes[0]
    node.snapshots.file(4, 1, b"state")
    read_at(world, 0)
    world.run_until(1.0)
    assert [type(done) for done in witness(world, 0).done] == [Chunk]
    node.snapshots.spoil(4, 0.0)
    world.doomed.add(0)
    read_at(world, 0)
    world.run_until(2.0)
    assert not node.up
    assert world.refusals == {"ended by its disk": 1}


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (lambda world: read_at(world, 0), "node 0 serves its snapshot at 4, which is spoiled"),
        (lambda world: world.nodes[0].load(Restored(4, 1), ()), "node 0 restores its snapshot at 4, which is spoiled"),
    ],
    ids=["serves", "restores"],
)
def test_a_store_that_verifies_nothing_is_a_violation(act: Callable[[World], None], what: str) -> None:
    world = world_of(storage=Storage(MEDIUM, 1, snapshots=ServesUnverified))
    world.nodes[0].snapshots.file(4, 1, b"state")
    world.nodes[0].snapshots.spoil(4, 0.0)
    world.after(0.0, lambda: act(world))
    with pytest.raises(Violation, match=what):
        world.run_until(1.0)


def test_a_spoiled_snapshot_ends_the_node_that_restores_it() -> None:
    world = world_of()
    world.nodes[0].snapshots.file(4, 1, b"state")
    world.nodes[0].snapshots.spoil(4, 0.0)
    world.doomed.add(0)
    world.nodes[0].load(Restored(4, 1), ())
    world.run_until(1.0)
    assert not world.nodes[0].up


def test_no_room_for_a_snapshot_is_what_its_core_hears() -> None:
    world = world_of()
    world.nodes[0].snapshots.full = "no space"
    world.nodes[0].begin(Job((), "snapshot", TakeSnapshot(0, 1)))
    world.run_until(1.0)
    assert witness(world, 0).done == [Failed("no space")]


# --- who is struck ---


def struck(borne: int, seed: int, kinds: tuple[str, ...], **options: Any) -> World:
    """A world of busy witnesses, whose disks fail often."""
    mix = Mix(disk_faults=kinds, disk_fault_every_s=0.1, frames_per_checkpoint=8)
    storage = Storage(MEDIUM, borne)
    trial = Trial(Witness, NoSubject(), Options(nodes=5, seed=seed, **options), mix=mix, storage=storage)
    world = World(trial)
    world.start()
    for tick in range(60):
        for node in world.nodes:
            node.snapshots.file(tick, 1, b"state %d" % tick)
            if node.up:
                node.operate(b"%d" % tick)
        world.run_until(tick * 0.1)
    world.nemesis.heal()
    return world


@pytest.mark.parametrize("borne", [0, 1, 2])
@pytest.mark.parametrize("kind", DAMAGING)
def test_no_more_nodes_are_doomed_than_can_be_spared(kind: str, borne: int) -> None:
    worlds = [struck(borne, seed, (kind,)) for seed in range(4)]
    assert all(len(world.doomed) <= borne for world in worlds)
    assert all(len(world.present) >= 5 - borne for world in worlds)
    counts = [world.nemesis.counts.get(kind, 0) for world in worlds]
    assert (sum(counts) > 0) == (borne > 0)
    if kind != "snapshot-rot":  # these cores restore no snapshot, and serve none
        assert (sum(sum(world.refusals.values()) for world in worlds) > 0) == (borne > 0)


def test_liars_and_the_dead_count_among_those_that_are_spared() -> None:
    world = struck(1, 0, DAMAGING, byzantine=1)
    assert world.doomed == set()
    mix = Mix(disk_faults=DAMAGING)
    world = World(Trial(Witness, NoSubject(), Options(nodes=5), mix=mix, storage=Storage(MEDIUM, 1)))
    world.start()
    world.die(4)
    assert not any(world.nemesis._disks._may_doom(node) for node in world.present)


@pytest.mark.parametrize("kind", ["sync-error", "snapshot-full"])
def test_what_damages_nothing_durable_strikes_anybody_and_ends_nobody(kind: str) -> None:
    world = struck(0, 1, (kind,))
    assert world.nemesis.counts[kind] > 3
    assert (world.doomed, world.refusals) == (set(), {})
    assert all(node.up for node in world.nodes)


def test_healing_leaves_no_disk_failing() -> None:
    world = struck(2, 3, DISK_FAULTS)
    assert not any(node.disk.is_failing or node.disk.lose_power() for node in world.present)
    assert all(node.snapshots.full is None for node in world.nodes)


# --- names and chance ---


def test_each_kind_is_switched_by_name() -> None:
    assert parse_faults("disks") == DISK_FAULTS
    assert parse_faults("crash,bit-rot") == ("crash", "bit-rot")
    assert parse_faults("all") == (*FAULTS, *DISK_FAULTS)
    assert parse_faults("none") == ()


def drawn(faults: tuple[str, ...], dooms: bool = True) -> set[str]:
    kinds = set()
    for seed in range(200):
        mix = Mix()
        draw_disks(mix, Random(seed), faults, dooms=dooms)
        kinds.update(mix.disk_faults)
    return kinds


def test_seeds_draw_the_kinds_that_are_allowed() -> None:
    assert drawn((*FAULTS, *DISK_FAULTS)) == set(DISK_FAULTS)
    assert drawn(("crash", "bit-rot")) == {"bit-rot"}
    assert drawn(DISK_FAULTS, dooms=False) == {"sync-error", "snapshot-full", "hung-disk"}
    assert drawn(FAULTS) == set()


def test_other_chances_are_what_they_were() -> None:
    """A seed whose disks hold is the same run, whether they might have failed or not."""
    calm = 0
    for seed in range(4):
        world = World(campaign.trial_of(Task(protocol="raft", seed=seed, faults="all")))
        if not world.mix.disk_faults:
            calm += 1
            with_disks, without = (
                campaign.run_task(Task(protocol="raft", seed=seed, faults=faults, duration_s=3.0))
                for faults in ("all", ",".join(FAULTS))
            )
            assert with_disks.digest == without.digest
    assert calm


# --- campaigns ---


@pytest.mark.parametrize("protocol", ["raft", "multipaxos", "paxos", "vote", "echo"])
def test_a_short_campaign_with_disks(protocol: str) -> None:
    ended = 0
    for seed in range(3):
        outcome = campaign.run_task(Task(protocol=protocol, seed=seed, faults="disks", duration_s=3.0))
        assert outcome.holds, (seed, outcome.text)
        ended += sum(outcome.counts.get(how, 0) for how in HOWS)
    assert (ended > 0) == (protocol != "echo")


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["raft", "multipaxos", "paxos", "vote", "pbft"])
@pytest.mark.parametrize("first", range(0, many(200), 50))
def test_a_long_campaign_with_disks(protocol: str, first: int) -> None:
    for seed in range(first, first + 50):
        outcome = campaign.run_task(Task(protocol=protocol, seed=seed, faults="all", duration_s=5.0))
        assert outcome.holds, (seed, outcome.text)


def test_a_protocol_that_needs_each_node_loses_none() -> None:
    trial = campaign.trial_of(Task(protocol="echo", seed=0, faults="disks"))
    assert trial.storage.borne == 0
    assert simulate(trial).holds


WITH_SNAPSHOTS = {"raft", "multipaxos", "pbft", "tendermint"}
MUTANTS = ("cuts-damage", "believes-damage", "mends-votes", "trusts-next-sync", "serves-unverified")
SICK = [(name, m.name) for name in sorted(REGISTRY) for m in mutants_of(name) if m.storage is not None]
ALWAYS = ("raft",)
"""The bugs are of what is below protocols: one of these shows each of them, and the slow tests do above the others."""
SEEDS_SOON = 20


@pytest.mark.parametrize(
    ("protocol", "mutant"), [pytest.param(*one, marks=() if one[0] in ALWAYS else pytest.mark.slow) for one in SICK]
)
def test_bugs_of_disks_are_caught_below_every_protocol(protocol: str, mutant: str) -> None:
    for seed in range(SEEDS_SOON):
        task = Task(protocol=protocol, seed=seed, faults="disks", duration_s=5.0)
        if not campaign.run_task(msgspec.structs.replace(task, mutant=mutant)).holds:
            assert campaign.run_task(task).holds
            return
    pytest.fail(f"none of {SEEDS_SOON} seeds")


def test_bugs_of_disks_are_planted_where_nodes_can_be_spared() -> None:
    assert {protocol for protocol, _ in SICK} == set(REGISTRY) - {"echo"}
    assert {protocol for protocol, mutant in SICK if mutant == "serves-unverified"} == WITH_SNAPSHOTS


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_bug_of_a_disk_shows_in_no_run_where_disks_hold(mutant: str) -> None:
    for seed in range(3):
        sick, healthy = (
            campaign.run_task(Task(protocol="raft", seed=seed, faults=",".join(FAULTS), mutant=name, duration_s=3.0))
            for name in (mutant, "")
        )
        assert sick.holds
        assert sick.digest == healthy.digest


def test_disks_are_made_of_what_the_trial_says() -> None:
    world = world_of(storage=Storage(MEDIUM, 1, disk=TrustsNextSync))
    assert type(world.nodes[0].disk) is TrustsNextSync
    assert type(world_of().nodes[0].disk) is Disk
    assert msgspec.structs.replace(Storage(), borne=2).borne == 2
