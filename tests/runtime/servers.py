"""Servers: whole nodes of one cluster on one event loop, real sockets and real files; started, stopped and crashed.

    async with servers(tmp_path) as cluster:
        leader = await cluster.leader()
        await cluster.crash(leader)

``run`` of tests.wire.harness runs such a coroutine, with a time-out, and fails where anything raised out of a callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from quorate.machines.kv import commands as kv
from quorate.machines.state_machine import StateMachine
from quorate.protocols.raft import RaftConfig
from quorate.runtime import key_files
from quorate.runtime.folder import Beginning
from quorate.service.client.aio import AsyncClient
from quorate.service.config import Member, NodeConfig
from quorate.service.server import Server, kv_machine

from tests.ports import free_ports

FAST = RaftConfig(heartbeat_s=0.04, election_timeout_s_min=0.2)
PATIENCE_S = 60.0
"""Before a test that hangs is a failure; no test waits that long when all is well."""


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end; fails if anything raised out of a callback or a forgotten task."""
    escaped: list[dict[str, Any]] = []

    async def bounded() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
        async with asyncio.timeout(PATIENCE_S):
            return await main

    result = asyncio.run(bounded())
    assert not escaped, escaped
    return result


class Disturbed(Exception):
    """What a test is about did not come about, as the machine was slow: nothing was seen of it."""


def run_until_seen(main: Callable[[Path], Coroutine[Any, Any, None]], folder: Path, tries: int = 10) -> None:
    """Run a coroutine, each time in a folder of its own, until it is not disturbed."""
    for number in range(tries):
        with suppress(Disturbed):
            (folder / str(number)).mkdir()
            run(main(folder / str(number)))
            return
    raise AssertionError(f"disturbed {tries} times")


async def until(condition: Callable[[], Any]) -> Any:
    """Wait for a condition; ``run`` ends the wait of a test that fails."""
    while not (found := condition()):  # noqa: ASYNC110 (what is waited for has no event)
        await asyncio.sleep(0.005)
    return found


async def until_async(condition: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """The same for a condition that must be asked for."""
    while not (found := await condition()):  # noqa: ASYNC110 (it is another process that changes)
        await asyncio.sleep(0.05)
    return found


class Servers:
    """Nodes 1 to ``nodes``, each with its folder ``folder/n<i>``."""

    def __init__(
        self,
        folder: Path,
        nodes: int = 3,
        options: Any = FAST,
        machine: Callable[[Path], StateMachine] = kv_machine,
        cluster: str = "test",
        protocol: str = "raft",
    ) -> None:
        self.folder = folder
        self.ids = tuple(range(1, nodes + 1))
        ports = free_ports(2 * nodes)
        addresses = [f"127.0.0.1:{port}" for port in ports]
        self.members = {node: Member(addresses[2 * node - 2], addresses[2 * node - 1]) for node in self.ids}
        self.config = NodeConfig(
            cluster=cluster, node=1, data=folder, nodes=self.members, options=options, protocol=protocol
        )
        if self.config.entry.traits.has_keys:
            key_files.generate(folder / "keys", nodes)
            self.config = msgspec.structs.replace(self.config, keys=folder / "keys")
        self.machine = machine
        self.running: dict[int, Server] = {}

    def make(self, node: int, beginning: Beginning = Beginning.EITHER, **changes: Any) -> Server:
        """A server that is not started yet."""
        config = msgspec.structs.replace(self.config, node=node, data=self.folder / f"n{node}")
        return Server(msgspec.structs.replace(config, **changes), self.machine, beginning)

    async def start(self, *nodes: int) -> None:
        """Start nodes (all, if none is named) that do not run."""
        for node in nodes or self.ids:
            if node not in self.running:
                server = self.make(node)
                await server.start()
                self.running[node] = server

    async def stop(self, *nodes: int) -> None:
        """Stop nodes in order."""
        for node in nodes or tuple(self.running):
            await self.running.pop(node).stop()

    async def crash(self, node: int) -> None:
        """From one moment to the next it says nothing more and answers nobody; then its files are closed."""
        server = self.running.pop(node)
        server.node._end(None)
        for connection in [*server.listener.connections, *server.node.peers.callers]:
            connection.cut("crash")
        await server.stop()

    def endpoints(self, *nodes: int) -> list[str]:
        """Where clients reach nodes."""
        return [self.members[node].client for node in nodes or self.ids]

    def client(self, *nodes: int, timeout_s: float = 20.0, **options: Any) -> AsyncClient:
        """A client of all nodes, or of those given."""
        return AsyncClient(self.endpoints(*nodes), timeout_s=timeout_s, **options)

    def core(self, node: int) -> Any:
        """The protocol's core of a node that runs."""
        return self.running[node].node.host.root

    async def leader(self) -> int:
        """The node that a majority takes for the leader, itself among them."""

        def agreed() -> int | None:
            for node in self.running:
                followers = sum(self.core(other).standing().leader == node for other in self.running)
                if self.core(node).standing().leader == node and 2 * followers > len(self.ids):
                    return node
            return None

        return int(await until(agreed))

    async def converged(self) -> None:
        """Wait until every running node has applied the same, and compare the states."""
        await until(lambda: len({server.replica.applied_index for server in self.running.values()}) == 1)
        states = {self.state(node) for node in self.running}
        assert len(states) == 1, states

    def state(self, node: int) -> tuple[bytes, bytes]:
        """The sessions, and the digest of the store."""
        replica = self.running[node].replica
        return replica.sessions.encode(), replica.read(kv.encode(kv.Digest()))

    def alive(self) -> bool:
        """Whether no node that was started has ended by itself."""
        return not any(server.node._ended.done() for server in self.running.values())


@asynccontextmanager
async def servers(folder: Path, nodes: int = 3, start: bool = True, **options: Any) -> AsyncIterator[Servers]:
    """A cluster that runs, and that nothing is left of."""
    made = Servers(folder, nodes, **options)
    try:
        if start:
            await made.start()
        yield made
    finally:
        await made.stop()
