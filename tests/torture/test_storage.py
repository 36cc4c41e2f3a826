"""What a node says of its disk: damage, cut ends, a full disk, somebody else's folder. Whole clusters that stop."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quorate.runtime.folder import read_record
from quorate.service.client.errors import NoQuorum

from tests.cli.command import Outcome, quorate
from tests.cluster import LocalCluster, until
from tests.torture.disks import fill, small_disk
from tests.torture.protocols import QUICK
from tests.torture.verify import applied_indexes, check_replicas

pytestmark = pytest.mark.torture

SEGMENT_HEADER_BYTES = 256
SALT = slice(44, 48)
"""Where the segment's header has the bytes that each frame begins with."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """Three nodes with a hundred puts."""
    with LocalCluster(tmp_path / "cluster", options=QUICK) as made:
        put_many(made, 100)
        yield made


def put_many(cluster: LocalCluster, count: int, *nodes: int) -> None:
    # A disk that is nearly full takes a small frame now and then, so its node may lead again for a moment: how soon
    # another one does is chance, and not what these tests are about.
    with cluster.client(*nodes, timeout_s=45.0) as client:
        for number in range(count):
            client.put(b"key-%d" % (number % 50), b"value-%d" % number)


def last_segment(cluster: LocalCluster, node: int) -> Path:
    return max((cluster.data(node) / "journal").glob("*.journal"))


def refused(cluster: LocalCluster, node: int) -> Outcome:
    """A start of the node that must not succeed."""
    return quorate("node", "--config", str(cluster.config_path), "--node", str(node))


def follower_of(cluster: LocalCluster) -> int:
    leader = cluster.leader()
    return next(node for node in cluster.ids if node != leader)


MENDS = "this node mends its folder, and counts again when the others agree: "


def mends(cluster: LocalCluster, node: int) -> str:
    """Start a node whose folder is damaged, and wait until it counts again; its log."""
    cluster.start_node(node, wait=False)
    until(lambda: MENDS in cluster.log(node), "it mends")  # what a start finds late has it serve for a moment before
    until(lambda: (status := cluster.statuses().get(node)) and status.role in ("follower", "leader"), "it counts again")
    return cluster.log(node)


@pytest.mark.parametrize("is_killed", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_flipped_byte_in_the_journal_is_named_and_fetched_again(cluster: LocalCluster, is_killed: bool) -> None:
    node = follower_of(cluster)
    if is_killed:
        cluster.kill(node)
    else:
        assert cluster.stop_node(node) == 0
    path = last_segment(cluster, node)
    data = bytearray(path.read_bytes())
    position = (SEGMENT_HEADER_BYTES + len(data)) // 2
    data[position] ^= 0x40
    path.write_bytes(data)
    log = mends(cluster, node)
    found = re.search(re.escape(str(path)) + r": offset (\d+): a frame is damaged", log)
    assert found, log
    assert int(found[1]) <= position
    (aside,) = cluster.data(node).glob("damaged-*/journal/*.journal")
    assert aside.read_bytes() == data, "nothing is deleted"
    check_replicas(cluster)


Spoiling = Callable[[bytearray, list[int]], None]
"""Damages the bytes of a journal; the offsets are where its frames begin."""


def misdirect(data: bytearray, frames: list[int]) -> None:
    """One frame was written over an earlier one."""
    begin, end = frames[-3], frames[-2]
    data[frames[5] : frames[5] + end - begin] = data[begin:end]


def lose(data: bytearray, frames: list[int]) -> None:
    """A frame in the middle never reached the disk."""
    begin, end = frames[len(frames) // 2], frames[len(frames) // 2 + 1]
    data[begin:end] = bytes(end - begin)


def spoil_header(data: bytearray, frames: list[int]) -> None:
    """The segment's own bytes."""
    data[60] ^= 1


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lose, "a frame is damaged"),
        pytest.param(misdirect, "a frame is damaged", marks=pytest.mark.slow),
        pytest.param(spoil_header, "the checksum of the segment", marks=pytest.mark.slow),
    ],
)
def test_other_damage_of_the_journal_is_named_and_fetched_again(
    cluster: LocalCluster, spoil: Spoiling, what: str
) -> None:
    node = follower_of(cluster)
    cluster.kill(node)
    path = last_segment(cluster, node)
    data = bytearray(path.read_bytes())
    salt = bytes(data[SALT])
    frames = [match.start() for match in re.finditer(re.escape(salt), data) if match.start() >= SEGMENT_HEADER_BYTES]
    spoil(data, frames)
    path.write_bytes(data)
    log = mends(cluster, node)
    assert re.search(re.escape(str(path)) + r": offset \d+: " + what, log), log
    (aside,) = cluster.data(node).glob(f"damaged-*/journal/{path.name}")
    assert aside.read_bytes() == data, "nothing is deleted"
    put_many(cluster, 10)
    check_replicas(cluster)


