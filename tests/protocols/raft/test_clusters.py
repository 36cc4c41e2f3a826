"""Whole groups of real cores in virtual time: sizes, crashes, lost messages, snapshots, and the same seed twice."""

import random
from collections.abc import Callable

import msgspec
import pytest

from quorate.kernel import Env, Stalled
from quorate.parts.log.replicated import ReadReady
from quorate.protocols.raft import Raft, RaftConfig

from tests.protocols.cluster import Cluster
from tests.protocols.raft.raft_nodes import CONFIG

SMALL = msgspec.structs.replace(
    CONFIG, snapshot_entries=8, keep_entries=2, chunk_bytes=16, message_entries_max=3, inflight_messages_max=2
)
DELAY = (0.001, 0.01)


def making(config: RaftConfig) -> Callable[[Env], Raft]:
    return lambda env: Raft(env, config)


def leaders(cluster: Cluster) -> list[int]:
    return [n for n, m in cluster.members.items() if m.up and m.core.role == "leader"]


def led(size: int, *, config: RaftConfig = CONFIG, seed: int = 0, sync_s: float = 0.0) -> tuple[Cluster, int]:
    """A cluster that has just elected, and its leader."""
    cluster = Cluster(making(config), size, seed=seed, delay_s=DELAY, sync_s=sync_s)
    assert cluster.run(30, lambda: bool(leaders(cluster)))
    cluster.run(0.2)
    return cluster, leaders(cluster)[0]


def agrees(cluster: Cluster, *values: bytes, seconds: float = 10.0) -> None:
    """Within a time, everybody that is up has applied exactly these."""
    up = [m for m in cluster.members.values() if m.up]
    assert cluster.run(seconds, lambda: all(m.applied == list(values) for m in up)), [m.applied for m in up]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("sync_s", [0.0, 0.005])
def test_a_group_of_any_size_elects_and_replicates(size: int, sync_s: float) -> None:
    cluster, lead = led(size, sync_s=sync_s)
    cluster.submit(lead, b"a", b"b")
    cluster.submit(size, b"c")
    cluster.run(0.5)
    assert sorted(cluster[1].applied) == [b"a", b"b", b"c"]
    agrees(cluster, *cluster[1].applied)
    cluster.read(size, 7)
    assert cluster.run(1, lambda: ReadReady((7,)) in cluster[size].outputs)


@pytest.mark.parametrize(("size", "faults"), [(2, 0), (3, 1), (4, 1), (5, 2), (7, 3)])
def test_a_minority_may_be_down_and_no_more(size: int, faults: int) -> None:
    cluster, lead = led(size)
    others = [node for node in cluster.peers if node != lead]
    for node in others[:faults]:
        cluster.crash(node)
    cluster.submit(lead, b"x")
    assert cluster.run(5, lambda: cluster[lead].applied == [b"x"])
    cluster.crash(others[faults])
    cluster.submit(lead, b"y")
    cluster.run(10)
    assert cluster[lead].applied == [b"x"]
    assert leaders(cluster) == [], "without a quorum it stepped down"
    cluster.restart(others[faults])
    assert cluster.run(30, lambda: bool(leaders(cluster)))
    cluster.run(1)
    assert cluster[lead].applied[:1] == [b"x"]


def test_two_servers_need_both_disks() -> None:
    cluster, lead = led(2)
    other = 3 - lead
    cluster[other].held = True
    cluster.submit(lead, b"x")
    cluster.run(1)
    assert cluster[lead].applied == []
    cluster[other].held = False
    cluster[other].sync()
    agrees(cluster, b"x")


def test_a_leader_that_dies_is_replaced_and_what_was_acknowledged_stays() -> None:
    cluster, lead = led(5)
    cluster.submit(lead, b"x")
    cluster.run(1)
    cluster.crash(lead)
    assert cluster.run(10, lambda: bool(leaders(cluster)))
    cluster.submit(leaders(cluster)[0], b"y")
    agrees(cluster, b"x", b"y")
    cluster.restart(lead)
    agrees(cluster, b"x", b"y")


def test_a_message_in_three_is_lost_and_all_goes_on() -> None:
    cluster = Cluster(making(CONFIG), 3, seed=5, delay_s=DELAY)
    cluster.loses = lambda flight: cluster.rng.random() < 0.3
    sent = [b"%d" % number for number in range(20)]
    for value in sent:
        assert cluster.run(120, lambda: bool(leaders(cluster)))
        cluster.submit(leaders(cluster)[0], value)
        cluster.run(0.3)
    cluster.loses = lambda flight: False
    cluster.run(10)
    assert set(cluster[1].applied) <= set(sent)
    agrees(cluster, *cluster[1].applied)


