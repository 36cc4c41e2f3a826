"""Nodes that are repaired from the others: of three real nodes one has lost its folder, or a part of it."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from quorate.protocols.multipaxos import MultiPaxosConfig
from quorate.protocols.raft import RaftConfig
from quorate.runtime.errors import (
    FolderWhole,
    JournalLocked,
    MemoryLost,
    NoRepair,
    StorageError,
    UnknownFormat,
    WrongIdentity,
)
from quorate.runtime.folder import Beginning
from quorate.service.client.errors import QuorateError
from quorate.service.server import Server

from tests.runtime.servers import Servers, run, servers, until
from tests.runtime.test_lost_folders import acquainted, follower, put

SMALL = {"heartbeat_s": 0.04, "election_timeout_s_min": 0.2, "snapshot_entries": 20, "keep_entries": 2}
OPTIONS = {"raft": RaftConfig(**SMALL), "multipaxos": MultiPaxosConfig(**SMALL)}  # type: ignore[arg-type]


def nothing_left(folder: Path) -> None:
    """All of it is gone."""
    shutil.rmtree(folder)


def journal_gone(folder: Path) -> None:
    """Snapshots and identity are there."""
    shutil.rmtree(folder / "journal")


def journal_and_identity_gone(folder: Path) -> None:
    """Snapshots are there, and nothing says whose they are."""
    journal_gone(folder)
    (folder / "identity").unlink()


def journal_cut(folder: Path) -> None:
    """Its last write, after a stop in order."""
    segment = max((folder / "journal").glob("*.journal"))
    os.truncate(segment, segment.stat().st_size - 1)


def journal_damaged(folder: Path) -> None:
    """A byte in its middle."""
    segment = max((folder / "journal").glob("*.journal"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)


def snapshots_gone(folder: Path) -> None:
    """The journal is whole."""
    shutil.rmtree(folder / "snapshots")


def snapshots_damaged(folder: Path) -> None:
    """The journal is whole."""
    for path in (folder / "snapshots").rglob("*.snap"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)


def identity_damaged(folder: Path) -> None:
    """A file of two lines."""
    (folder / "identity").write_bytes(b"{}\n00000000\n")


async def lives(server: Server) -> None:
    """Start it, and wait until it ends by itself."""
    await server.start()
    try:
        await server.wait()
    finally:
        await server.stop()


async def repaired(cluster: Servers, node: int) -> Server:
    """The node starts with --repair, and counts again."""
    server = cluster.make(node, beginning=Beginning.REPAIR)
    await server.start()
    cluster.running[node] = server
    core = cluster.core(node)
    await until(lambda: core.standing().role in ("follower", "leader"))
    return server


async def stopped(cluster: Servers, folders: Path) -> tuple[int, Path]:
    """A follower that has stopped and has snapshots, and its folder."""
    await put(cluster, 60)
    await acquainted(cluster)
    lost = await follower(cluster)
    folder = folders / f"n{lost}"
    await until(lambda: list((folder / "snapshots").rglob("*.snap")))
    await cluster.stop(lost)
    return lost, folder


@pytest.mark.parametrize("protocol", sorted(OPTIONS))
@pytest.mark.parametrize("harm", [nothing_left, journal_and_identity_gone, identity_damaged])
def test_a_folder_that_lost_something_is_repaired(tmp_path: Path, harm: Callable[[Path], None], protocol: str) -> None:
    async def main() -> None:
        async with servers(tmp_path, protocol=protocol, options=OPTIONS[protocol]) as cluster:
            lost, folder = await stopped(cluster, tmp_path)
            harm(folder)
            damaged = {path.name: path.read_bytes() for path in (folder / "snapshots").rglob("*.snap")}
            with pytest.raises(StorageError):
                await lives(cluster.make(lost, beginning=Beginning.EXISTING))
            await put(cluster, 5, 100)

            server = await repaired(cluster, lost)
            await cluster.converged()
            assert server.node._folder.anew
            aside = server.node._folder.aside
            assert (aside is None) == (harm is nothing_left)
            for path in () if aside is None else (aside / "snapshots").rglob("*.snap*"):
                assert damaged.get(path.name.removesuffix(".corrupt")) == path.read_bytes(), "nothing is deleted"

            # The other follower goes, so the one that was repaired is needed.
            leader = await cluster.leader()
            other = next(node for node in cluster.ids if node not in (leader, lost))
            await cluster.crash(other)
            await put(cluster, 5, 200)
            await cluster.start(other)
            await cluster.stop(lost)
            await cluster.start(lost)
            assert cluster.running[lost].node.host.root.standing().role != "learner"
            await cluster.converged()

    run(main())


@pytest.mark.parametrize("protocol", sorted(OPTIONS))
def test_one_after_the_other_is_emptied_and_repaired(tmp_path: Path, protocol: str) -> None:
    async def main() -> None:
        async with servers(tmp_path, protocol=protocol, options=OPTIONS[protocol]) as cluster:
            await put(cluster, 40)
            for round_, lost in enumerate((1, 2, 3, 1)):
                await cluster.crash(lost)
                shutil.rmtree(tmp_path / f"n{lost}")
                await put(cluster, 5, 1000 + 10 * round_)
                await repaired(cluster, lost)
                await cluster.converged()
            async with cluster.client() as client:
                for number in (0, 39, 1000, 1034):
                    found = await client.get(b"k%d" % number)
                    assert found is not None
                    assert found.value == b"v%d" % number

    run(main())


@pytest.mark.parametrize("protocol", sorted(OPTIONS))
def test_it_does_not_count_before_the_others_agreed_whatever_happens_meanwhile(tmp_path: Path, protocol: str) -> None:
    async def main() -> None:
        async with servers(tmp_path, protocol=protocol, options=OPTIONS[protocol]) as cluster:
            await put(cluster, 60)
            await cluster.stop()
            shutil.rmtree(tmp_path / "n1")
            await cluster.start(2)
            for beginning in (Beginning.REPAIR, Beginning.EXISTING, Beginning.EXISTING):
                cluster.running[1] = cluster.make(1, beginning=beginning)
                await cluster.running[1].start()
                await until(lambda: all(server.node.peers.connected() for server in cluster.running.values()))
                async with cluster.client(timeout_s=0.5) as client:
                    with pytest.raises(QuorateError):
                        await client.put(b"k", b"v")
                assert cluster.core(1).standing().role == "learner"
                assert cluster.core(2).standing().leader is None, "the vote of node 1 counted"
                await cluster.crash(1)
            await cluster.start()
            await until(lambda: cluster.core(1).standing().role in ("follower", "leader"))
            await put(cluster, 1, 100)
            await cluster.converged()

    run(main())


@pytest.mark.parametrize("protocol", sorted(OPTIONS))
def test_the_folder_that_it_had_before_is_refused_from_then_on(tmp_path: Path, protocol: str) -> None:
    async def main() -> None:
        async with servers(tmp_path, protocol=protocol, options=OPTIONS[protocol]) as cluster:
            await put(cluster, 5)
            await acquainted(cluster)
            lost = await follower(cluster)
            await cluster.stop(lost)
            (tmp_path / f"n{lost}").rename(tmp_path / "unmounted")
            await repaired(cluster, lost)
            await acquainted(cluster)
            await cluster.stop(lost)
            shutil.rmtree(tmp_path / f"n{lost}")
            (tmp_path / "unmounted").rename(tmp_path / f"n{lost}")
            again = cluster.make(lost)
            await again.start()
            with pytest.raises(MemoryLost, match="was here with another data folder"):
                await again.wait()
            await again.stop()

    run(main())


def test_a_whole_folder_is_not_repaired(tmp_path: Path) -> None:
    async def main() -> None:
        async with servers(tmp_path, options=OPTIONS["raft"]) as cluster:
            await put(cluster, 60)
            await cluster.stop(2)
            before = sorted(path.name for path in (tmp_path / "n2").iterdir())
            with pytest.raises(FolderWhole, match=r"n2: nothing is damaged or missing: start .* without --repair"):
                await cluster.make(2, beginning=Beginning.REPAIR).start()
            assert sorted(path.name for path in (tmp_path / "n2").iterdir()) == before
            await cluster.start(2)
            await cluster.converged()

    run(main())


def test_what_is_no_damage_is_no_reason_to_set_anything_aside(tmp_path: Path) -> None:
    """A folder of another node, one of a later release, and one that another process has."""

    async def main() -> None:
        async with servers(tmp_path, options=OPTIONS["raft"]) as cluster:
            await put(cluster, 5)
            with pytest.raises(JournalLocked):
                await cluster.make(2, beginning=Beginning.REPAIR).start()
            await cluster.stop(2, 3)
            shutil.rmtree(tmp_path / "n2")
            shutil.copytree(tmp_path / "n3", tmp_path / "n2")
            with pytest.raises(WrongIdentity):
                await cluster.make(2, beginning=Beginning.REPAIR).start()
            identity = tmp_path / "n3" / "identity"
            text = identity.read_bytes().splitlines()[0].replace(b'"version":1', b'"version":2')
            identity.write_bytes(b"%s\n%08x\n" % (text, zlib.crc32(text)))
            with pytest.raises(UnknownFormat):
                await cluster.make(3, beginning=Beginning.REPAIR).start()

    run(main())
    assert not list(tmp_path.glob("n*/damaged-*"))


@pytest.mark.parametrize(
    ("protocol", "nodes", "words"),
    [
        ("raft", 2, "the other 1 of 2 nodes are no quorum without this one"),
        ("paxos", 3, "PaxosLog cannot do without what a node promised"),
        ("pbft", 4, "may still show a view-change that this one signed"),
    ],
)
def test_who_cannot_be_repaired_hears_why_and_nothing_is_moved(
    tmp_path: Path, protocol: str, nodes: int, words: str
) -> None:
    async def main() -> None:
        async with servers(tmp_path, nodes=nodes, protocol=protocol, options=None, start=False) as cluster:
            folder = tmp_path / "n1"
            (folder / "snapshots").mkdir(parents=True)
            (folder / "snapshots" / "snapshot-1-1.snap").write_bytes(b"something")
            with pytest.raises(NoRepair, match=words):
                await cluster.make(1, beginning=Beginning.REPAIR).start()
            assert [path.name for path in folder.iterdir()] == ["snapshots"]

    run(main())


def test_a_damaged_snapshot_is_found_before_anything_is_begun(tmp_path: Path) -> None:
    """As a whole it is only read when it is needed, which is after the node has started."""

    async def main() -> None:
        async with servers(tmp_path, nodes=3, options=OPTIONS["raft"]) as cluster:
            await put(cluster, 60)
            await cluster.stop(3)
            snapshots_damaged(tmp_path / "n3")
            made = msgspec.structs.replace(cluster.config, node=3, data=tmp_path / "n3")
            server = Server(made, beginning=Beginning.REPAIR)
            await server.start()
            assert server.node._folder.anew
            await server.stop()

    run(main())
