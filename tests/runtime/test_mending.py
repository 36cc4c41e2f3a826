"""Nodes that mend their folders at a start: of three real nodes one finds damage, and nobody has to say anything."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from quorate.runtime.errors import FolderDamaged, JournalCorrupt, SnapshotSpoiled, StorageError
from quorate.runtime.folder import Beginning
from quorate.service import presence
from quorate.service.server import Server

from tests.runtime.servers import Servers, run, servers, until
from tests.runtime.test_lost_folders import acquainted, follower, put
from tests.runtime.test_repairs import (
    OPTIONS,
    journal_cut,
    journal_damaged,
    journal_gone,
    lives,
    snapshots_damaged,
    snapshots_gone,
    stopped,
)


def journal_unreadable(folder: Path) -> None:
    """The disk reports an error."""
    segment = max((folder / "journal").glob("*.journal"))
    segment.unlink()
    segment.symlink_to("/proc/self/mem")


def segment_gone(folder: Path) -> None:
    """The last file of the journal; what says how far it reached is there."""
    max((folder / "journal").glob("*.journal")).unlink()


async def started(cluster: Servers, node: int, beginning: Beginning = Beginning.EXISTING) -> Server:
    """A node with its old folder, whatever became of it."""
    server = cluster.make(node, beginning=beginning)
    await server.start()
    cluster.running[node] = server
    return server


async def counts(cluster: Servers, node: int) -> None:
    """Wait until its vote counts again."""
    core = cluster.core(node)
    await until(lambda: core.standing().role in ("follower", "leader"))


async def is_needed(cluster: Servers, node: int) -> None:
    """Without the other follower there is no quorum but with this one."""
    leader = await cluster.leader()
    other = next(one for one in cluster.ids if one not in (leader, node))
    await cluster.crash(other)
    await put(cluster, 5, 200)
    await cluster.start(other)


@pytest.mark.parametrize("protocol", sorted(OPTIONS))
@pytest.mark.parametrize(
    "harm", [journal_gone, journal_cut, journal_damaged, journal_unreadable, segment_gone, snapshots_gone]
)
def test_a_damaged_folder_mends_itself(tmp_path: Path, harm: Callable[[Path], None], protocol: str) -> None:
    async def main() -> None:
        async with servers(tmp_path, protocol=protocol, options=OPTIONS[protocol]) as cluster:
            lost, folder = await stopped(cluster, tmp_path)
            harm(folder)
            await put(cluster, 5, 100)

            server = await started(cluster, lost)
            assert server.node._folder.anew
            await counts(cluster, lost)
            await cluster.converged()
            await is_needed(cluster, lost)

            anew = server.node._folder.anew
            await cluster.stop(lost)
            again = await started(cluster, lost)
            assert again.node._folder.anew == anew, "it forgets once"
            assert again.node.host.root.standing().role != "learner"
            await cluster.converged()

    run(main())


@pytest.mark.parametrize("protocol", sorted(OPTIONS))
def test_what_stood_before_the_damage_is_kept(tmp_path: Path, protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """The others send what is missing, and no snapshot."""
    options = type(OPTIONS[protocol])(heartbeat_s=0.04, election_timeout_s_min=0.2)
    caplog.set_level(logging.WARNING, "quorate.node")

    async def main() -> None:
        async with servers(tmp_path, protocol=protocol, options=options) as cluster:
            await put(cluster, 60)
            await acquainted(cluster)
            lost = await follower(cluster)
            await until(lambda: cluster.core(lost).log_end >= 60)
            await cluster.stop(lost)
            folder = tmp_path / f"n{lost}"
            (segment,) = (folder / "journal").glob("*.journal")
            before = segment.read_bytes()
            journal_damaged(folder)
            damaged = segment.read_bytes()

            opened = cluster.make(lost, beginning=Beginning.EXISTING)
            await opened.start()
            cluster.running[lost] = opened
            kept = opened.node.host.root
            (aside,) = folder.glob("damaged-*")
            assert (aside / "journal" / segment.name).read_bytes() == damaged, "nothing is deleted"
            await counts(cluster, lost)
            await cluster.converged()
            assert kept.stands_on == 0, "no snapshot came"
            assert segment.read_bytes()[: len(before) // 4] == before[: len(before) // 4]
            assert "this node mends its folder" in caplog.text
            assert "a frame is damaged that was durable" in caplog.text
            await is_needed(cluster, lost)

    run(main())


@pytest.mark.parametrize("protocol", sorted(OPTIONS))
def test_a_snapshot_whose_payload_is_damaged_ends_the_node_and_the_next_start_mends(
    tmp_path: Path, protocol: str
) -> None:
    async def main() -> None:
        async with servers(tmp_path, protocol=protocol, options=OPTIONS[protocol]) as cluster:
            lost, folder = await stopped(cluster, tmp_path)
            snapshots_damaged(folder)
            with pytest.raises(SnapshotSpoiled):
                await lives(cluster.make(lost, beginning=Beginning.EXISTING))
            server = await started(cluster, lost)
            assert server.node._folder.anew
            await counts(cluster, lost)
            await cluster.converged()
            assert list(folder.glob("damaged-*/snapshots/**/*.corrupt"))

    run(main())


@pytest.mark.parametrize("protocol", sorted(OPTIONS))
def test_what_ails_most_nodes_at_once_makes_none_of_them_forget(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They start together, as after a power failure. With what they lost put back they go on."""
    monkeypatch.setattr(presence, "WAIT_S", 0.5)

    async def main() -> None:
        async with servers(tmp_path, protocol=protocol, options=OPTIONS[protocol]) as cluster:
            await put(cluster, 30)
            for node in cluster.ids:
                await cluster.stop(node)
            ailing = [tmp_path / f"n{node}" for node in (1, 2)]
            for folder in ailing:
                shutil.copytree(folder, folder.with_suffix(".kept"))
                journal_damaged(folder)
            before = [files_of(folder) for folder in ailing]
            await cluster.start(3)
            ended = await asyncio.gather(*(started(cluster, node) for node in (1, 2)), return_exceptions=True)
            assert all(isinstance(error, JournalCorrupt) for error in ended), ended
            assert [files_of(folder) for folder in ailing] == before, "nothing was changed"
            for folder in ailing:
                shutil.rmtree(folder)
                folder.with_suffix(".kept").rename(folder)
            for node in (1, 2):
                server = await started(cluster, node)
                assert not server.node._folder.anew
            await put(cluster, 5, 100)
            await cluster.converged()

    run(main())


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_an_embedded_node_mends_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with servers(tmp_path, options=OPTIONS["raft"]) as cluster:
            await put(cluster, 30)
            lost = await follower(cluster)
            await cluster.stop(lost)
            journal_damaged(tmp_path / f"n{lost}")
            await started(cluster, lost, Beginning.EITHER)
            await counts(cluster, lost)
            await cluster.converged()

    run(main())


