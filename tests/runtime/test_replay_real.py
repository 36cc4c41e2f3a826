"""Recovery by inputs on real nodes: kill -9 at any moment, and what comes back is what a replay of the journal gives.

The test reads the journal of a node that was killed, steps a Host of its own through it, and compares: the state, the
Turns, byte for byte, and what the node itself finds when it is started again.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.kernel import ROOT, Began, Core, Host, Record, Stepped, seed_in
from quorate.runtime.chance import new_seed, seeded_streams
from quorate.runtime.codec import Codec
from quorate.runtime.files import Identity
from quorate.runtime.journal import Journal

from tests.processes import Processes
from tests.runtime.lottery import Hall, Lottery, digest_of
from tests.runtime.lottery_node import turns_in
from tests.runtime.servers import run, until

pytestmark = pytest.mark.torture
KILLS = 6
WRITERS = 2
"""At each node."""
PAUSE_S = 0.02
"""Between two values of a writer: each check replays the whole journal, and traffic goes on meanwhile."""


# --- the journal of a node that was killed ---


def records_of(nodes: Processes, node: int, core: type[Core]) -> list[Record]:
    """What a killed node would recover, from a copy of its journal."""
    copy = nodes.folder / "copy"
    shutil.copytree(nodes.places[node].data / "journal", copy)
    try:
        journal, frames = Journal.open(copy, identity=Identity("lottery", node))
        journal.close()
    finally:
        shutil.rmtree(copy)
    codec = Codec(core)
    return [record for frame in frames for record in codec.decode_records(frame)]


def new_host(nodes: Processes, node: int, core: type[Core], records: list[Record]) -> Host:
    """A Host for these records, which it has not seen yet."""
    seed = seed_in(records) or new_seed()
    return Host(core, node, nodes.ids, seeded_streams(seed), seed=seed)


def replayed(nodes: Processes, node: int, core: type[Core], records: list[Record]) -> Host:
    """A Host that has recovered."""
    host = new_host(nodes, node, core, records)
    for record in records:
        host.restore(record)
    return host


def digest(host: Host) -> str:
    root: Any = host.root
    return digest_of(root.state())


def check_turns(nodes: Processes, node: int, records: list[Record]) -> int:
    """Step through the journal of a Lottery; the Turns must be those that the node has written down. How many."""
    starts = [at for at, record in enumerate(records) if record.value.start]
    for life, begin in enumerate(starts):
        written = turns_in((nodes.places[node].data / f"turns-{life}").read_bytes())
        end = starts[life + 1] if life + 1 < len(starts) else len(records)
        host = new_host(nodes, node, Lottery, records)
        for record in records[:begin]:
            host.restore(record)
        for number, record in enumerate(records[begin:end]):
            stepped = record.value
            if stepped.start:
                turn = host.start(stepped.now, stepped.wall_ns)
            else:
                turn = host.step(stepped.inputs, stepped.now, stepped.wall_ns)
            assert msgspec.msgpack.encode(turn) == written[number], f"life {life}, turn {number}"
    return len(records)


# --- traffic and kills ---


async def draw_until(stop: asyncio.Event, nodes: Processes, node: int, writer: int, told: list[bytes]) -> None:
    count = 0
    while not stop.is_set():
        count += 1
        value = f"{node}/{writer}/{count}/{len(told)}"
        with suppress(OSError):
            if await nodes.ask(node, "draw", value) == ["drawn", value]:
                told.append(value.encode())
        await asyncio.sleep(PAUSE_S)


async def tortured(nodes: Processes, check: Callable[[int], Any]) -> dict[int, list[bytes]]:
    """Traffic at all nodes and kills between; ``check(node)`` while a node is down gives the digest it must find."""
    chance = random.Random(5)
    told: dict[int, list[bytes]] = {node: [] for node in nodes.ids}
    stop = asyncio.Event()
    writers = [
        asyncio.ensure_future(draw_until(stop, nodes, node, writer, told[node]))
        for node in nodes.ids
        for writer in range(WRITERS)
    ]
    for kill in range(KILLS):
        victims = nodes.ids if kill == 3 else (chance.choice(nodes.ids),)
        goals = {node: len(told[node]) + 1 + chance.randrange(25) for node in victims}
        await until(lambda goals=goals: all(len(told[node]) >= goal for node, goal in goals.items()))
        nodes.kill(*victims)
        expected = {node: await asyncio.to_thread(check, node) for node in victims}
        await nodes.start(*victims)
        for node in victims:
            assert await nodes.ask(node, "found") == ["found", expected[node]]
            for value in list(told[node]):
                while await nodes.ask(node, "known", value.decode()) != ["known", "True"]:
                    pass  # the start itself is not durable yet, and so not with the App
    stop.set()
    await asyncio.gather(*writers)
    return told


def test_a_node_that_is_recovered_by_inputs_finds_what_its_journal_gives(tmp_path: Path) -> None:
    async def main() -> None:
        async with Processes(tmp_path, "tests.runtime.lottery_node", 3, core="lottery") as nodes:
            await nodes.start()

            def check(node: int) -> str:
                return digest(replayed(nodes, node, Lottery, records_of(nodes, node, Lottery)))

            told = await tortured(nodes, check)
            nodes.kill(*nodes.ids)
            turns = 0
            for node in nodes.ids:
                records = records_of(nodes, node, Lottery)
                root = replayed(nodes, node, Lottery, records).root
                assert isinstance(root, Lottery)
                assert {value for sender, value, _ in root.drawn if sender == node} >= set(told[node])
                assert {sender for sender, _, _ in root.drawn} == set(nodes.ids)
                assert root.booths > 3
                assert len(root.weights) > 20
                turns += check_turns(nodes, node, records)
            assert turns > 1000

    run(main())


@pytest.mark.slow
def test_a_subtree_that_is_recovered_by_inputs_goes_with_its_root(tmp_path: Path) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"core": "hall", "checkpoint_after_bytes": 8_000}
        async with Processes(tmp_path, "tests.runtime.lottery_node", 3, **options) as nodes:
            await nodes.start()

            def check(node: int) -> str:
                return digest(replayed(nodes, node, Hall, records_of(nodes, node, Hall)))

            told = await tortured(nodes, check)
            nodes.kill(*nodes.ids)
            for node in nodes.ids:
                records = records_of(nodes, node, Hall)
                root = replayed(nodes, node, Hall, records).root
                assert isinstance(root, Hall)
                assert set(root.bets) >= set(told[node])
                assert len(root.totals) > 5
                assert root.game is not None
                games = {record.path[0][1] for record in records if type(record.value) is Stepped}
                assert root.game[0] in games
                assert 1 not in games, "the journal was replaced by a checkpoint, and a game that is over is not in it"
                assert "checkpoint" in nodes.log(node)
                assert all(type(record.value) is not Stepped for record in records if record.path == ROOT)

    run(main())


def test_each_start_by_records_is_in_the_journal_and_counts_for_nothing_at_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        async with Processes(tmp_path, "tests.runtime.lottery_node", 1, core="hall") as nodes:
            for life in range(3):
                await nodes.start()
                assert await nodes.ask(0, "draw", f"{life}") == ["drawn", f"{life}"]
                nodes.kill(0)
            records = records_of(nodes, 0, Hall)
            began = [record.value for record in records if type(record.value) is Began]
            assert len({one.seed for one in began}) == len(began) == 3
            assert all(one.now > 0 and one.wall_ns > 10**18 for one in began)
            without = [record for record in records if type(record.value) is not Began]
            assert digest(replayed(nodes, 0, Hall, without)) == digest(replayed(nodes, 0, Hall, records))

    run(main())
