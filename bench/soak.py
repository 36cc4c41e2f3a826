"""A long run at full load within a budget: no node dies, nobody is elected, and the p99 of small puts and gets.

    PYTHONPATH=src:. python bench/soak.py [--seconds 600] [--protocol raft] [--json]

Three nodes, each with ``memory_bytes_max`` 512 MiB in a control group of 1 GiB (root; without it the same as a limit of
the process's data, and the report says so). One follower is killed at the beginning and stays dead. Small puts and gets
run in closed loops, and beside them puts of 1.4 MB, a client that asks for large values and reads 64 KiB a second, a
read of all small keys every second, in pages of one revision, and a compaction. Clients and nodes share this machine.

The exit code is 1 if a node died, a leader was elected, a small request failed, or the load stood still for 10 s.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from quorate import AsyncClient, QuorateError
from quorate.machines.kv import commands as kv
from quorate.runtime.handshake import client_hello
from quorate.runtime.handshake import encode as encode_handshake
from quorate.service.requests import Query
from quorate.service.requests import encode as encode_request

from bench.groups import MemoryGroup, NoGroups
from tests.cluster import LocalCluster

MIB = 1 << 20
BUDGET_BYTES = 512 * MIB
GROUP_BYTES = 1024 * MIB
SMALL, SMALL_END = b"small/", b"small0"
SMALL_KEYS = 50_000
SMALL_BYTES = (16, 2048)
LARGE_BYTES = 1_400_000
LARGE_KEYS = 8
LARGE_PUTTERS = 2
CLIENTS = 12
UNDER_WAY = 4
"""Small requests of each client; one in four is a get."""
PAGE_KEYS = 1000
SLOW_BYTES_PER_S = 64 * 1024
SLOW_QUESTIONS = 11
TIMEOUT_S = 20.0
GRACE_S = 10.0
STILL_S_MAX = 10.0


class SoakCluster(LocalCluster):
    """Its nodes have a budget, and each is held to a limit of memory."""

    def __init__(self, folder: Path, protocol: str, groups: dict[int, MemoryGroup]) -> None:
        super().__init__(folder, 3, protocol)
        self.groups = groups
        text = self.config_path.read_text()
        self.config_path.write_text(f"memory_bytes_max = {BUDGET_BYTES}\n{text}")

    def command(self, node: int) -> list[str]:
        group = self.groups.get(node)
        limited = ["prlimit", f"--data={GROUP_BYTES}"] if group is None else group.prefix
        return [*limited, *super().command(node)]


class Load:
    """Everything that clients do, and what they see."""

    def __init__(self, endpoints: str, seconds: float) -> None:
        self.endpoints = endpoints
        self.until = time.monotonic() + seconds
        self.times: list[float] = []
        """Of small requests that were answered."""
        self.errors: Counter[str] = Counter()
        self.large = Counter[str]()
        self.scans: list[float] = []
        self.cut_off = 0
        self.still_s = 0.0
        """The longest time in which no small request was answered."""
        self._answered_at = time.monotonic()
        self._newest = 0

    @property
    def is_on(self) -> bool:
        return time.monotonic() < self.until

    async def fill(self) -> None:
        """All small keys, in transactions of a hundred."""
        async with AsyncClient(self.endpoints, timeout_s=60.0) as client:
            room = asyncio.Semaphore(16)

            async def write(first: int) -> None:
                async with room:
                    puts = [kv.Put(_small(number), os.urandom(64)) for number in range(first, first + 100)]
                    await client.txn([], puts)

            await asyncio.gather(*(write(first) for first in range(0, SMALL_KEYS, 100)))
        self._answered_at = time.monotonic()

    async def run(self) -> None:
        """All of it at once, to the end."""
        works = [self._small(seed) for seed in range(CLIENTS)] + [self._large(seed) for seed in range(LARGE_PUTTERS)]
        slow = [asyncio.create_task(self._slow(address)) for address in self.endpoints.split(",")]
        tasks = [asyncio.create_task(work) for work in (*works, self._scan(), self._compact())]
        _, late = await asyncio.wait(tasks, timeout=self.until - time.monotonic() + TIMEOUT_S + GRACE_S)
        for task in late:
            task.print_stack()
            self.errors["a call that does not end with its timeout"] += 1
        for task in (*late, *slow):
            task.cancel()
        await asyncio.gather(*tasks, *slow, return_exceptions=True)

    # --- small requests ---

    async def _small(self, seed: int) -> None:
        async with AsyncClient(self.endpoints, timeout_s=TIMEOUT_S) as client:
            await asyncio.gather(*(self._small_loop(client, random.Random(f"{seed} {n}")) for n in range(UNDER_WAY)))

    async def _small_loop(self, client: AsyncClient, rng: random.Random) -> None:
        values = [rng.randbytes(rng.randint(*SMALL_BYTES)) for _ in range(64)]
        while self.is_on:
            key, started = _small(rng.randrange(SMALL_KEYS)), time.monotonic()
            try:
                if rng.random() < 0.25:
                    await client.get(key)
                else:
                    self._newest = max(self._newest, await client.put(key, rng.choice(values)))
            except QuorateError as error:
                self.errors[type(error).__name__] += 1
                await asyncio.sleep(0.1)
            else:
                now = time.monotonic()
                self.times.append(now - started)
                self.still_s = max(self.still_s, now - self._answered_at)
                self._answered_at = now

    # --- what is large ---

    async def _large(self, seed: int) -> None:
        value = os.urandom(LARGE_BYTES)
        async with AsyncClient(self.endpoints, timeout_s=TIMEOUT_S) as client:
            for number in itertools.count(seed):
                if not self.is_on:
                    return
                await self._try("put", lambda n=number: client.put(b"large %d" % (n % LARGE_KEYS), value))

    async def _compact(self) -> None:
        """As a user would, or the store keeps every version: what is older than five seconds goes."""
        async with AsyncClient(self.endpoints, timeout_s=TIMEOUT_S) as client:
            while self.is_on:
                before = self._newest
                await asyncio.sleep(5.0)
                if before:
                    await self._try("compact", lambda at=before: client.compact(at))

    async def _scan(self) -> None:
        """All small keys as of one revision, every second; at once again where that took longer."""
        async with AsyncClient(self.endpoints, timeout_s=TIMEOUT_S) as client:
            while self.is_on:
                started = time.monotonic()
                if await self._try("scan", lambda: _read_all(client)):
                    self.scans.append(time.monotonic() - started)
                await asyncio.sleep(max(0.0, started + 1.0 - time.monotonic()))

    async def _try(self, what: str, work: Callable[[], Awaitable[Any]]) -> bool:
        try:
            await work()
        except QuorateError as error:
            self.large[f"{what}: {type(error).__name__}"] += 1
            await asyncio.sleep(0.1)
            return False
        self.large[what] += 1
        return True

    async def _slow(self, address: str) -> None:
        """One that asks for large values and hardly reads; when it is cut off it comes again."""
        while self.is_on:
            try:
                await self._read_slowly(*address.rsplit(":", 1))
            except OSError:
                self.cut_off += 1
                await asyncio.sleep(1.0)

    async def _read_slowly(self, host: str, port: str) -> None:
        reader, writer = await asyncio.open_connection(host, int(port), limit=SLOW_BYTES_PER_S)
        try:
            writer.write(_frame(encode_handshake(client_hello())))
            for number in range(SLOW_QUESTIONS):
                question = kv.encode(kv.Range(b"large %d" % (number % LARGE_KEYS)))
                writer.write(_frame(encode_request(Query(number, question, serializable=True))))
            while self.is_on:
                if not await reader.read(SLOW_BYTES_PER_S):
                    raise ConnectionResetError
                await asyncio.sleep(1.0)
        finally:
            writer.close()


async def _read_all(client: AsyncClient) -> None:
    page = await client.range(SMALL, SMALL_END, limit=PAGE_KEYS)
    while page.more:
        page = await client.range(page.kvs[-1].key + b"\0", SMALL_END, limit=PAGE_KEYS, revision=page.revision)


def _small(number: int) -> bytes:
    return SMALL + b"%08d" % number


def _frame(payload: bytes) -> bytes:
    return struct.pack("<I", len(payload)) + payload


def _own_bytes(pid: int) -> int:
    """Of a process, what the kernel cannot drop. 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:")), 0)