def test_a_follower_far_behind_gets_a_snapshot_in_pieces_though_some_are_lost() -> None:
    cluster, lead = led(3, config=SMALL)
    away = next(node for node in cluster.peers if node != lead)
    cluster.crash(away)
    sent = [b"value %d" % number for number in range(30)]
    for value in sent:
        cluster.submit(lead, value)
        cluster.run(0.05)
    assert cluster[lead].core.log.base_index > 2
    cluster.restart(away)
    cluster.loses = lambda flight: type(flight.message).__name__ == "InstallSnapshot" and cluster.rng.random() < 0.3
    agrees(cluster, *sent, seconds=120)
    assert cluster[away].store.received >= 1
    cluster.submit(lead, b"more")
    agrees(cluster, *sent, b"more")


def test_snapshots_taken_during_a_transfer_do_not_keep_it_from_ending() -> None:
    cluster, lead = led(3, config=SMALL)
    away = next(node for node in cluster.peers if node != lead)
    cluster.crash(away)
    sent = []
    for number in range(60):
        sent.append(b"value %d" % number)
        cluster.submit(lead, sent[-1])
        cluster.run(0.05)
        if number == 30:
            cluster.restart(away)
    agrees(cluster, *sent, seconds=120)


def test_a_follower_that_restarts_in_the_middle_of_a_transfer_resumes() -> None:
    cluster, lead = led(3, config=SMALL)
    away = next(node for node in cluster.peers if node != lead)
    cluster.crash(away)
    sent = [b"value %d" % number for number in range(30)]
    for value in sent:
        cluster.submit(lead, value)
        cluster.run(0.05)
    cluster.restart(away)
    asked: list[int] = []
    cluster.watch = lambda node, turn: asked.extend(j.work.offset for j in turn.jobs if hasattr(j.work, "data"))
    assert cluster.run(20, lambda: len(asked) >= 3)
    cluster.crash(away)
    cluster.restart(away)
    asked.clear()
    agrees(cluster, *sent, seconds=60)
    assert sorted(asked)[1] >= 32, "but for the first, no piece that was stored comes again"


def test_a_stalled_leader_hands_over_and_loses_nothing() -> None:
    cluster, lead = led(3)
    cluster.submit(lead, b"x")
    cluster.run(0.5)
    cluster[lead].held = True
    cluster.step(lead, Stalled("disk full"))
    assert cluster.run(30, lambda: leaders(cluster) not in ([], [lead]))
    cluster.submit(leaders(cluster)[0], b"y")
    cluster.run(1)
    cluster[lead].held = False
    cluster.step(lead, Stalled(None))
    cluster[lead].sync()
    agrees(cluster, b"x", b"y")


@pytest.mark.parametrize("seed", range(25))
def test_crashes_cuts_and_slow_disks_never_make_two_disagree(seed: int) -> None:
    """``Cluster.decide`` compares; here the schedule is chance. At the end all is mended and must go on."""
    rng = random.Random(seed)
    size = rng.choice([3, 5])
    cluster = Cluster(making(SMALL), size, seed=seed, delay_s=(0.001, 0.05), sync_s=0.01)
    cluster.loses = lambda flight: cluster.rng.random() < 0.05
    for number in range(60):
        node = rng.choice(cluster.peers)
        member = cluster[node]
        match rng.randrange(5):
            case 0 if member.up:
                cluster.crash(node, lucky=rng.randrange(3))
            case 1 if member.up:
                cluster.cut((node,), tuple(n for n in cluster.peers if n != node))
            case 2:
                cluster.heal()
            case _ if not member.up:
                cluster.restart(node)
            case _:
                cluster.submit(node, b"%d" % number)
        cluster.run(rng.choice([0.05, 0.5, 2.0]))
    cluster.heal()
    cluster.loses = lambda flight: False
    for node in cluster.peers:
        if not cluster[node].up:
            cluster.restart(node)
    assert cluster.run(60, lambda: len(leaders(cluster)) == 1)
    cluster.run(2)
    cluster.submit(leaders(cluster)[-1], b"last")
    assert cluster.run(60, lambda: all(m.applied[-1:] == [b"last"] for m in cluster.members.values()))


def test_one_seed_makes_one_run() -> None:
    def trace() -> list[str]:
        seen: list[str] = []
        cluster = Cluster(making(SMALL), 3, seed=7, delay_s=DELAY)
        cluster.watch = lambda node, turn: seen.append(f"{cluster.now} {node} {turn}")
        cluster.run(3)
        return seen

    assert trace() == trace()
