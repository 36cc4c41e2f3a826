"""Replicated objects on real nodes: one whose state or code differs ends alone; an upgrade goes node by node."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from quorate.kernel import AppEnded
from quorate.machines.objects.machine import ObjectMachine, Raised, Replicated, decode_outcome
from quorate.machines.objects.machine import kinds_of as kinds
from quorate.service.audits import Audits
from quorate.service.client import aio
from quorate.service.objects.sending import pack_call
from quorate.service.server import Server

from tests.machines.test_object_versions import changed, first, second
from tests.runtime.servers import Servers, run, servers, until


def cluster(folder: Path, kinds_by_node: Mapping[str, type[Replicated]], **options: Any) -> Any:
    return servers(folder, machine=lambda data: ObjectMachine(kinds_by_node[data.name]), **options)


def all_of(kind: type[Replicated]) -> dict[str, type[Replicated]]:
    return {f"n{node}": kind for node in (1, 2, 3)}


def connection(made: Servers) -> aio.Connection:
    return aio.Connection(made.endpoints(), timeout_s=20.0, faults=0)


async def call(client: aio.Connection, kind: type[Replicated], method: str, *args: Any) -> Any:
    outcome = decode_outcome(await client.command(pack_call(kind, method, args, {}, kinds(kind))))
    return outcome.text if isinstance(outcome, Raised) else outcome.value


def machine(made: Servers, node: int) -> ObjectMachine:
    found = made.running[node].machine
    assert isinstance(found, ObjectMachine)
    return found


async def why_ended(made: Servers, node: int) -> str:
    """The node ends by itself, for this reason."""
    with pytest.raises(AppEnded) as raised:
        await made.running[node].wait()
    return str(raised.value)


def is_running(made: Servers, node: int) -> bool:
    return not made.running[node].node._ended.done()


async def announced(made: Servers, versions: Mapping[int, int]) -> None:
    """All nodes have heard this from each other."""
    await until(lambda: all(machine(made, node)._standing.announced == versions for node in made.running))


async def why_not_started(made: Servers, node: int) -> str:
    """The node starts, and ends by itself for this reason."""
    server = made.make(node)
    try:
        with pytest.raises(AppEnded) as raised:
            await _start_and_wait(server)
    finally:
        await server.stop()
    return str(raised.value)


async def _start_and_wait(server: Server) -> None:
    await server.start()
    await server.wait()


def test_a_node_whose_state_was_changed_behind_its_back_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Audits.__init__.__kwdefaults__, "entries", 20)

    async def main() -> None:
        kind = first()
        async with cluster(tmp_path, all_of(kind)) as made:
            odd = await made.leader() % 3 + 1  # a follower
            async with connection(made) as client:
                await call(client, kind, "add", 1)
                await until(lambda: machine(made, odd).instance.value == 1)
                machine(made, odd).state._root.values["value"] = 7
                machine(made, odd).state._digests.settle()
                await asyncio.gather(*(call(client, kind, "add", 1) for _ in range(40)))
                assert "'value' differs from what most nodes have: this node is wrong" in await why_ended(made, odd)
                assert await call(client, kind, "add", 1) == 42
            assert [is_running(made, node) for node in (1, 2, 3)] == [node != odd for node in (1, 2, 3)]

    run(main())


def test_a_node_that_restarts_with_another_body_ends_alone(tmp_path: Path) -> None:
    async def main() -> None:
        kind = first()
        running = all_of(kind)
        async with cluster(tmp_path, running) as made, connection(made) as client:
            await call(client, kind, "add", 1)
            await announced(made, {1: 1, 2: 1, 3: 1})
            await made.stop(3)
            running["n3"] = changed()
            why = await why_not_started(made, 3)
            assert "add has another body" in why
            assert "version is still 1" in why
            assert await call(client, kind, "add", 1) == 2

    run(main())


def test_an_upgrade_goes_node_by_node_under_load_and_not_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Audits.__init__.__kwdefaults__, "entries", 20)

    async def main() -> None:
        old, new = first(), second()
        running = all_of(old)
        async with cluster(tmp_path, running) as made, connection(made) as client:
            total = 0
            versions = {1: 1, 2: 1, 3: 1}
            for node in (1, 2, 3):
                await announced(made, versions)
                for _ in range(25):
                    total += 1
                    assert await call(client, old, "add", 1) == total
                lacking = f"node {node}" if node == 3 else "nodes " + ", ".join(map(str, range(node, 4)))
                assert f"since {lacking} do" in await call(client, new, "sub", 1)
                await made.stop(node)
                running[f"n{node}"] = new
                total += 1
                assert await call(client, old, "add", 1) == total
                await made.start(node)
                versions[node] = 2
            await until(lambda: all(machine(made, node).active_version == 2 for node in made.ids))
            assert await call(client, new, "sub", 1) == total * 100 - 1
            assert await call(client, new, "add", 1) == total * 100 + 1
            assert made.alive()
            await made.stop(2)
            running["n2"] = old
            assert "start the newer code" in await why_not_started(made, 2)

    run(main())
