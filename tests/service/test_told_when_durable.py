"""Who votes is told once it is durable: people stop nodes on the strength of it, and the others may crash just then."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quorate.runtime import node as node_module
from quorate.service.client.aio import AsyncClient
from quorate.service.requests import Status

from tests.runtime.held_nodes import Disks
from tests.runtime.servers import Servers, run, servers, until


async def status_of(client: AsyncClient) -> Status:
    ((_, status),) = await client.statuses()
    assert isinstance(status, Status), status
    return status


def has_written(cluster: Servers) -> bool:
    node = cluster.running[1].node
    return node._written > node._durable


def has_asked(cluster: Servers) -> bool:
    return bool(cluster.running[1].node._awaited)


def test_a_status_waits_for_what_was_written_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(monkeypatch)

    async def scenario() -> None:
        async with servers(tmp_path, 1) as cluster, cluster.client(1) as client, cluster.client(1) as asking:
            await client.put(b"a", b"1")
            assert (await status_of(asking)).voters is not None
            disks.hold(tmp_path / "n1")
            put = asyncio.create_task(client.put(b"a", b"2"))
            await until(lambda: has_written(cluster))
            asked = asyncio.create_task(status_of(asking))
            await until(lambda: has_asked(cluster))
            assert not asked.done()
            disks.release(tmp_path / "n1")
            assert (await asked).voters is not None
            await put

    monkeypatch.setattr(node_module, "DURABLE_WAIT_S", 60.0)
    run(scenario())


def test_a_disk_that_hangs_does_not_hold_up_the_status_but_for_who_votes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = Disks(monkeypatch)

    async def scenario() -> None:
        async with servers(tmp_path, 1) as cluster, cluster.client(1) as client, cluster.client(1) as asking:
            await client.put(b"a", b"1")
            disks.hold(tmp_path / "n1")
            put = asyncio.create_task(client.put(b"a", b"2"))
            await until(lambda: has_written(cluster))
            own = cluster.running[1].status()
            assert (own.voters, own.nodes, own.leader) == (None, (), 1)
            status = await status_of(asking)
            assert (status.voters, status.nodes, status.leader) == (None, (), 1)
            disks.release(tmp_path / "n1")
            await put
            assert (await status_of(asking)).voters is not None

    monkeypatch.setattr(node_module, "DURABLE_WAIT_S", 0.05)
    run(scenario())
