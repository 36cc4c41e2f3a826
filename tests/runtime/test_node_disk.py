"""A disk that is full: nothing that was acknowledged is lost, the others go on, and with space so does the node."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from quorate.service.client.errors import NoQuorum, OutcomeUnknown, QuorateError

from tests.runtime.servers import Servers, run, servers, until

SIZE_BYTES = 24 << 20


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system with a few megabytes."""
    folder = tempfile.mkdtemp(prefix="quorate-disk-")
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "quorate-test", folder]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        mounted = subprocess.CompletedProcess(command, 1, "", str(error))
    if mounted.returncode:
        Path(folder).rmdir()
        pytest.skip(f"no small file system can be mounted, so a full disk is not tested: {mounted.stderr.strip()}")
    try:
        yield Path(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        Path(folder).rmdir()


def fill(folder: Path) -> Path:
    """Take all the space there is."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 4096):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    assert os.statvfs(folder).f_bavail == 0
    return ballast


async def put_until_refused(cluster: Servers, node: int, acknowledged: dict[bytes, bytes]) -> QuorateError:
    """Put at one node until it takes no more; what it acknowledged is noted."""
    async with cluster.client(node, timeout_s=1.0) as client:
        number = 0
        while True:
            key, value = b"full/%d" % number, b"%d" % number * 500
            try:
                await client.put(key, value)
            except QuorateError as error:
                return error
            acknowledged[key] = value
            number += 1


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_full_disk_stalls_its_node_and_loses_nothing(tmp_path, small_disk: Path, nodes: int) -> None:
    async def main() -> None:
        async with servers(tmp_path, nodes, start=False) as cluster:
            for node in cluster.ids:
                (tmp_path / f"n{node}").mkdir()
            (small_disk / "journal").mkdir()
            (tmp_path / "n1" / "journal").symlink_to(small_disk / "journal")
            await cluster.start(1)
            await cluster.start()
            acknowledged: dict[bytes, bytes] = {}
            async with cluster.client() as client:
                await client.put(b"before", b"1")
                acknowledged[b"before"] = b"1"
                await cluster.converged()
                ballast = fill(small_disk)
                if nodes == 1:
                    # The first was taken in before the disk was found to be full.
                    assert isinstance(await put_until_refused(cluster, 1, acknowledged), OutcomeUnknown)
                    refusal = await put_until_refused(cluster, 1, acknowledged)
                    assert isinstance(refusal, NoQuorum)
                    assert "disk full" in str(refusal)
                else:
                    # Whoever led, the others have a leader now or soon, and every put is taken.
                    for n in range(200):
                        await client.put(b"during/%d" % n, b"x" * 500)
                        acknowledged[b"during/%d" % n] = b"x" * 500
                    await until(lambda: cluster.running[1].node.stalled_why)
                    assert cluster.core(1).role != "leader"
                status = cluster.running[1].status()
                assert "disk full" in status.stalled
                assert cluster.alive()
                ballast.unlink()
                await until(lambda: cluster.running[1].node.stalled_why is None)
                await client.put(b"after", b"2")
                acknowledged[b"after"] = b"2"
                for key, value in acknowledged.items():
                    assert (await client.get(key)).value == value
            await cluster.converged()
            await cluster.stop()
            await cluster.start()
            async with cluster.client() as client:
                assert [(await client.get(key)).value for key in acknowledged] == list(acknowledged.values())

    run(main())


def test_a_leader_whose_disk_fills_up_makes_way(tmp_path, small_disk: Path) -> None:
    async def main() -> None:
        async with servers(tmp_path, start=False) as cluster:
            for node in cluster.ids:
                (tmp_path / f"n{node}").mkdir()
                (small_disk / f"{node}").mkdir()
            (tmp_path / "n1" / "journal").symlink_to(small_disk / "1")
            await cluster.start()
            async with cluster.client() as client:
                await client.put(b"k", b"v")
                while (leader := await cluster.leader()) != 1:  # the disk that fills up is the leader's
                    await cluster.crash(leader)
                    await client.put(b"k", b"v")
                    await cluster.start(leader)
                ballast = fill(small_disk)
                await client.put(b"big", bytes(1_000_000))
                await until(lambda: cluster.core(1).role != "leader")
                assert await cluster.leader() != 1
                ballast.unlink()
                await until(lambda: cluster.running[1].node.stalled_why is None)
            await cluster.converged()

    run(main())


def test_a_store_without_space_does_not_end_the_node(tmp_path, small_disk: Path) -> None:
    """The whole folder is on the full disk: journal and working files."""

    async def main() -> None:
        async with servers(small_disk, 1) as cluster:
            acknowledged: dict[bytes, bytes] = {}
            async with cluster.client() as client:
                await client.put(b"before", b"1")
                ballast = fill(small_disk)
                await put_until_refused(cluster, 1, acknowledged)
                with suppress(QuorateError):
                    async with cluster.client(timeout_s=1.0) as hasty:
                        await hasty.get(b"before")
                assert cluster.alive()
                ballast.unlink()
                await until(lambda: cluster.running[1].node.stalled_why is None)
                await client.put(b"after", b"2")
                for key, value in {b"before": b"1", **acknowledged, b"after": b"2"}.items():
                    assert (await client.get(key)).value == value

    run(main())


def test_nor_does_a_store_that_gets_a_part_of_its_space(tmp_path, small_disk: Path) -> None:
    """LMDB says of a write of which a part was taken what it says of a disk that is broken."""

    async def main() -> None:
        async with servers(tmp_path, 1, start=False) as cluster:
            (tmp_path / "n1").mkdir()
            (small_disk / "kv").mkdir()
            (tmp_path / "n1" / "kv").symlink_to(small_disk / "kv")
            await cluster.start()
            async with cluster.client() as client:
                await client.put(b"before", b"1")
                ballast = fill(small_disk)
                os.truncate(ballast, ballast.stat().st_size - 200_000)
                value = os.urandom(100_000)
                for number in range(20):
                    await client.put(b"large/%d" % number, value)
                async with cluster.client(timeout_s=1.0) as hasty:
                    with pytest.raises(QuorateError, match="disk full"):
                        await hasty.get(b"before")
                assert cluster.alive()
                ballast.unlink()
                assert (await client.get(b"before")).value == b"1"
                assert (await client.get(b"large/19")).value == value

    run(main())