def test_a_journal_that_the_disk_cannot_read_is_named_and_fetched_again(cluster: LocalCluster) -> None:
    node = follower_of(cluster)
    cluster.kill(node)
    path = last_segment(cluster, node)
    path.unlink()
    path.symlink_to("/proc/self/mem")  # a read at 0 is an I/O error
    assert f"{path}: offset 0: the disk cannot read this: [Errno 5]" in mends(cluster, node)
    put_many(cluster, 10)
    check_replicas(cluster)


@pytest.mark.parametrize("position", [-1, pytest.param(60, marks=pytest.mark.slow)], ids=["payload", "header"])
def test_a_snapshot_that_was_spoiled_is_named_and_fetched_again(cluster: LocalCluster, position: int) -> None:
    put_many(cluster, 250)
    node = follower_of(cluster)
    until(lambda: snapshots_of(cluster, node), "it has taken a snapshot")
    cluster.kill(node)
    for spoiled in snapshots_of(cluster, node):  # whichever the journal names
        data = bytearray(spoiled.read_bytes())
        data[position] ^= 1
        spoiled.write_bytes(data)
    assert ("the checksum of the header" if position == 60 else "the digest of the payload") in mends(cluster, node)
    assert list(cluster.data(node).glob("damaged-*/snapshots/*"))
    put_many(cluster, 10)
    check_replicas(cluster)


def snapshots_of(cluster: LocalCluster, node: int) -> list[Path]:
    return sorted((cluster.data(node) / "snapshots").rglob("*.snap"), key=lambda path: int(path.name.split("-")[1]))


def test_a_leader_that_finds_its_snapshot_spoiled_serves_it_to_nobody_and_mends(cluster: LocalCluster) -> None:
    """The node that lags behind its log gets a snapshot of the next leader."""
    away = follower_of(cluster)
    cluster.kill(away)
    put_many(cluster, 700)
    leader = cluster.leader()
    until(lambda: len(snapshots_of(cluster, leader)) > 1, "what the lagging node lacks is in snapshots only")
    spoil_records(cluster.data(leader))
    cluster.start_node(away)
    until(lambda: "cannot go on" in cluster.log(leader), "the leader leads no more")
    assert re.search(r"store-\d+.lmdb: record \w+ is damaged: a checksum doesn't match", cluster.log(leader))
    put_many(cluster, 10)  # the others have a leader, and the one that was away follows it
    until(lambda: snapshots_of(cluster, away), "it has a snapshot of the next leader")
    until(lambda: "this node mends its folder" in cluster.log(leader), "the same process starts the node again")
    check_replicas(cluster)


@pytest.mark.slow
def test_a_store_that_was_deleted_everywhere_makes_no_node_forget(cluster: LocalCluster) -> None:
    """It is found when the state is loaded, while the others may seem to serve."""
    put_many(cluster, 300)
    nodes = list(range(1, 4))
    for node in nodes:
        until(lambda node=node: snapshots_of(cluster, node), "it has taken a snapshot")  # type: ignore[misc]
    for node in nodes:
        cluster.kill(node)
        (cluster.data(node) / "kv").rename(cluster.data(node) / "kept")
    before = [read_record(cluster.data(node) / "identity").incarnation for node in nodes]
    for node in nodes:
        cluster.start_node(node, wait=False)
    for node in nodes:
        until(lambda node=node: "does not mend its folder" in cluster.log(node), "it says so")  # type: ignore[misc]
    assert [read_record(cluster.data(node) / "identity").incarnation for node in nodes] == before
    assert not [aside for node in nodes for aside in cluster.data(node).glob("damaged-*")]


def spoil_records(folder: Path) -> None:
    """Change values in the table that a process has open, wherever they are: pages that are free have old ones."""
    (table,) = (folder / "kv").glob("store-*.lmdb")
    with table.open("r+b") as file:
        for found in re.finditer(rb"value-", file.read()):
            file.seek(found.start())
            file.write(b"V")


def test_a_torn_end_of_the_journal_is_cut_and_caught_up(cluster: LocalCluster) -> None:
    node = follower_of(cluster)
    cluster.kill(node)
    path = last_segment(cluster, node)
    data = path.read_bytes()
    salt = data[SALT]
    # A write of which only the beginning arrived: a frame's first bytes, and nothing after them.
    path.write_bytes(data + data[data.rindex(salt) : -7])
    put_many(cluster, 10)
    cluster.start_node(node)
    check_replicas(cluster)
    assert f"of an unfinished write at offset {len(data)}" in cluster.log(node)


def test_a_node_whose_journal_lost_what_it_acknowledged_is_told_and_catches_up_with_the_next_leader(
    cluster: LocalCluster,
) -> None:
    """No crash does this, so no promise is kept by it; but it must harm nobody, and be said."""
    node = follower_of(cluster)
    cluster.kill(node)
    path = last_segment(cluster, node)
    os.truncate(path, path.stat().st_size - 7)
    cluster.start_node(node)
    until(lambda: "but the log ends at" in cluster.log(node) or len(set(applied_indexes(cluster))) == 1, "it is told")
    put_many(cluster, 10)
    cluster.restart(cluster.leader())
    check_replicas(cluster)


