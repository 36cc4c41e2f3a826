"""Subtrees by inputs on a real Node: they come back from its journal, and from a checkpoint, as they were."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.kernel import Host, Stepped
from quorate.runtime.codec import Codec
from quorate.runtime.node import Node

from tests.kernel.test_replay import state_of
from tests.kernel.trees import Deliver, Draw, Hand, Later, Look, Office, Retire, Say, Spawn
from tests.ports import free_ports
from tests.runtime.crashes import power_cut
from tests.runtime.held_nodes import Words
from tests.runtime.servers import run, until


class Director(Office):
    """Runs the programs that it is submitted."""

    gathers = False

    def submit(self, values: Sequence[bytes]) -> None:
        for value in values:
            self._run(("submit",), msgspec.msgpack.decode(value, type=Say))


class WholeDirector(Director):
    """All of it recovered by inputs."""

    by_inputs = True


CORES = pytest.mark.parametrize("core", [Director, WholeDirector])


def logs_of(host: Host) -> dict[Any, list[Any]]:
    return {path: state[0] for path, state in state_of(host).items()}


async def started(folder: Path, core: type[Director], port: int) -> Node:
    node = Node(
        node=1,
        cluster="c",
        protocol="director",
        addresses={1: ("127.0.0.1", port)},
        make=core,
        codec=Codec(core),
        app=Words(),
        data=folder,
    )
    await node.start()
    return node


async def told(node: Node, *says: Say) -> None:
    """Run programs, and wait until what came of them is durable."""
    for say in says:
        node.submit([msgspec.msgpack.encode(say)])
        await until(lambda: not (node._turn_is_due or node._submissions))
    await until(lambda: not node._inbox and node._durable >= node._written)


OPENING = [
    Say(0, (Spawn(("desk", 0), Say(1, (Spawn(("clerk", 0), Say(2, (Draw(), Look()))), Draw(), Look()))),)),
    Say(0, (Spawn(("desk", 1)), Spawn(("desk", 2)))),
]
"""Three desks, one with a clerk."""


def busy(number: int) -> Say:
    """Chance, times, values handed down and delivered, before and after the cores settled."""
    clerk = Say(number, (Draw(), Later(Say(number, (Deliver(Say(number, (Draw(),))),)))))
    desk = Say(number, (Draw(), Look(), Hand(("clerk", 0), clerk), Later(Say(number, (Deliver(Say(number)),)))))
    return Say(number, (Hand(("desk", 0), desk), Later(Say(number, (Hand(("desk", 1), desk),)))))


@CORES
def test_they_come_back_from_a_power_cut(tmp_path: Path, core: type[Director]) -> None:
    async def main() -> None:
        port, folder = free_ports(1)[0], tmp_path / "n1"
        node = await started(folder, core, port)
        await told(node, *OPENING)
        lengths = []
        for life in range(4):
            await told(node, *(busy(10 * life + number) for number in range(5)))
            before = logs_of(node.host)
            lengths.append(len(before[(("desk", 0), ("clerk", 0))]))
            await power_cut(folder, node.stop)
            node = await started(folder, core, port)
            after = logs_of(node.host)
            assert after.keys() == before.keys()
            for path, log in before.items():
                assert after[path][: len(log)] == log
        assert lengths == sorted(set(lengths)), "each life added something"
        await node.stop()

    run(main())


def test_a_checkpoint_holds_them_and_drops_those_that_are_retired(tmp_path: Path) -> None:
    async def main() -> None:
        port, folder = free_ports(1)[0], tmp_path / "n1"
        node = await started(folder, Director, port)
        await told(node, *OPENING, *map(busy, range(10)))
        node._checkpoint_due = True
        node._journal._base_bytes = 1 << 40  # long enough for one
        await told(node, Say(0, (Retire(("desk", 2)),)))
        assert not node._checkpoint_due
        await until(lambda: not node._journal.has_checkpoint_under_way)
        await told(node, *map(busy, range(10, 20)))
        before = logs_of(node.host)
        await power_cut(folder, node.stop)
        node = await started(folder, Director, port)
        after = logs_of(node.host)
        assert after.keys() == before.keys()
        assert all(after[path][: len(log)] == log for path, log in before.items())
        kept = {record.path for record in node.host.checkpoint() if isinstance(record.value, Stepped)}
        assert kept == {(("desk", 0),), (("desk", 1),)}
        await node.stop()

    run(main())
