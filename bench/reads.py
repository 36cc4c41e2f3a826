"""Reads of one key by many clients at once, each value compared. What writes are to `quorate bench`.

    python -m bench.reads [--endpoints HOST:PORT,...] [--clients 1000 --connections 100] [--serializable] [--json]

Without endpoints: of a cluster of three that it starts for that (Raft).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence

import msgspec

from quorate.service.client.aio import AsyncClient

KEY = b"read by everybody"
WARM_UP_S = 0.5


class Reads(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. The warm-up counts in ``all_reads`` alone."""

    reads: int
    all_reads: int
    reads_per_s: float
    latency_ms_p50: float
    latency_ms_p99: float
    latency_ms_max: float


class Readers:
    """So many clients on so many connections."""

    def __init__(self, endpoints: str, clients: int, connections: int, *, serializable: bool) -> None:
        self._links = [AsyncClient(tuple(endpoints.split(",")), timeout_s=10.0) for _ in range(connections)]
        self._clients = clients
        self._serializable = serializable

    async def run(self, seconds: float, value_bytes: int) -> Reads:
        """Put a value, and read it all the time. Raises RuntimeError if another one comes back."""
        value = os.urandom(value_bytes)
        links = self._links
        try:
            await asyncio.gather(*(link.__aenter__() for link in links))
            await links[0].put(KEY, value)
            await asyncio.gather(*(link.get(KEY) for link in links))  # linearizable: so all nodes have it
            first = await self._read_for(value, WARM_UP_S)
            began_s = time.perf_counter()
            took = sorted(await self._read_for(value, seconds))
            elapsed_s = time.perf_counter() - began_s
        finally:
            await asyncio.gather(*(link.close() for link in links))
        return Reads(
            reads=len(took),
            all_reads=len(took) + len(first),
            reads_per_s=len(took) / elapsed_s,
            latency_ms_p50=took[len(took) // 2] * 1e3,
            latency_ms_p99=took[len(took) * 99 // 100] * 1e3,
            latency_ms_max=took[-1] * 1e3,
        )

    async def _read_for(self, value: bytes, seconds: float) -> Sequence[float]:
        """How long each read took, in seconds."""
        until = time.perf_counter() + seconds
        took: list[float] = []

        async def read(link: AsyncClient) -> None:
            while (begin := time.perf_counter()) < until:
                found = await link.get(KEY, serializable=self._serializable)
                if found is None or found.value != value:
                    raise RuntimeError("a read gave another value than the one that was put")
                took.append(time.perf_counter() - begin)

        await asyncio.gather(*(read(self._links[number % len(self._links)]) for number in range(self._clients)))
        return took


def read(endpoints: str, arguments: argparse.Namespace) -> Reads:
    """On uvloop where it is installed, as `quorate bench`."""
    readers = Readers(endpoints, arguments.clients, arguments.connections, serializable=arguments.serializable)
    work = readers.run(arguments.seconds, arguments.value_bytes)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.reads", description=__doc__.splitlines()[0])
    parser.add_argument("--endpoints", help="of a cluster that runs already")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=100, help="which they share")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--value-bytes", type=int, default=1024)
    parser.add_argument("--serializable", action="store_true", help="from whichever node is connected")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.endpoints:
        found = read(arguments.endpoints, arguments)
    else:
        from bench import ours  # which starts this module

        with ours.cluster("raft", 3) as cluster:
            found = read(cluster.endpoints, arguments)
    if arguments.json:
        print(msgspec.json.encode(found).decode())
    else:
        took = f"p50 {found.latency_ms_p50:.2f} ms, p99 {found.latency_ms_p99:.2f} ms"
        print(f"{found.reads_per_s:,.0f} reads/s, each value compared; {took}, longest {found.latency_ms_max:.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