def test_a_folder_in_use_is_refused_with_the_pid(cluster: LocalCluster) -> None:
    outcome = refused(cluster, 1)
    assert outcome.code == 1
    assert f"held by process {cluster.pid(1)}" in outcome.stderr
    put_many(cluster, 10)


def test_the_data_of_another_cluster_or_node_is_refused(cluster: LocalCluster) -> None:
    config = cluster.config_path.read_text()
    assert set(cluster.stop().values()) == {0}
    cluster.config_path.write_text(config.replace(cluster.layout.cluster, "another"))
    outcome = refused(cluster, 1)
    assert (outcome.code, "of cluster 'another'" in outcome.stderr) == (1, True)
    cluster.config_path.write_text(config)
    shutil.move(cluster.data(1), cluster.folder / "aside")
    shutil.copytree(cluster.data(2), cluster.data(1))
    outcome = refused(cluster, 1)
    assert (outcome.code, "belongs to node 2" in outcome.stderr) == (1, True)
    shutil.rmtree(cluster.data(1))
    shutil.move(cluster.folder / "aside", cluster.data(1))
    cluster.start()
    check_replicas(cluster)


@pytest.mark.parametrize("is_killed", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_whole_cluster_that_stops_has_everything_when_it_starts(cluster: LocalCluster, is_killed: bool) -> None:
    before = check_replicas(cluster)
    for _ in range(2):
        if is_killed:
            for node in cluster.ids:
                cluster.processes[node].kill()
            for node in cluster.ids:
                cluster.kill(node)
        else:
            assert set(cluster.stop().values()) == {0}
        cluster.start()
        assert check_replicas(cluster) == before
        with cluster.client() as client:
            found = client.range(b"key-", b"key.")
        assert {kv.key: kv.value for kv in found.kvs} == {b"key-%d" % n: b"value-%d" % (n + 50) for n in range(50)}


# --- a full disk ---


def stalled_of(cluster: LocalCluster, node: int) -> str | None:
    """What `quorate status` says of a node's disk."""
    status = quorate("status", "--json", "--endpoints", cluster.layout.client(node))
    (row,) = status.json["nodes"]
    assert row["error"] is None, row
    stalled: str | None = row["stalled"]
    return stalled


@pytest.mark.slow  # in the fast tests: tests/runtime/test_node_disk.py, without processes
@pytest.mark.parametrize("is_leader", [True, False])
def test_a_full_disk_stalls_one_node_and_no_cluster(tmp_path: Path, is_leader: bool) -> None:
    folder = tmp_path / "cluster"
    cluster = LocalCluster(folder)
    with small_disk(cluster.data(1)), cluster:
        until(lambda: lead(cluster, 1) if is_leader else lead(cluster, 2), "the leader that the test wants")
        put_many(cluster, 100)
        pid = cluster.pid(1)
        ballast = fill(cluster.data(1))
        put_many(cluster, 100)
        why = until(lambda: stalled_of(cluster, 1), "status says that the disk is full")
        assert "disk full" in why
        assert str(cluster.data(1)) in why
        assert "disk full" in cluster.log(1)
        # A read writes to the working storage first, and that is full, too: no reason to end.
        with cluster.client(1, timeout_s=1.0) as client, pytest.raises(NoQuorum, match="disk full"):
            client.get(b"key-1", serializable=True)
        assert until(lambda: leader_other_than(cluster, 1), "another leads") != 1
        put_many(cluster, 100, 2, 3)
        os.truncate(ballast, ballast.stat().st_size - (64 << 10))  # room for a few small writes, and no more
        terms = {status.term for status in cluster.statuses().values()}
        put_many(cluster, 200, 2, 3)
        assert stalled_of(cluster, 1)
        assert {status.term for status in cluster.statuses().values()} == terms, "it stays down, and nobody is deposed"
        ballast.unlink()
        until(lambda: stalled_of(cluster, 1) is None, "it goes on when there is space")
        until(lambda: len(set(applied_indexes(cluster))) == 1, "it catches up")
        assert cluster.pid(1) == pid
        check_replicas(cluster)


def leader_other_than(cluster: LocalCluster, node: int) -> int | None:
    leader = cluster.leader()
    return leader if leader != node else None


def lead(cluster: LocalCluster, node: int) -> bool:
    """Whether the node leads; if not, whoever does is paused until it does no more."""
    leader = cluster.leader()
    if leader != node:
        cluster.pause(leader)
        until(lambda: any(s.leader not in (None, leader) for s in cluster.statuses().values()), "another leader")
        cluster.resume(leader)
    return leader == node
