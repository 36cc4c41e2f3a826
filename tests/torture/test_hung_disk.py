"""Disks that hang in silence below real processes, and processes that have few file descriptors."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from quorate.runtime.handshake import client_hello, encode
from quorate.service.client.errors import NoQuorum

from tests.cluster import LocalCluster, until
from tests.torture.protocols import OPTIONS
from tests.torture.verify import applied_indexes, check_replicas

pytestmark = [pytest.mark.torture, pytest.mark.slow]  # in the fast tests: test_node_hangs.py, without processes

DISK_BYTES = 256 << 20
MISSED = "a disk that hangs below a process is not tested"
DESCRIPTORS = 256
CLIENTS = 300
CHUNK = bytes(1_000_000)


class FrozenDisk:
    """A file system of its own, in a file, whose writes do not return while it is frozen."""

    def __init__(self, point: Path) -> None:
        self.point = point

    def freeze(self) -> None:
        subprocess.run(["fsfreeze", "--freeze", self.point], check=True)

    def thaw(self) -> None:
        subprocess.run(["fsfreeze", "--unfreeze", self.point], check=False, capture_output=True)


@contextmanager
def frozen_disk(point: Path, image: Path) -> Iterator[FrozenDisk]:
    """One at a folder. Skips where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip(f"freezing a file system needs root: {MISSED}")
    if not all(map(shutil.which, ("fsfreeze", "mkfs.ext4", "mount"))):
        pytest.skip(f"fsfreeze, mkfs.ext4 or mount is missing: {MISSED}")
    point.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    for command in (["mkfs.ext4", "-q", "-F", image], ["mount", "-o", "loop", image, point]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{command[0]}: {done.stderr.strip()}: {MISSED}")
    disk = FrozenDisk(point)
    try:
        yield disk
    finally:
        disk.thaw()
        subprocess.run(["umount", "--lazy", point], check=True)


def waits_for_its_disk(pid: int) -> bool:
    """Whether a thread of a process is in a call that no signal ends."""
    for status in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):
            if status.read_text().rpartition(")")[2].split()[0] == "D":
                return True
    return False


@pytest.mark.parametrize("protocol", ["raft", "multipaxos", "pbft"])
def test_a_leader_whose_disk_hangs_makes_way_and_can_be_stopped(tmp_path: Path, protocol: str) -> None:
    nodes = 4 if protocol == "pbft" else 3
    cluster = LocalCluster(tmp_path / "cluster", nodes=nodes, protocol=protocol, options=OPTIONS[protocol])
    with ExitStack() as disks:
        all_disks = {
            node: disks.enter_context(frozen_disk(cluster.data(node), tmp_path / f"disk{node}")) for node in cluster.ids
        }
        with cluster:
            node = cluster.leader()
            disk, pid = all_disks[node], cluster.pid(node)
            with cluster.client(timeout_s=20.0) as client:
                client.put(b"before", b"1")
                disk.freeze()
                began_at = time.monotonic()
                client.put(b"during", b"2")
                assert time.monotonic() - began_at < 10.0
                until(lambda: waits_for_its_disk(pid), "the disk hangs for real")
                until(lambda: "the disk hangs: " in cluster.log(node), "the node says so")
                for number in range(50):
                    client.put(b"key-%d" % number, b"v")
                if protocol != "pbft":
                    with cluster.client(node, timeout_s=1.0) as lonely, pytest.raises(NoQuorum, match="the disk hangs"):
                        lonely.put(b"k", b"v")
                process = cluster.processes[node]
                process.terminate()
                until(lambda: "were not written" in cluster.log(node), "it stops, and says what it has not written")
                # The system keeps what is left of the process until the call returns.
                disk.thaw()
                until(lambda: process.poll() is not None, "it is gone")
                assert cluster.processes.pop(node).returncode == 1
                cluster.start_node(node)
                client.put(b"after", b"3")
            until(lambda: len(set(applied_indexes(cluster))) == 1, "it catches up")
            check_replicas(cluster)


def test_a_node_with_few_descriptors_goes_on_below_many_idle_clients(tmp_path: Path) -> None:
    limited = ("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh")
    hello = encode(client_hello())
    with LocalCluster(tmp_path / "cluster", nodes=1, prefix=limited) as cluster, ExitStack() as sockets:
        with cluster.client(timeout_s=20.0) as client:
            client.put(b"before", b"1")
            host, _, port = cluster.layout.client(1).rpartition(":")
            for _ in range(CLIENTS):
                idle = sockets.enter_context(socket.create_connection((host, int(port)), timeout=5.0))
                with suppress(OSError):
                    idle.sendall(len(hello).to_bytes(4, "little") + hello)
            until(lambda: "clients already: try another node, or later" in cluster.log(1), "somebody is refused")
            taken = len(list(Path(f"/proc/{cluster.pid(1)}/fd").iterdir()))
            assert DESCRIPTORS // 2 < taken < DESCRIPTORS - 32
            for number in range(90):  # more than a segment
                client.put(b"key-%d" % (number % 5), CHUNK)
        assert len(list((cluster.data(1) / "journal").glob("*.journal"))) > 1
        assert cluster.stop_node(1) == 0