@pytest.mark.parametrize(("protocol", "nodes"), [("raft", 1), ("raft", 2), ("multipaxos", 2), ("pbft", 4)])
def test_what_cannot_be_mended_is_refused_and_left_as_it_is(tmp_path: Path, protocol: str, nodes: int) -> None:
    """What was lost may have been the only vote that there is for something."""

    async def main() -> None:
        async with servers(tmp_path, nodes=nodes, protocol=protocol, options=None) as cluster:
            await put(cluster, 10)
            await cluster.stop()
            folder = tmp_path / "n1"
            journal_damaged(folder)
            before = {path: path.read_bytes() for path in folder.glob("[ijo]*/**") if path.is_file()}
            with pytest.raises(JournalCorrupt, match="a frame is damaged"):
                await cluster.make(1, beginning=Beginning.EXISTING).start()
            assert {path: path.read_bytes() for path in before} == before
            assert not list(folder.glob("damaged-*"))

    run(main())


def test_a_folder_that_does_not_say_whose_it_is_is_not_mended(tmp_path: Path) -> None:
    async def main() -> None:
        async with servers(tmp_path, options=OPTIONS["raft"]) as cluster:
            await put(cluster, 10)
            await cluster.stop(1)
            journal_damaged(tmp_path / "n1")
            identity = tmp_path / "n1" / "identity"
            text = identity.read_bytes()
            identity.write_bytes(text.replace(b'"node":1', b'"node":2'))
            with pytest.raises(FolderDamaged, match="its checksum is wrong"):
                await cluster.make(1, beginning=Beginning.EXISTING).start()
            identity.unlink()
            with pytest.raises(StorageError, match="a frame is damaged"):
                await cluster.make(1, beginning=Beginning.EXISTING).start()

    run(main())
    assert not list(tmp_path.glob("n1/damaged-*"))
