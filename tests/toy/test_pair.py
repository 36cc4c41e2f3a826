"""Two logs in one process serve one App: outputs, submissions and snapshots have the path of their log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from quorate.kernel import ROOT, App, Core, Rng
from quorate.kernel import Path as CorePath
from quorate.parts.log.replicated import Restored
from quorate.runtime.node import Node
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.checkers.log import AGREEMENT, LogAgreement
from quorate.sim.logs import LogSubject
from quorate.sim.options import Options
from quorate.sim.trial import Trial
from quorate.sim.workload import Driver
from quorate.sim.world import World

from tests.ports import free_ports
from tests.runtime.nodes import nodes
from tests.runtime.servers import run, until
from tests.sim.casting import Casting
from tests.toy.pair import LEFT, PATHS, RIGHT, Pair, TwoLogs

SEEDS = 30

# --- in the simulator ---


class Watched(TwoLogs):
    """Shows a checker of each log what it is given."""

    def __init__(self, node: int, checkers: dict[CorePath, LogAgreement]) -> None:
        super().__init__()
        self._node = node
        self._checkers = checkers

    def output(self, value: Any, path: CorePath = ROOT) -> None:
        self._checkers[path].output(self._node, value)
        super().output(value, path)

    def restore(self, file: BinaryIO, path: CorePath = ROOT) -> Callable[[], None]:
        adopt = super().restore(file, path)

        def adopt_and_show() -> None:
            adopt()
            self._checkers[path].output(self._node, Restored(self.positions[path], 0))

        return adopt_and_show


class OneLog(Watched):
    """Has a bug: takes everything for the left log's."""

    def output(self, value: Any, path: CorePath = ROOT) -> None:
        super().output(value, LEFT)


class EachLog(Casting):
    """Puts values into one log and the other in turn, at one node after the other."""

    def __init__(self, client: int, nodes: Sequence[int], patience_s: float) -> None:
        super().__init__(nodes, patience_s)
        self._client = client

    def words(self) -> list[tuple[int, Any]]:
        node = self.nodes[(self._client + self.said) % len(self.nodes)]
        return [(node, (PATHS[self.count % 2], self.value))]

    def understands(self, response: bytes) -> bool:
        return response == self.value

    @property
    def value(self) -> bytes:
        return b"%d/%d" % (self._client, self.count)


class PairSubject(LogSubject):
    """The App over two logs, and a checker of each."""

    def __init__(self, app: type[Watched] = Watched) -> None:
        self.logs = {path: LogAgreement() for path in PATHS}
        self._app = app

    def app(self, node: int, rng: Rng) -> App:
        return self._app(node, self.logs)

    def driver(self, client: int, rng: Rng, nodes: tuple[int, ...], patience_s: float) -> Driver:
        return EachLog(client, nodes, patience_s)


class Starts(Checker):
    """Tells the checkers of a subject when a node begins anew."""

    def __init__(self, subject: PairSubject) -> None:
        self._subject = subject

    def started(self, node: int, core: Core) -> None:
        for checker in self._subject.logs.values():
            checker.started(node, core)


def pair(seed: int, app: type[Watched] = Watched) -> World:
    """A whole run under every fault, to where all nodes have the same logs. Raises Violation."""
    subject = PairSubject(app)
    world = World(Trial(Pair, subject, Options(seed=seed, nodes=3)), (Starts(subject),))
    world.run()
    end = world.now + 60.0
    while len({repr(app_of(world, node).logs) for node in world.peers}) > 1:
        assert world.now < end, "the logs differ long after all was healed"
        world.run_until(world.now + 0.1)
    for path, log in app_of(world, 0).logs.items():
        agreed = [entry.data for entry in subject.logs[path].agreed if entry.data]
        assert log == agreed
    return world


def app_of(world: World, node: int) -> TwoLogs:
    app = world.nodes[node].app
    assert isinstance(app, TwoLogs)
    return app


def test_two_logs_agree_each_for_itself_under_every_fault() -> None:
    taken, received, lengths = dict.fromkeys(PATHS, 0), dict.fromkeys(PATHS, 0), dict.fromkeys(PATHS, 0)
    for seed in range(SEEDS):
        world = pair(seed)
        for path in PATHS:
            lengths[path] += len(app_of(world, 0).logs[path])
            taken[path] += sum(node.snapshots_of(path).taken for node in world.nodes)
            received[path] += sum(node.snapshots_of(path).received for node in world.nodes)
        assert all(node.snapshots.taken == 0 for node in world.nodes), "the root takes none"
        for log, other in ((LEFT, RIGHT), (RIGHT, LEFT)):
            assert not set(app_of(world, 0).logs[log]) & set(app_of(world, 0).logs[other])
    for counts, least in ((lengths, 20 * SEEDS), (taken, 5 * SEEDS), (received, 10)):
        assert all(count > least for count in counts.values()), (lengths, taken, received)


def test_an_app_that_takes_no_notice_of_the_path_is_seen() -> None:
    with pytest.raises(Violation) as seen:
        pair(0, OneLog)
    assert seen.value.property in ("order of commits", AGREEMENT)


# --- on real nodes ---


class Replies:
    """A client that notes its answers."""

    principal = "the test"

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def reply(self, response: bytes) -> None:
        self.seen.append(response)


async def put(made: list[Node], path: CorePath, value: bytes) -> None:
    """Have a value committed in a log; what is dropped is submitted again, at another node."""
    client = Replies()
    attempt = 0
    while not client.seen:
        node = made[attempt % len(made)]
        attempt += 1
        node.app.request(client, (path, value))
        node.wake()
        try:
            async with asyncio.timeout(0.5):
                await until(lambda: client.seen)
        except TimeoutError:
            continue


def snapshot_files(folder: Path, node: int) -> set[str]:
    """The folders in which a node has snapshots."""
    root = folder / f"n{node}" / "snapshots"
    return {str(path.parent.relative_to(root)) for path in root.rglob("*.snap")}


def test_real_nodes_keep_and_send_the_snapshots_of_each_log(tmp_path: Path) -> None:
    async def main() -> None:
        ports = free_ports(3)
        count = 60
        apps = [TwoLogs() for _ in range(3)]
        async with nodes(tmp_path, Pair, apps, ports=ports) as made:
            await made[2].stop()
            for number in range(count):
                await asyncio.gather(*(put(made[:2], path, b"%d" % number + name(path)) for path in PATHS))
            await until(lambda: all(apps[0].snapshots[path] > 2 for path in PATHS))
            assert snapshot_files(tmp_path, 0) == {"log-1", "log-2"}
            assert apps[2].logs[LEFT] == []
        again = [TwoLogs() for _ in range(3)]
        async with nodes(tmp_path, Pair, again, ports=ports) as made:
            # Node 2 gets from the others' snapshots what their logs no longer have.
            await until(lambda: all(len(app.logs[path]) >= count for app in again for path in PATHS))
            assert all(again[2].restores[path] for path in PATHS)
            await until(lambda: all(app.logs == again[0].logs for app in again))
            for path in PATHS:
                assert set(again[0].logs[path]) == {b"%d" % number + name(path) for number in range(count)}

    run(main())


def name(path: CorePath) -> bytes:
    return {LEFT: b" left", RIGHT: b" right"}[path]
