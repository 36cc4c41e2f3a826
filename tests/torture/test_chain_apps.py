"""kill -9 of nodes and of their apps under load: one state, and nothing that a client saw is lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.processes import Processes
from tests.torture.chains import Apps, chain, until_level, write

pytestmark = [pytest.mark.slow, pytest.mark.torture]
KILLS = 6
BETWEEN_S = 1.0
END_S = 240.0


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


async def main(folder: Path) -> None:
    chance, stop = random.Random(7), asyncio.Event()
    seen: list[str] = []
    async with asyncio.timeout(END_S), chain(folder) as (nodes, apps, _):
        writers = [asyncio.ensure_future(write(nodes, writer, seen, stop)) for writer in range(3)]
        for _ in range(KILLS):
            await asyncio.sleep(BETWEEN_S)
            await strike(nodes, apps, chance)
        await asyncio.sleep(BETWEEN_S)
        stop.set()
        await asyncio.gather(*writers)
        assert len(seen) > 5
        await until_level(nodes, seen)


def test_nodes_and_apps_are_killed_under_load(tmp_path: Path) -> None:
    asyncio.run(main(tmp_path))
