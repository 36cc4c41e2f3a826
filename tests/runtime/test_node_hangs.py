"""A disk that hangs in silence below one node: it makes way and says so, clients go elsewhere, and it can stop."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.kernel import Shell
from quorate.protocols.multipaxos.messages import MultiPaxosConfig
from quorate.runtime import burden, jobs
from quorate.runtime.errors import DiskHangs
from quorate.runtime.journal import journal
from quorate.service.client.errors import NoQuorum

from tests.hanging import HangingDisk, hanging_disk
from tests.runtime.servers import FAST, Servers, run, servers, until

TICK_S = 0.06
OPTIONS = {"raft": FAST, "multipaxos": MultiPaxosConfig(heartbeat_s=0.04, election_timeout_s_min=0.2)}
SNAPSHOTS = msgspec.structs.replace(FAST, snapshot_entries=50, keep_entries=20)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shell, "tick_s", TICK_S)
    monkeypatch.setattr(journal, "CLOSE_S_MAX", 0.2)
    monkeypatch.setattr(jobs, "STOP_S_MAX", 0.2)


@asynccontextmanager
async def hung(
    folder: Path, patch: pytest.MonkeyPatch, *, leads: bool, part: str = "journal", **options: Any
) -> AsyncIterator[tuple[Servers, int, HangingDisk]]:
    """Three nodes, and the disk of one, which leads or does not. At the end all run on and have the same."""
    async with servers(folder, **options) as cluster:
        leader = await cluster.leader()
        node = leader if leads else leader % 3 + 1
        with hanging_disk(folder / f"n{node}" / part, patch) as disk:
            yield cluster, node, disk
            disk.release()
            await until(lambda: all(server.node.stalled_why is None for server in cluster.running.values()))
            assert cluster.alive()
            await cluster.converged()


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_a_leader_whose_disk_hangs_makes_way(tmp_path, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    options = {"protocol": protocol, "options": OPTIONS[protocol]}

    async def main() -> None:
        async with (
            hung(tmp_path, monkeypatch, leads=True, **options) as (cluster, node, disk),
            cluster.client() as client,
            cluster.client(node, timeout_s=0.3) as lonely,
        ):
            await client.put(b"before", b"1")
            await lonely.get(b"before")
            disk.hang()
            await client.put(b"during", b"2")  # it waits for the disk, and then for another node
            assert disk.entered.is_set()
            assert cluster.core(node).standing().role != "leader"
            assert await cluster.leader() != node
            status = cluster.running[node].status()
            assert "the disk hangs" in status.stalled
            assert "a write of" in status.stalled
            assert "segment 1 has taken 0." in status.stalled
            for refused in (lonely.put(b"k", b"v"), lonely.get(b"k")):
                with pytest.raises(NoQuorum, match="the disk hangs"):
                    await refused
            async with cluster.client(node) as local:  # an old read needs no disk
                assert (await local.get(b"before", serializable=True)).value == b"1"
            disk.release()
            await until(lambda: cluster.running[node].node.stalled_why is None)
            await client.put(b"after", b"3")

    run(main())


def test_a_node_whose_disk_hangs_stops_and_says_what_was_not_written(tmp_path, monkeypatch) -> None:
    async def main() -> None:
        async with hung(tmp_path, monkeypatch, leads=True) as (cluster, node, disk), cluster.client() as client:
            disk.hang()
            await client.put(b"k", b"v")
            began_at = time.monotonic()
            with pytest.raises(DiskHangs, match=r"\d+ bytes up to frame \d+ were not written"):
                await cluster.stop(node)
            assert time.monotonic() - began_at < 20.0, "it does not wait for the disk"
            await client.put(b"k", b"w")
            disk.release()

    run(main())


def test_a_snapshot_that_hangs_keeps_no_node_from_stopping(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(jobs, "SLOW_S", 0.05)

    async def main() -> None:
        async with hung(tmp_path, monkeypatch, leads=True, part="snapshots", options=SNAPSHOTS) as (
            cluster,
            node,
            disk,
        ):
            disk.hang()
            async with cluster.client() as client:
                number = 0
                while not disk.entered.is_set():
                    number += 1
                    await client.put(b"k%d" % (number % 9), b"v")
                await client.put(b"the journal", b"goes on")
                await until(lambda: "TakeSnapshot of the snapshot at" in caplog.text)
                assert cluster.running[node].node.stalled_why is None
                with pytest.raises(DiskHangs, match=r"TakeSnapshot of the snapshot at \d+ does not end"):
                    await cluster.stop(node)
                disk.release()

    run(main())


def test_what_waits_for_a_disk_that_hangs_is_bounded(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burden, "BACKLOG_BYTES_MAX", 400_000)
    monkeypatch.setattr(burden, "RELIEF_BYTES", 100_000)

    async def main() -> None:
        async with (
            hung(tmp_path, monkeypatch, leads=False) as (cluster, node, disk),
            cluster.client(*(other for other in cluster.ids if other != node)) as client,
        ):
            disk.hang()
            hung_node = cluster.running[node].node
            value, count = bytes(50_000), 0
            while not hung_node._burden.is_heavy:
                await client.put(b"k", value)
            held = hung_node._journal.backlog_bytes
            for count in range(60):  # noqa: B007 (3 MB, of which the sockets take some)
                await client.put(b"k", value)
            assert hung_node._journal.backlog_bytes < held + 300_000, "what one read brought, at most"
            disk.release()
            await until(lambda: not hung_node._burden.is_heavy)

    run(main())


def test_a_node_with_too_much_to_write_refuses_what_clients_submit(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burden, "SUBMISSIONS_BYTES_MAX", 100_000)
    monkeypatch.setattr(Shell, "tick_s", 60.0)  # nobody finds that it hangs

    async def main() -> None:
        async with (
            hung(tmp_path, monkeypatch, leads=False) as (cluster, node, disk),
            cluster.client(*(other for other in cluster.ids if other != node)) as client,
            cluster.client(node, timeout_s=0.5) as lonely,
        ):
            await lonely.put(b"k", b"v")
            disk.hang()
            while cluster.running[node].node._journal.backlog_bytes <= 100_000:
                await client.put(b"k", bytes(20_000))
            with pytest.raises(NoQuorum, match="too much waits for this node's disk"):
                await lonely.put(b"k", b"w")
            disk.release()
            await client.put(b"k", b"x")

    run(main())
