"""Small nodes in processes of their own, for tests that kill them: made of a Node and a LineDoor, and nothing else.

A module with a ``main`` that calls ``serve`` is what each process runs. In the test:

    async with Processes(tmp_path, "tests.toy.node", 3) as nodes:
        await nodes.start()
        nodes.kill(0)  # SIGKILL
        await nodes.start(0)

However the test ends, the processes end too: each watches its standard input, which only the test holds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import msgspec

from quorate.runtime.node import Node

from tests.cluster import SOURCE, environment
from tests.doors import Line, LineCaller, LineDoor
from tests.ports import free_ports

STOP_TIMEOUT_S = 30.0


def source_environment() -> dict[str, str]:
    """For a process that runs modules of this checkout, its tests among them."""
    return environment(PYTHONPATH=os.pathsep.join((str(SOURCE), str(SOURCE.parent))))


class Place(msgspec.Struct, frozen=True):
    """Which node a process is; travels as its one argument. ``options`` are for the module that it runs."""

    node: int
    ports: list[int]
    door: int
    folder: str
    options: dict[str, Any] = {}

    @property
    def data(self) -> Path:
        """The node's folder."""
        return Path(self.folder) / f"n{self.node}"

    @property
    def addresses(self) -> dict[int, tuple[str, int]]:
        """Of all nodes."""
        return {node: ("127.0.0.1", port) for node, port in enumerate(self.ports)}


Served: TypeAlias = tuple[Node, Callable[[LineCaller, list[str]], None], Callable[[Any], str]]
"""A node, what takes the lines of its door, and what makes lines of answers."""


class Processes:
    """Nodes 0 to ``count - 1``, each with its folder ``folder/n<i>`` and its log ``folder/n<i>.log``."""

    def __init__(self, folder: Path, module: str, count: int, **options: Any) -> None:
        ports = free_ports(2 * count)
        self.ids = tuple(range(count))
        self.folder = folder
        self.places = {node: Place(node, ports[:count], ports[count + node], str(folder), options) for node in self.ids}
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        self._module = module

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill(*self.running)

    async def start(self, *nodes: int) -> None:
        """Start nodes (all, if none is named), and wait until their doors are open."""
        for node in nodes or self.ids:
            self.running[node] = self._spawn(node)
        for node in nodes or self.ids:
            told = self.running[node].stdout
            assert told is not None
            line = await asyncio.to_thread(told.readline)
            assert line == b"ready\n", f"node {node} did not start:\n{self.log(node)}"

    def kill(self, *nodes: int) -> None:
        """SIGKILL, in whatever state they are."""
        for node in nodes:
            self.running[node].kill()
        for node in nodes:
            self._ended(node)

    def stop(self, *nodes: int) -> None:
        """SIGTERM, and they stop in order."""
        for node in nodes or tuple(self.running):
            self.running[node].send_signal(signal.SIGTERM)
            code = self._ended(node)
            assert code == 0, f"node {node} ended with exit code {code}:\n{self.log(node)}"

    def log(self, node: int) -> str:
        """All that a node ever logged."""
        return (self.folder / f"n{node}.log").read_text(errors="replace")

    async def line(self, node: int) -> Line:
        """A connection to a node's door. Raises OSError where it is down."""
        return await Line.open(self.places[node].door)

    async def ask(self, node: int, *words: str) -> list[str]:
        """One question, one answer. Raises OSError where the node is down."""
        line = await self.line(node)
        try:
            return await line.ask(*words)
        finally:
            line.close()

    def _spawn(self, node: int) -> subprocess.Popen[bytes]:
        with (self.folder / f"n{node}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", self._module, msgspec.json.encode(self.places[node]).decode()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=source_environment(),
                process_group=0,
            )

    def _ended(self, node: int) -> int:
        process = self.running.pop(node)
        code = process.wait(STOP_TIMEOUT_S)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        return code


def serve(make: Callable[[Place], Served]) -> None:
    """In the process: run the node that ``make`` gives until a signal."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.run(_serve(make, msgspec.convert(json.loads(sys.argv[1]), Place)))


async def _serve(make: Any, place: Place) -> None:
    node, take, words = make(place)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_reader(sys.stdin.fileno(), os._exit, 1)  # the test is gone

    def heard(caller: LineCaller, line: list[str]) -> None:
        take(caller, line)
        node.wake()

    door = LineDoor(place.door, heard, node.app.closed, words)
    await node.start()
    await door.start()
    print("ready", flush=True)
    ended = asyncio.ensure_future(node.wait())
    await asyncio.wait((ended, asyncio.ensure_future(stopping.wait())), return_when=asyncio.FIRST_COMPLETED)
    await door.stop()
    await node.stop()
    await ended
