"""Five strangers in processes of their own: they find each other, gossip, and ban the one that misbehaves, for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import Processes
from tests.runtime.servers import run, until_async
from tests.toy.stranger import signer

pytestmark = pytest.mark.torture
COUNT = 5


def keys(*nodes: int) -> list[str]:
    return sorted(signer(node).public.hex() for node in nodes)


async def linked(strangers: Processes, groups: dict[int, tuple[int, ...]]) -> None:
    """Wait until each node has links to just these."""

    async def as_wanted() -> bool:
        found = {node: (await strangers.ask(node, "peers"))[1:] for node in groups}
        return found == {node: keys(*others) for node, others in groups.items()}

    await until_async(as_wanted)


async def everybody_heard(strangers: Processes, nodes: tuple[int, ...], rumours: list[str]) -> None:
    async def heard() -> bool:
        return all([(await strangers.ask(node, "heard"))[1:] == rumours for node in nodes])

    await until_async(heard)


def everybody(*nodes: int) -> dict[int, tuple[int, ...]]:
    return {node: tuple(other for other in nodes if other != node) for node in nodes}


def test_one_that_misbehaves_is_banned_and_dials_again_in_vain(tmp_path: Path) -> None:
    async def main() -> None:
        async with Processes(tmp_path, "tests.toy.stranger", COUNT) as strangers:
            await strangers.start()
            await linked(strangers, everybody(0, 1, 2, 3, 4))
            await strangers.ask(4, "tell", "7")
            await everybody_heard(strangers, (0, 1, 2, 3, 4), ["7"])

            await strangers.ask(4, "garbage")
            await linked(strangers, {**everybody(0, 1, 2, 3), 4: ()})

            for node in (0, 1, 2, 3):  # it dials each of them, and is refused by each
                await strangers.ask(4, "dial", str(strangers.places[node].ports[node]))

            async def refused() -> bool:
                return " ".join(await strangers.ask(4, "unmet")).count("banned") >= 4

            await until_async(refused)
            strangers.kill(4)  # and it is no better after a restart
            await strangers.start(4)
            await until_async(refused_again(strangers))
            await strangers.ask(1, "tell", "8")
            await everybody_heard(strangers, (0, 1, 2, 3), ["7", "8"])
            assert (await strangers.ask(4, "heard")) == ["heard"]
            await linked(strangers, {**everybody(0, 1, 2, 3), 4: ()})

    def refused_again(strangers: Processes):
        async def found() -> bool:
            return "banned" in " ".join(await strangers.ask(4, "unmet"))

        return found

    run(main())


def test_a_stranger_that_is_killed_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with Processes(tmp_path, "tests.toy.stranger", 3) as strangers:
            await strangers.start()
            await linked(strangers, everybody(0, 1, 2))
            strangers.kill(1)
            await linked(strangers, everybody(0, 2))
            await strangers.ask(2, "tell", "3")
            await strangers.start(1)
            await linked(strangers, everybody(0, 1, 2))
            await everybody_heard(strangers, (0, 1, 2), ["3"])

    run(main())
