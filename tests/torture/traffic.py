"""Traffic: clients that read, write and compare-and-set a few keys for as long as a test lets them.

They run on an event loop in a thread of its own, while the test's thread does harm to the nodes. Every call is recorded
as the client's error classes promise: Unreachable and NoQuorum say that nothing happened, so the operation failed;
OutcomeUnknown leaves it open to the end, and its process invokes nothing more (Jepsen's convention).
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from quorate.machines.kv.commands import Compare, Put, Relation, Target
from quorate.protocols import REGISTRY
from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import NoQuorum, OutcomeUnknown, Unreachable
from quorate.service.client.loop_thread import LoopThread

from tests.cluster import LocalCluster, until
from tests.torture.history import Recorder

CLIENTS = 4
KEYS = ("a", "b", "c", "d", "e")
TIMEOUTS_S = (0.25, 0.5, 1.0, 3.0)
"""By client: the impatient see outcomes that stay unknown, the patient see their retries succeed."""
THINK_S_MAX = 0.02
"""Between the operations of one client: a history of tens of thousands is checked in seconds."""
FUNCTIONS = {"get": 40, "put": 35, "cas": 25}
FINAL_PROCESS = 1_000_000
PROGRESS_TIMEOUT_S = 40.0


def known_to(client: int, cluster: LocalCluster) -> list[str]:
    """Every other client knows one node alone, so that followers are asked, too: whoever knows all finds the leader.

    Where nodes may lie, all clients know all nodes, and ask them all. Where nodes come and go, this changes.
    """
    endpoints = cluster.endpoints
    is_alone = client % 2 and not REGISTRY[cluster.layout.protocol].traits.has_keys
    return [endpoints[client % len(endpoints)]] if is_alone else endpoints


class Background:
    """A coroutine on a loop in a thread, ended by ``finish``; what it raised is raised there. A context manager."""

    def __init__(self, main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
        self._main = main

    def __enter__(self) -> Self:
        self._thread = LoopThread("torture")
        self._ending = asyncio.Event()
        self._running = asyncio.run_coroutine_threadsafe(self._main(self._ending), self._thread.loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self._running.cancel()
            self._thread.run(_others_ended())
            self._thread.stop()

    def finish(self) -> None:
        """Let it come to its end. Raises what it raised."""
        self._thread.loop.call_soon_threadsafe(self._ending.set)
        self._running.result(PROGRESS_TIMEOUT_S)

    def check(self) -> None:
        """Raise what it raised, if it ended so."""
        if self._running.done():
            self._running.result()


async def _others_ended() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Traffic:
    """``clients`` clients of a cluster. Counts and events are in ``recorder``.

    ``think_s_max``: how long each waits at the most between two operations.
    """

    def __init__(
        self,
        cluster: LocalCluster,
        history: Path,
        seed: int,
        clients: int = CLIENTS,
        think_s_max: float = THINK_S_MAX,
    ) -> None:
        self.cluster = cluster
        self.think_s_max = think_s_max
        self.recorder = Recorder(history)
        self.clients = clients
        self.seed = seed
        self._values = itertools.count(1)
        self._seen: dict[str, int | None] = dict.fromkeys(KEYS)
        self._background = Background(self._run)

    def __enter__(self) -> Self:
        self.recorder.__enter__()
        self._background.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._background.__exit__(kind, error, trace)
        finally:
            self.recorder.__exit__(kind, error, trace)

    @property
    def acknowledged(self) -> int:
        """Operations that were answered."""
        return self.recorder.counts["ok"]

    def finish(self) -> None:
        """Let each client end its operation, then read every key once more."""
        self._background.finish()

    def progress(self, operations: int = 20, patience_s: float = PROGRESS_TIMEOUT_S) -> None:
        """Wait until so many more are answered; a cluster with a majority owes that."""
        self._background.check()
        wanted = self.acknowledged + operations
        until(lambda: self.acknowledged >= wanted, f"{operations} more operations answered", patience_s)

    async def _run(self, ending: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self.clients):
                group.create_task(self._client(number, ending))
        chance = random.Random(self.seed)
        async with AsyncClient(self.cluster.endpoints, timeout_s=PROGRESS_TIMEOUT_S / 2) as client:
            for key in KEYS:
                await self._one(client, FINAL_PROCESS, "get", key, chance)

    async def _client(self, number: int, ending: asyncio.Event) -> None:
        chance = random.Random(f"{self.seed}/{number}")
        functions, weights = list(FUNCTIONS), list(FUNCTIONS.values())
        process = number
        while not ending.is_set():
            endpoints = known_to(number, self.cluster)
            async with AsyncClient(endpoints, timeout_s=TIMEOUTS_S[number % len(TIMEOUTS_S)]) as client:
                while not ending.is_set() and known_to(number, self.cluster) == endpoints:
                    (f,) = chance.choices(functions, weights)
                    if not await self._one(client, process, f, chance.choice(KEYS), chance):
                        process += self.clients
                    await asyncio.sleep(chance.uniform(0, self.think_s_max))

    async def _one(self, client: AsyncClient, process: int, f: str, key: str, chance: random.Random) -> bool:
        """One operation; whether its outcome is known."""
        argument = self._argument(f, key)
        self.recorder.add("invoke", process, f, key, argument)
        try:
            output = await self._call(client, f, key.encode(), argument)
        except (Unreachable, NoQuorum):
            self.recorder.add("fail", process, f, key, argument)
            await asyncio.sleep(chance.uniform(0, self.think_s_max))
            return True
        except OutcomeUnknown:
            self.recorder.add("info", process, f, key, argument)
            return False
        self.recorder.add("ok", process, f, key, output)
        if f == "get":
            self._seen[key] = output
        elif f == "put" or output:
            self._seen[key] = argument if f == "put" else argument[1]
        return True

    def _argument(self, f: str, key: str) -> Any:
        if f == "get":
            return None
        value = next(self._values)
        return value if f == "put" else [self._seen[key], value]

    @staticmethod
    async def _call(client: AsyncClient, f: str, key: bytes, argument: Any) -> Any:
        if f == "get":
            found = await client.get(key)
            return None if found is None else int(found.value)
        if f == "put":
            await client.put(key, b"%d" % argument)
            return argument
        expected, value = argument
        if expected is None:
            compare = Compare(key, Target.VERSION, Relation.EQUAL, 0)
        else:
            compare = Compare(key, Target.VALUE, Relation.EQUAL, b"%d" % expected)
        return (await client.txn([compare], [Put(key, b"%d" % value)])).succeeded
