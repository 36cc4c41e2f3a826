"""SimNode: the durability rule, crashes, pauses, timers, jobs."""

from hashlib import sha256
from itertools import pairwise

import pytest

from quorate.kernel import Env, Failed, Job, Turn
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import (
    Chunk,
    Decided,
    ReadChunk,
    Restored,
    SnapshotInfo,
    TakeSnapshot,
    WriteChunk,
    Written,
)
from quorate.sim.checkers.base import Violation
from quorate.sim.options import Options
from quorate.sim.shells import NoBarrier
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.world import World

from tests.sim.worlds import NoApp, NoSubject, Witness, seen, witness, witnesses

SLOW_DISK = Mix(sync_s=0.1, delay_s_min=0.001, delay_s_mean=0.0001)


def test_a_message_leaves_when_its_record_is_durable() -> None:
    world = witnesses(SLOW_DISK)
    world.nodes[0].request(0, 7)
    world.run_until(0.049)  # a sync takes at least half of sync_s
    assert [seen(world, node) for node in range(3)] == [[], [], []]
    world.run_until(0.5)
    assert [seen(world, node) for node in range(3)] == [[7], [7], [7]]


def test_without_the_barrier_it_leaves_at_once() -> None:
    world = World(Trial(Witness, NoSubject(), Options(nodes=3), mix=SLOW_DISK, shell=NoBarrier))
    for node in world.nodes:
        node.start()
    world.nodes[0].request(0, 7)
    world.run_until(0.04)
    assert seen(world, 1) == [7]


def test_what_was_sent_survives_a_crash_and_what_survives_may_be_more() -> None:
    more = 0
    for seed in range(20):
        world = witnesses(SLOW_DISK, seed=seed)
        for number in range(3):
            world.nodes[0].request(0, number)
            world.run_until(world.now + 0.2)
        world.nodes[0].request(0, 3)
        world.nodes[0].crash()
        world.run_until(world.now + 1.0)
        assert seen(world, 1) == [0, 1, 2], "what was not durable was sent"
        world.nodes[0].start()
        restored = witness(world, 0).restored
        assert restored in ([0, 1, 2], [0, 1, 2, 3])
        more += len(restored) - 3
    assert 0 < more < 20


def test_messages_to_oneself_pass_the_barrier_and_come_in_a_later_step() -> None:
    world = witnesses(SLOW_DISK)
    world.nodes[0].request(0, 7)
    steps = world.steps
    assert seen(world, 0) == []
    world.run_until(0.3)
    assert seen(world, 0) == [7]
    assert world.steps >= steps + 3  # the three deliveries


def test_one_sync_covers_what_was_queued() -> None:
    world = witnesses(SLOW_DISK)
    for number in range(50):
        world.nodes[0].request(0, number)
    world.run_until(0.5)
    assert world.nodes[0].disk.syncs == 2
    assert sorted(seen(world, 1)) == list(range(50))


def test_a_paused_node_is_late_but_loses_nothing() -> None:
    world = witnesses()
    world.nodes[1].pause()
    world.nodes[0].request(0, 7)
    world.run_until(1.0)
    assert seen(world, 1) == []
    world.nodes[1].resume()
    assert seen(world, 1) == [7]
    late = witness(world, 1).seen[0][0] - world.nodes[1].clock.at(0.0)
    assert late == pytest.approx(1.0)


def test_a_pause_holds_back_what_becomes_durable_meanwhile() -> None:
    world = witnesses(SLOW_DISK)
    world.nodes[0].request(0, 7)
    world.nodes[0].pause()
    world.run_until(1.0)
    assert seen(world, 1) == []
    world.nodes[0].resume()
    world.run_until(2.0)
    assert seen(world, 1) == [7]


def test_a_full_disk_is_told_and_keeps_frames_queued() -> None:
    world = witnesses()
    world.nodes[0].stall("the disk is full")
    world.nodes[0].request(0, 7)
    world.run_until(5.0)
    assert seen(world, 1) == []
    assert witness(world, 0).stalls == ["the disk is full"]
    world.nodes[0].stall(None)
    world.run_until(6.0)
    assert seen(world, 1) == [7]
    assert witness(world, 0).stalls == ["the disk is full", None]
    app = world.nodes[0].app
    assert isinstance(app, NoApp)
    assert app.stalls == ["the disk is full", None]


