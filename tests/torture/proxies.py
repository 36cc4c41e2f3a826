"""Links to be cut where there is no root: a proxy on the loopback before each node's peer port.

How it works. Nodes dial each other at the proxies. A connection between nodes begins with a Hello, which says who
calls; from then on the bytes of each direction pass a gate of their own, so a cut can be one-way. A cut holds bytes
back, as TCP does with what it must send again; so does a loss, for the time after which TCP sends again; on a slow link
all wait. It offers what a ``Network`` offers, but not what that shows of real packets, so that is preferred.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import TracebackType
from typing import Final, Self

import msgspec

from quorate.cli.folder import HOST, Layout
from quorate.runtime.handshake import Hello
from quorate.service.client.loop_thread import LoopThread

from tests.ports import free_ports
from tests.torture.clocked import LISTEN_VARIABLE
from tests.torture.network import HUB, PROBE_POLL_S, PROBE_TIMEOUT_S, SLOW_S

RESENT_AFTER_S: Final = 0.2
"""The shortest time after which Linux sends again."""
CHUNK_BYTES: Final = 64 << 10
PROBE: Final = b"probe"


@cache
def ports_of(cluster: tuple[str, int], node: int) -> tuple[int, int, int]:
    """For clients, for the proxy, and for peers behind it."""
    client, proxy, behind = free_ports(3)
    return client, proxy, behind


class ProxiedLayout(Layout):
    """Each node behind its proxy; nodes that join, too."""

    def client(self, node: int) -> str:
        """Where clients reach a node."""
        return f"{HOST}:{ports_of(self.key, node)[0]}"

    def peer(self, node: int) -> str:
        """Where the other nodes reach its proxy."""
        return f"{HOST}:{ports_of(self.key, node)[1]}"

    @property
    def key(self) -> tuple[str, int]:
        """Which cluster it is, in this process."""
        return self.cluster, self.base_port


class Gate:
    """One direction between two nodes."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.held = 0
        """Chunks that found it closed."""

    async def passed(self) -> None:
        """Wait until something may pass."""
        if not self.is_open.is_set():
            self.held += 1
            await self.is_open.wait()


class Proxies:
    """A context manager; ``nodes`` as in a Network."""

    layout_type = ProxiedLayout

    def __init__(self, nodes: Iterable[int]) -> None:
        self.nodes = list(nodes)
        self._key = ("", 0)
        self._gates: dict[tuple[int, int], Gate] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._losing: dict[int, int] = {}
        self._lost: Counter[int] = Counter()
        self._slow: set[int] = set()
        self._late: Counter[int] = Counter()
        self._chance = random.Random(0)

    def __enter__(self) -> Self:
        self._thread = LoopThread("proxies")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.run(self._close())
        self._thread.stop()

    def serve(self, layout: ProxiedLayout) -> None:
        """The nodes of this cluster, from now on."""
        self._key = layout.key
        for node in self.nodes:
            self._thread.run(self._listen(node))

    def environment(self, node: int) -> dict[str, str]:
        """For its process."""
        return {LISTEN_VARIABLE: f"{HOST}:{ports_of(self._key, node)[2]}"}

    @contextmanager
    def inside(self, node: int = HUB) -> Iterator[None]:
        """All are in one network."""
        yield

    def join(self, node: int) -> None:
        """One more node."""
        self.nodes.append(node)
        self._thread.run(self._listen(node))

    def leave(self, node: int) -> None:
        """A node whose process is gone."""
        self.nodes.remove(node)
        self._thread.run(self._end(node))

    # --- what is done to links ---

    def cut(self, sender: int, receiver: int) -> None:
        """Nothing from one node to the other; the way back stays."""
        self._thread.run(self._set(sender, receiver, False))

    def heal(self) -> None:
        """All links as at the beginning."""
        self._losing.clear()
        self._slow.clear()
        for sender, receiver in list(self._gates):
            self._thread.run(self._set(sender, receiver, True))

    def passes(self, sender: int, receiver: int) -> bool:
        """Whether a byte gets from one node to the other: it comes back, or is seen to be held up at the gate."""
        return self._thread.run(self._passes(sender, receiver))

    def lose(self, node: int, percent: int) -> None:
        """Of what comes to a node so much comes late, as if it had been lost and sent again."""
        self._lost[node] = 0
        self._losing[node] = percent

    def lost(self, node: int) -> int:
        """How often it did, since ``lose``."""
        return self._lost[node]

    def slow(self, node: int) -> None:
        """What a node sends is late."""
        self._late[node] = 0
        self._slow.add(node)

    def delayed(self, node: int) -> int:
        """How often it was, since ``slow``."""
        return self._late[node]

    # --- on the loop ---

    def _gate(self, sender: int, receiver: int) -> Gate:
        return self._gates.setdefault((sender, receiver), Gate())

    async def _set(self, sender: int, receiver: int, is_open: bool) -> None:
        gate = self._gate(sender, receiver)
        if is_open:
            gate.is_open.set()
        else:
            gate.is_open.clear()

    async def _listen(self, node: int) -> None:
        _, port, behind = ports_of(self._key, node)

        async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                with suppress(OSError, EOFError, msgspec.MsgspecError, asyncio.CancelledError):
                    await self._connected(node, behind, reader, writer)
            finally:
                writer.close()
                self._tasks.discard(task)

        self._servers[node] = await asyncio.start_server(on_connect, HOST, port)

    async def _connected(
        self, node: int, behind: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection, to its end."""
        size = await reader.readexactly(4)
        first = await reader.readexactly(int.from_bytes(size, "little"))
        if first.startswith(PROBE):
            await self._gate(int(first.removeprefix(PROBE)), node).passed()
            writer.write(b".")
            await writer.drain()
            return
        sender = msgspec.msgpack.decode(first, type=Hello).node
        assert sender is not None
        there_reader, there_writer = await asyncio.open_connection(HOST, behind)
        try:
            there_writer.write(size + first)
            ways = (
                asyncio.create_task(self._pump(sender, node, reader, there_writer)),
                asyncio.create_task(self._pump(node, sender, there_reader, writer)),
            )
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            there_writer.close()

    async def _pump(
        self, sender: int, receiver: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        gate = self._gate(sender, receiver)
        while data := await reader.read(CHUNK_BYTES):
            await gate.passed()
            if self._chance.randrange(100) < self._losing.get(receiver, 0):
                self._lost[receiver] += 1
                await asyncio.sleep(RESENT_AFTER_S)
            if sender in self._slow:
                self._late[sender] += 1
                await asyncio.sleep(SLOW_S)
            writer.write(data)
            await writer.drain()

    async def _passes(self, sender: int, receiver: int) -> bool:
        gate, deadline = self._gate(sender, receiver), time.monotonic() + PROBE_TIMEOUT_S
        reader, writer = await asyncio.open_connection(HOST, ports_of(self._key, receiver)[1])
        try:
            held, probe = gate.held, PROBE + b"%d" % sender
            writer.write(len(probe).to_bytes(4, "little") + probe)
            while time.monotonic() < deadline:
                with suppress(TimeoutError):
                    async with asyncio.timeout(PROBE_POLL_S):
                        return bool(await reader.readexactly(1))
                if gate.held > held and not gate.is_open.is_set():
                    return False
        finally:
            writer.close()
        raise AssertionError(f"a byte from {sender} to {receiver} neither arrives nor is held up")

    async def _end(self, node: int) -> None:
        self._servers.pop(node).close()

    async def _close(self) -> None:
        for node in list(self._servers):
            await self._end(node)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