async def _watch(cluster: SoakCluster, load: Load, most: dict[int, int]) -> None:
    """What nodes have in memory at the most; the load ends with the first node that does."""
    said_at = time.monotonic()
    while load.is_on:
        for node, process in cluster.processes.items():
            most[node] = max(most.get(node, 0), _own_bytes(process.pid))
            if process.poll() is not None:
                load.until = 0.0
        if time.monotonic() - said_at > 30.0:
            said_at = time.monotonic()
            print(f"  {len(load.times)} small requests so far, {_in_mib(most)}", file=sys.stderr, flush=True)
        await asyncio.sleep(0.25)


def soak(folder: Path, protocol: str, seconds: float) -> dict[str, Any]:
    """One run; what was found. ``faults`` names what must not be, ``late`` what only a slow machine may show."""
    with ExitStack() as stack:
        groups, held_by = {}, "control groups"
        try:
            for node in (1, 2, 3):
                groups[node] = group = MemoryGroup(f"quorate-soak-{node}", GROUP_BYTES)
                stack.callback(group.close)
        except NoGroups as error:
            groups, held_by = {}, f"RLIMIT_DATA ({error})"
        cluster = stack.enter_context(SoakCluster(folder, protocol, groups))
        return {"held_by": held_by, **_run(cluster, seconds)}


