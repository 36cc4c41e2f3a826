"""Asking on real processes, with sockets, files and signals: it decides, survives kill -9, and agrees."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Processes
from tests.runtime.servers import run, until

pytestmark = pytest.mark.torture
RETRY_S = 0.5
"""A submission that nobody answers for so long is sent again, to whoever is there."""
WRITERS = 3


async def cluster(folder: Path, work: Any, **options: Any) -> None:
    async with Processes(folder, "tests.toy.node", 3, **options) as nodes:
        await nodes.start()
        await work(nodes)


async def heard(nodes: Processes, node: int, id: str) -> None:
    """Submit at one node and wait for its answer; for ever, if there is none."""
    with suppress(OSError):
        if (await nodes.ask(node, "submit", id)) == ["applied", id]:
            return
    await asyncio.get_running_loop().create_future()


async def submit(nodes: Processes, id: str) -> None:
    """Submit at all nodes until one has run it."""
    while True:
        asked = [asyncio.ensure_future(heard(nodes, node, id)) for node in nodes.ids]
        done, waiting = await asyncio.wait(asked, timeout=RETRY_S, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if done:
            return


async def submit_until(stop: asyncio.Event, nodes: Processes, writer: int, acknowledged: list[str]) -> None:
    count = 0
    while not stop.is_set():
        count += 1
        await submit(nodes, f"{writer}/{count}")
        acknowledged.append(f"{writer}/{count}")


async def log(nodes: Processes, node: int) -> list[str]:
    """The checksums of what a node has decided."""
    return (await nodes.ask(node, "log"))[1:]


async def agreed(nodes: Processes, at_least: int = 1) -> list[str]:
    """What all have decided, when they have decided the same."""
    while True:
        logs = await asyncio.gather(*(log(nodes, node) for node in nodes.ids))
        shortest = min(map(len, logs))
        assert all(one[:shortest] == logs[0][:shortest] for one in logs), logs
        if shortest >= at_least and len(set(map(tuple, logs))) == 1:
            return logs[0]


def test_three_processes_decide_and_agree_through_kills(tmp_path: Path) -> None:
    chance = random.Random(3)

    async def work(nodes: Processes) -> None:
        acknowledged: list[str] = []
        stop = asyncio.Event()
        writers = [asyncio.ensure_future(submit_until(stop, nodes, n, acknowledged)) for n in range(WRITERS)]
        for round in range(4):
            goal = len(acknowledged) + 1 + chance.randrange(12)
            await until(lambda goal=goal: len(acknowledged) >= goal)
            victims = nodes.ids if round == 3 else (chance.choice(nodes.ids),)
            nodes.kill(*victims)
            if len(victims) == 1:
                goal = len(acknowledged) + 2
                await until(lambda goal=goal: len(acknowledged) >= goal)  # a majority goes on
            await nodes.start(*victims)
        stop.set()
        await asyncio.gather(*writers)
        decided = await agreed(nodes)
        assert await told(nodes, acknowledged)
        nodes.kill(*nodes.ids)
        await nodes.start()
        assert (await agreed(nodes, len(decided)))[: len(decided)] == decided
        assert await told(nodes, acknowledged)
        nodes.stop()

    run(cluster(tmp_path, work))


async def told(nodes: Processes, acknowledged: list[str]) -> bool:
    """Whether every node says of all that was acknowledged that it has it, at once: nothing is decided for it."""
    before = await agreed(nodes)
    for node in nodes.ids:
        for id in acknowledged:
            assert await nodes.ask(node, "submit", id) == ["applied", id]
    return before == await agreed(nodes)


SICK = ["WrongBuilder", *[pytest.param(app, marks=pytest.mark.slow) for app in ("NeverBuilds", "NoBuilder", "NoJudge")]]
"""All of them run in the simulator, too: ``test_asking_simulated.py``."""


@pytest.mark.parametrize("app", SICK)
def test_one_app_that_is_wrong_or_silent_stops_nobody(tmp_path: Path, app: str) -> None:
    async def work(nodes: Processes) -> None:
        for number in range(4):
            await submit(nodes, str(number))
        assert await agreed(nodes)
        nodes.stop()

    run(cluster(tmp_path, work, apps={"1": app}))


def test_a_client_that_hangs_up_is_forgotten_and_what_it_submitted_is_decided(tmp_path: Path) -> None:
    async def work(nodes: Processes) -> None:
        nodes.kill(1, 2)  # so that nothing is decided meanwhile
        stays, leaves = await nodes.line(0), await nodes.line(0)
        stays.send("submit", "stays")
        leaves.send("submit", "leaves")
        await until_told(nodes, ["waiting", "2", "0"])
        leaves.close()
        await until_told(nodes, ["waiting", "1", "0"])
        await nodes.start(1, 2)
        assert await stays.read() == ["applied", "stays"]
        await until_told(nodes, ["waiting", "0", "2"])
        nodes.stop()

    run(cluster(tmp_path, work))


async def until_told(nodes: Processes, expected: list[str]) -> None:
    while await nodes.ask(0, "waiting") != expected:
        pass


def test_the_harness_says_why_a_node_does_not_start(tmp_path: Path) -> None:
    async def work(nodes: Processes) -> None:
        nodes.kill(0)
        nodes.places[0].options["apps"] = {"0": "Nonsense"}
        with pytest.raises(AssertionError, match="no attribute 'Nonsense'"):
            await nodes.start(0)

    run(cluster(tmp_path, work))
