"""kill -9 of nodes and of their apps under load: one state, and nothing that a client saw is lost."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from quorate.runtime import key_files
from quorate.runtime.endpoints import Endpoint

from tests.ports import free_ports
from tests.processes import Processes, source_environment
from tests.runtime.servers import until_async
from tests.service.abci_apps import until_listened_on

pytestmark = [pytest.mark.slow, pytest.mark.torture]
NODES = 4
KILLS = 6
BETWEEN_S = 1.0
END_S = 240.0


class Apps:
    """One process for each node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def path(self, node: int) -> Path:
        return self.folder / f"app{node + 1}.sock"

    async def start(self, node: int) -> None:
        command = [sys.executable, "-m", "tests.torture.kv_app", f"unix://{self.path(node)}"]
        self.running[node] = subprocess.Popen(command, env=source_environment(), stderr=subprocess.DEVNULL)
        await until_listened_on(Endpoint("", 0, str(self.path(node))))

    def kill(self, *nodes: int) -> None:
        for node in nodes:
            process = self.running.pop(node)
            process.kill()
            process.wait()


@asynccontextmanager
async def chain(folder: Path) -> AsyncIterator[tuple[Processes, Apps]]:
    key_files.generate(folder / "keys", NODES)
    apps = Apps(folder)
    options = {
        "clients": free_ports(NODES),
        "keys": str(folder / "keys"),
        "app": f"unix://{folder}/app{{node}}.sock",
    }
    try:
        async with Processes(folder, "tests.torture.chain_node", NODES, **options) as nodes:
            for node in nodes.ids:
                await apps.start(node)
            await nodes.start()
            yield nodes, apps
    finally:
        apps.kill(*apps.running)


async def write(nodes: Processes, writer: int, seen: list[str], stop: asyncio.Event) -> None:
    """Bring transactions to any node, until one node's app shows the value; that is what a client has seen."""
    chance, count = random.Random(writer), 0
    while not stop.is_set():
        count += 1
        key = f"w{writer}-{count}"
        while not stop.is_set():
            with suppress(OSError):
                await nodes.ask(chance.choice(nodes.ids), "tx", f"{key}=1".encode().hex())
            with suppress(OSError):
                if await nodes.ask(chance.choice(nodes.ids), "has", key) == ["1"]:
                    seen.append(key)
                    break
            await asyncio.sleep(0.05)


async def strike(nodes: Processes, apps: Apps, chance: random.Random) -> None:
    """Kill a node, or its app, whereupon the node ends by itself; and start what is gone."""
    node = chance.choice(nodes.ids)
    if chance.random() < 0.5:
        nodes.kill(node)
    else:
        apps.kill(node)
        process = nodes.running[node]
        assert await asyncio.to_thread(process.wait, 30.0) != 0, "a node whose app is gone ends"
        nodes.kill(node)
        await apps.start(node)
    await nodes.start(node)


async def are_level(nodes: Processes) -> bool:
    """All apps have the same height and hash."""
    return len({tuple(await nodes.ask(node, "hash")) for node in nodes.ids}) == 1


async def main(folder: Path) -> None:
    chance, stop = random.Random(7), asyncio.Event()
    seen: list[str] = []
    async with asyncio.timeout(END_S), chain(folder) as (nodes, apps):
        writers = [asyncio.ensure_future(write(nodes, writer, seen, stop)) for writer in range(3)]
        for _ in range(KILLS):
            await asyncio.sleep(BETWEEN_S)
            await strike(nodes, apps, chance)
        await asyncio.sleep(BETWEEN_S)
        stop.set()
        await asyncio.gather(*writers)
        assert len(seen) > 5
        await until_async(lambda: are_level(nodes))
        for key in seen:
            assert [await nodes.ask(node, "has", key) for node in nodes.ids] == [["1"]] * NODES, key


def test_nodes_and_apps_are_killed_under_load(tmp_path: Path) -> None:
    asyncio.run(main(tmp_path))
