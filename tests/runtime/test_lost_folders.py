"""Nodes that come back without what they promised: of three real nodes one has lost its folder, or a part of it."""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.protocols.raft import RaftConfig
from quorate.runtime.errors import FolderDamaged, FolderEmpty, MemoryLost
from quorate.runtime.files import Identity
from quorate.runtime.folder import Beginning, DataFolder
from quorate.runtime.snapshots import SnapshotStore
from quorate.service.server import Server

from tests.runtime.servers import FAST, Servers, run, servers, until

SMALL = RaftConfig(heartbeat_s=0.04, election_timeout_s_min=0.2, snapshot_entries=20, keep_entries=2)


async def put(cluster: Servers, count: int, start: int = 0) -> None:
    """Write some keys."""
    async with cluster.client() as client:
        for number in range(start, start + count):
            await client.put(b"k%d" % number, b"v%d" % number)


async def follower(cluster: Servers) -> int:
    """One that does not lead."""
    leader = await cluster.leader()
    return next(node for node in cluster.ids if node != leader)


async def acquainted(cluster: Servers) -> None:
    """Each node has been called by all others, and that is durable."""
    others = len(cluster.ids) - 1
    await until(lambda: all(len(server.node._folder.others) == others for server in cluster.running.values()))


def test_an_emptied_folder_among_three_is_refused_by_both_others_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    async def main() -> None:
        async with servers(tmp_path) as cluster:
            await put(cluster, 5)
            await acquainted(cluster)
            lost = await follower(cluster)
            await cluster.crash(lost)
            shutil.rmtree(tmp_path / f"n{lost}")
            again = cluster.make(lost)
            await again.start()  # nobody said that it is not new
            with pytest.raises(MemoryLost, match=rf"node \d says: node {lost} was here with another data folder"):
                await again.wait()
            assert again.replica.applied_index == 0, "nothing of it took part"
            await again.stop()
            await put(cluster, 5, 5)  # two of three go on
            assert cluster.alive()

    run(main())
    texts = [record.getMessage() for record in caplog.records]
    assert any("refused" in text and "was here with another data folder" in text for text in texts), texts
    assert any("cannot go on" in text and "never start it under this number again" in text for text in texts), texts


def test_it_is_refused_after_the_others_have_restarted_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with servers(tmp_path) as cluster:
            await put(cluster, 5)
            await acquainted(cluster)
            await cluster.stop()
            shutil.rmtree(tmp_path / "n2")
            await cluster.start(1)
            again = cluster.make(2)
            await again.start()
            with pytest.raises(MemoryLost, match="node 1 says"):
                await again.wait()
            await again.stop()
            assert cluster.core(1).commit_index <= 5
            assert cluster.core(1).role != "leader", "a vote of the emptied node counted"

    run(main())


def test_a_node_that_is_not_new_does_not_start_without_its_folder(tmp_path: Path) -> None:
    async def main() -> None:
        async with servers(tmp_path, nodes=1) as cluster:
            await put(cluster, 3)
            await cluster.stop()
            shutil.rmtree(tmp_path / "n1")
            config = msgspec.structs.replace(cluster.config, data=tmp_path / "n1")
            server = Server(config, beginning=Beginning.EXISTING)
            with pytest.raises(FolderEmpty, match="no data of node 1"):
                await server.start()
            assert not (tmp_path / "n1").exists()

    run(main())


def test_nodes_keep_their_incarnations_over_restarts_and_work_together(tmp_path: Path) -> None:
    async def main() -> None:
        async with servers(tmp_path) as cluster:
            await put(cluster, 2)
            await acquainted(cluster)
            known = {node: dict(server.node._folder.others) for node, server in cluster.running.items()}
            for node in cluster.ids:
                await cluster.stop(node)
                await cluster.start(node)
            await put(cluster, 2, 2)
            await cluster.converged()
            assert known == {node: dict(server.node._folder.others) for node, server in cluster.running.items()}

    run(main())