def _run(cluster: SoakCluster, seconds: float) -> dict[str, Any]:
    leader = cluster.leader(everyone=True)
    dead = next(node for node in cluster.ids if node != leader)
    cluster.kill(dead)
    alive = [node for node in cluster.ids if node != dead]
    term, most = cluster.status(leader).term, dict[int, int]()
    load = Load(",".join(cluster.endpoints[node - 1] for node in alive), seconds)

    async def run() -> None:
        await load.fill()
        load.until = time.monotonic() + seconds
        await asyncio.gather(load.run(), _watch(cluster, load, most))

    asyncio.run(run())
    faults = [f"node {node} died:\n{cluster.log(node)[-4000:]}" for node in alive if cluster.processes[node].poll()]
    faults += [f"the kernel killed node {node}" for node, group in cluster.groups.items() if group.kills]
    if not faults and (now := cluster.status(leader).term) != term:
        faults.append(f"the term is {now}, it was {term}: somebody was elected")
    late = [f"{count} small requests ended with {name}" for name, count in load.errors.items()]
    if load.still_s > STILL_S_MAX:
        late.append(f"no small request was answered for {load.still_s:.1f} s")
    stalls = {node: cluster.log(node).count("event loop was held up") for node in alive}
    return {"faults": faults, "late": late, "leader": leader, "stalls": stalls, **_figures(load, cluster, most)}


def _figures(load: Load, cluster: SoakCluster, most: dict[int, int]) -> dict[str, Any]:
    times, scans = sorted(load.times) or [0.0], sorted(load.scans) or [0.0]
    return {
        "requests": len(load.times),
        **{f"ms_p{share}": round(1e3 * times[len(times) * share // 100], 1) for share in (50, 99)},
        "ms_max": round(1e3 * times[-1], 1),
        "still_ms_max": round(1e3 * load.still_s, 1),
        "scan_s_p50": round(scans[len(scans) // 2], 2),
        "large": dict(sorted(load.large.items())),
        "slow_reader_cut_off": load.cut_off,
        "own_mib_max": _in_mib(most),
        "charged_mib_max": _in_mib({node: group.most_bytes for node, group in cluster.groups.items()}),
    }


def _in_mib(sizes: dict[int, int]) -> dict[int, int]:
    return {node: size // MIB for node, size in sizes.items()}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nodes and groups are cleared away
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--protocol", default="raft", choices=("raft", "multipaxos"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the nodes keep their data; it stays")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak((args.folder or Path(folder)) / "soak", args.protocol, args.seconds)
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:20} {value}")
    sys.exit(1 if found["faults"] or found["late"] else 0)


if __name__ == "__main__":
    main()