def test_a_node_that_starts_on_a_full_disk_is_told() -> None:
    world = witnesses()
    world.nodes[0].stall("the disk is full")
    world.nodes[0].crash()
    world.nodes[0].start()
    assert witness(world, 0).stalls == ["the disk is full"]


def test_a_checkpoint_replaces_the_journal_once_durable() -> None:
    world = witnesses(Mix(frames_per_checkpoint=4))
    for number in range(20):
        world.nodes[0].request(0, number)
        world.run_until(world.now + 0.1)
    disk = world.nodes[0].disk
    assert disk.checkpoints
    assert len(disk.journal) < 10
    world.nodes[0].crash()
    world.nodes[0].start()
    restored = witness(world, 0).restored
    assert [number for number in restored if number >= 0] == list(range(20))
    assert -1 in restored


def test_a_busy_node_takes_what_came_meanwhile_in_one_step() -> None:
    world = witnesses(Mix(step_s=0.05, delay_s_min=0.0001, delay_s_mean=0.00001), nodes=2)
    for number in range(5):
        world.nodes[0].request(0, number)
    world.run_until(0.5)
    times = [time for time, _, _ in witness(world, 1).seen]
    assert len(times) == 5
    assert len(set(times)) < 5


class Clockwork(Witness):
    """Sets a timer again and again."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.begun = 0.0

    def start(self) -> None:
        self.begun = self.env.now
        self.env.set_timer("tick", 1.0)

    def on_timer(self, key: str) -> None:
        super().on_timer(key)
        self.env.set_timer("tick", 1.0)


def clockwork() -> World:
    world = World(Trial(Clockwork, NoSubject(), Options(nodes=1), mix=Mix()))
    world.nodes[0].start()
    return world


def ticks(world: World) -> list[float]:
    core = world.nodes[0].host.root
    assert isinstance(core, Clockwork)
    return [time - core.begun for time, _ in core.fired]


def test_timers_go_by_the_local_clock() -> None:
    world = clockwork()
    world.nodes[0].set_clock(1.1, 0.0)
    world.run_until(10.0)
    assert len(ticks(world)) == 11 or len(ticks(world)) == 10
    assert all(gap == pytest.approx(1.0) for gap in (b - a for a, b in pairwise(ticks(world))))
    world.nodes[0].set_clock(0.9, 0.0)
    before = len(ticks(world))
    world.run_until(20.0)
    assert len(ticks(world)) - before == 9


def test_a_clock_that_jumps_ahead_fires_what_is_due_and_never_early() -> None:
    world = clockwork()
    world.run_until(0.5)
    world.nodes[0].set_clock(1.0, 0.7)
    world.run_until(0.5)
    assert len(ticks(world)) == 1
    assert ticks(world)[0] >= 1.0
    world.nodes[0].set_clock(1.0, -0.5)
    world.run_until(1.9)
    assert len(ticks(world)) == 1, "the clock went back, so the next second is long"
    world.run_until(2.1)
    assert len(ticks(world)) == 2


def test_a_timer_that_is_set_again_or_cancelled_does_not_fire() -> None:
    world = clockwork()
    env = world.nodes[0].host.root.env
    env.set_timer("tick", 5.0)
    env.set_timer("other", 0.1)
    env.cancel_timer("other")
    world.nodes[0].request(0, 1)  # a step, which takes the verbs along
    world.run_until(4.0)
    assert ticks(world) == []
    world.run_until(5.5)
    assert len(ticks(world)) == 1


def test_timers_die_with_the_process() -> None:
    world = clockwork()
    world.nodes[0].crash()
    world.run_until(3.0)
    world.nodes[0].start()
    world.run_until(3.5)
    assert ticks(world) == []


def do(world: World, node: int, *work: object) -> list[object]:
    """Have jobs done one after the other; their results."""
    core = witness(world, node)
    core.done.clear()
    for each in work:
        world.nodes[node].shell.act(Turn(jobs=[Job((), "job", each)]))
        world.run_until(world.now + 0.5)
    return core.done


def test_snapshots_are_taken_read_and_installed() -> None:
    world = witnesses()
    world.nodes[0].jobs.applied[()] = 5
    assert do(world, 0, TakeSnapshot(5, 2)) == [SnapshotInfo(5, 2, 5, sha256(b"state").digest())]
    assert do(world, 0, ReadChunk(5, 0, 3)) == [Chunk(5, 2, 0, b"sta", 5)]
    assert do(world, 0, ReadChunk(5, 3, 3)) == [Chunk(5, 2, 3, b"te", 5)]
    assert do(world, 0, ReadChunk(4, 0, 3)) == [Failed("no snapshot at index 4")]
    found = do(world, 1, WriteChunk(5, 2, 0, b"STA", 5), WriteChunk(5, 2, 0, b"STA", 5), WriteChunk(5, 2, 3, b"TE", 5))
    assert found == [Written(5, 2, 3, False), Written(5, 2, 3, False), Written(5, 2, 5, True)]
    after = Decided(6, [Entry(2, b"")])
    world.nodes[1].shell.act(Turn(outputs=[Restored(5, 2)]))
    world.nodes[1].shell.act(Turn(outputs=[after]))
    app = world.nodes[1].app
    assert isinstance(app, NoApp)
    assert (app.data, app.outputs) == (b"state", []), "what follows waits until the snapshot is loaded"
    world.run_until(world.now + 0.5)
    assert (app.data, app.outputs) == (b"STATE", [after])
    assert world.nodes[1].applied == 6


def test_a_pause_holds_back_the_loading_of_a_snapshot() -> None:
    world = witnesses()
    do(world, 0, WriteChunk(5, 2, 0, b"STATE", 5))
    world.nodes[0].shell.act(Turn(outputs=[Restored(5, 2)]))
    world.nodes[0].pause()
    world.run_until(world.now + 1.0)
    assert world.nodes[0].applied == 0
    world.nodes[0].resume()
    assert world.nodes[0].applied == 5


def test_submissions_wait_for_a_busy_journal_and_share_a_turn() -> None:
    world = witnesses(SLOW_DISK)
    for number in range(5):
        world.nodes[0].request(0, number)
    assert witness(world, 0).restored == [0]
    world.run_until(0.16)
    assert witness(world, 0).restored == [0, 1, 2, 3, 4]


def test_a_snapshot_is_of_the_moment_when_its_job_began() -> None:
    world = witnesses()
    app = world.nodes[0].app
    assert isinstance(app, NoApp)
    world.nodes[0].shell.act(Turn(jobs=[Job((), "job", TakeSnapshot(0, 0))]))
    app.data = b"later"
    world.run_until(0.5)
    assert world.nodes[0].snapshots.data(0) == b"state"


def test_a_snapshot_of_another_index_than_the_state_is_a_violation() -> None:
    world = witnesses()
    with pytest.raises(Violation, match="takes a snapshot at 3"):
        do(world, 0, TakeSnapshot(3, 1))


def test_restoring_a_snapshot_that_is_not_there_is_a_violation() -> None:
    world = witnesses()
    with pytest.raises(Violation, match="does not have"):
        world.nodes[1].shell.act(Turn(outputs=[Restored(5, 2)]))


def test_only_the_newest_two_snapshots_are_kept() -> None:
    world = witnesses()
    for index in (1, 2, 3):
        world.nodes[0].jobs.applied[()] = index
        do(world, 0, TakeSnapshot(index, 1))
    assert [world.nodes[0].snapshots.data(index) for index in (1, 2, 3)] == [None, b"state", b"state"]


def test_a_job_ends_with_the_process() -> None:
    world = witnesses()
    world.nodes[0].shell.act(Turn(jobs=[Job((), "job", TakeSnapshot(0, 0))]))
    world.nodes[0].crash()
    world.nodes[0].start()
    world.run_until(1.0)
    assert witness(world, 0).done == []
    assert world.nodes[0].snapshots.data(0) is None


def test_an_unknown_job_fails() -> None:
    world = witnesses()
    assert do(world, 0, 17) == [Failed("the simulator has no job int")]