def test_nodes_with_keys_refuse_it_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def main() -> None:
        async with servers(tmp_path, nodes=4, protocol="pbft", options=None) as cluster:
            await cluster.leader()
            await acquainted(cluster)
            await cluster.stop(4)
            shutil.rmtree(tmp_path / "n4")
            await cluster.start(4)
            await until(lambda: "refused us: 'node 4 was here with another data folder" in caplog.text)
            assert not any(4 in server.node.peers.incoming for n, server in cluster.running.items() if n != 4)
            assert cluster.alive(), "what an unproven answer says ends no node"

    run(main())


def test_who_called_is_kept_in_whatever_order_threads_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of each node's first caller writes after that of its second."""
    know, second = DataFolder.know, {}

    def late(folder: DataFolder, latest: Any) -> None:
        is_first = folder.path not in second
        done = second.setdefault(folder.path, threading.Event())
        if is_first:
            done.wait(20)
        know(folder, latest)
        done.set()

    monkeypatch.setattr(DataFolder, "know", late)

    async def main() -> None:
        async with servers(tmp_path, options=FAST) as cluster:
            await cluster.leader()
            await acquainted(cluster)
            await until(lambda: not any(server.node._loads for server in cluster.running.values()))
            await acquainted(cluster)

    run(main())


def lose_journal(folder: Path) -> None:
    """All of it."""
    shutil.rmtree(folder / "journal")


def cut_journal(folder: Path) -> None:
    """Its last write, after a stop in order."""
    segment = max((folder / "journal").glob("*.journal"))
    os.truncate(segment, segment.stat().st_size - 1)


def age_journal(folder: Path) -> None:
    """It is the one of an earlier day; whoever restored it has left the rest."""
    shutil.rmtree(folder / "journal")
    shutil.move(folder / "old", folder / "journal")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lose_journal, "the journal is gone, and .*identity is there"),
        (cut_journal, r"it ends with frame \d+, and frame \d+ was durable"),
        (age_journal, r"it ends with frame \d+, and frame \d+ was durable"),
    ],
)
def test_a_part_that_is_lost_is_named_and_mended(
    tmp_path: Path, harm: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with servers(tmp_path, options=SMALL) as cluster:
            await put(cluster, 5)
            lost = await follower(cluster)
            await cluster.stop(lost)
            shutil.copytree(tmp_path / f"n{lost}" / "journal", tmp_path / f"n{lost}" / "old")
            await cluster.start(lost)
            await put(cluster, 50, 5)
            await until(lambda: list((tmp_path / f"n{lost}" / "snapshots").rglob("*.snap")))
            await cluster.stop(lost)
            harm(tmp_path / f"n{lost}")
            await cluster.start(lost)
            assert re.search(words, caplog.text)
            assert cluster.running[lost].node._folder.anew
            await put(cluster, 1, 60)
            await cluster.converged()

    run(main())


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
@pytest.mark.parametrize("is_own", [True, False])
def test_a_snapshot_newer_than_the_journals_end(tmp_path: Path, protocol: str, is_own: bool) -> None:
    """Of this node itself it is a loss; one that came from another may have outrun the record that names it."""

    async def main() -> None:
        options = FAST if protocol == "raft" else None
        async with servers(tmp_path, nodes=1, protocol=protocol, options=options) as cluster:
            await cluster.leader()
            await put(cluster, 5)
            identity = cluster.running[1].node._identity
            await cluster.stop(1)
            author = identity if is_own else Identity(identity.cluster, 2)
            SnapshotStore(tmp_path / "n1" / "snapshots", author).write(1000, 1, lambda file: None)
            if is_own:
                with pytest.raises(FolderDamaged, match=r"snapshot at index 1000, and its journal ends at \d+"):
                    await cluster.make(1).start()
            else:
                await cluster.start(1)
                await put(cluster, 1)

    run(main())
