"""Chains of real processes: four nodes, an ABCI app for each in a process of its own, proxies between them, a load."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from quorate.runtime import key_files
from quorate.runtime.endpoints import Endpoint

from tests.processes import Processes, source_environment
from tests.runtime.servers import until_async
from tests.service.abci_apps import until_listened_on
from tests.torture.proxies import ProxiedLayout, Proxies, ports_of

NODES = 4
ANSWER_S = 2.0
"""How long a client waits for a node, which may be stopped."""


class Apps:
    """One process for each node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def path(self, node: int) -> Path:
        return self.folder / f"app{node + 1}.sock"

    async def start(self, node: int) -> None:
        command = [sys.executable, "-m", "tests.torture.kv_app", f"unix://{self.path(node)}"]
        self.running[node] = subprocess.Popen(
            command, env=source_environment(), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        await until_listened_on(Endpoint("", 0, str(self.path(node))))

    def kill(self, *nodes: int) -> None:
        for node in nodes:
            process = self.running.pop(node)
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


class Chain(NamedTuple):
    """Nodes, their apps, and what is between the nodes. Links have the nodes' own numbers, which begin at 1."""

    nodes: Processes
    apps: Apps
    links: Proxies

    async def restart(self, node: int) -> None:
        """A node that was killed, with an app that is there."""
        if node not in self.apps.running:
            await self.apps.start(node)
        await self.nodes.start(node)


@asynccontextmanager
async def chain(folder: Path, module: str = "tests.torture.chain_node", **more: Any) -> AsyncIterator[Chain]:
    """One that runs; its files are in the folder."""
    key_files.generate(folder / "keys", NODES)
    apps = Apps(folder)
    layout = ProxiedLayout(str(folder), NODES, "tendermint", 0)
    ports = [ports_of(layout.key, node) for node in range(1, NODES + 1)]
    clients, peers, behind = map(list, zip(*ports, strict=True))
    addresses = {"peers": peers, "clients": clients, "behind": behind}
    options = {**addresses, "keys": str(folder / "keys"), "app": f"unix://{folder}/app{{node}}.sock", **more}
    try:
        with Proxies(range(1, NODES + 1)) as links:
            links.serve(layout)
            async with Processes(folder, module, NODES, **options) as nodes:
                for node in nodes.ids:
                    await apps.start(node)
                await nodes.start()
                yield Chain(nodes, apps, links)
    finally:
        apps.kill(*apps.running)


async def ask(nodes: Processes, node: int, *words: str) -> list[str]:
    """One question. Raises OSError where the node is down, or takes too long."""
    async with asyncio.timeout(ANSWER_S):
        return await nodes.ask(node, *words)


async def write(nodes: Processes, writer: int, seen: list[str], stop: asyncio.Event) -> None:
    """Bring transactions to any node, until one node's app shows the value; that is what a client has seen."""
    chance, count = random.Random(writer), 0
    while not stop.is_set():
        count += 1
        key = f"w{writer}-{count}"
        while not stop.is_set():
            with suppress(OSError):
                await ask(nodes, chance.choice(nodes.ids), "tx", f"{key}=1".encode().hex())
            with suppress(OSError):
                if await ask(nodes, chance.choice(nodes.ids), "has", key) == ["1"]:
                    seen.append(key)
                    break
            await asyncio.sleep(0.05)


async def until_level(nodes: Processes, seen: list[str]) -> None:
    """All apps come to the same height and hash, and have all that clients saw. Raises AssertionError if not."""

    async def are_level() -> bool:
        return len({tuple(await nodes.ask(node, "hash")) for node in nodes.ids}) == 1

    await until_async(are_level)
    for key in seen:
        assert [await nodes.ask(node, "has", key) for node in nodes.ids] == [["1"]] * NODES, key
