"""Linearizable reads of one key by many clients at once, and how long each took. What writes are to `quorate bench`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from quorate.service.client.aio import AsyncClient

KEY = b"read by everybody"
WARM_UP_S = 0.5


class Reads(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it, the warm-up left out. ``cpu_us`` is that of the servers for one read."""

    reads_per_s: float
    read_ms_p50: float
    read_cpu_us: float


async def run_reads(
    endpoints: str,
    clients: int,
    connections: int | None,
    seconds: float,
    value_bytes: int,
    cpu_s: Callable[[], float],
) -> Reads:
    """Each client reads one time after the other. ``cpu_s`` is what the servers have used so far."""
    links = [AsyncClient(tuple(endpoints.split(",")), timeout_s=10.0) for _ in range(connections or clients)]
    try:
        await asyncio.gather(*(link.__aenter__() for link in links))
        await links[0].put(KEY, bytes(value_bytes))
        await _read_for(links, clients, WARM_UP_S)
        began_s, before_s = time.perf_counter(), cpu_s()
        took = sorted(await _read_for(links, clients, seconds))
        elapsed_s = time.perf_counter() - began_s
        return Reads(
            reads_per_s=len(took) / elapsed_s,
            read_ms_p50=took[len(took) // 2] * 1e3,
            read_cpu_us=(cpu_s() - before_s) / len(took) * 1e6,
        )
    finally:
        await asyncio.gather(*(link.close() for link in links))


async def _read_for(links: Sequence[AsyncClient], clients: int, seconds: float) -> list[float]:
    """How long each read took, in seconds."""
    until = time.perf_counter() + seconds
    took: list[float] = []

    async def read(link: AsyncClient) -> None:
        while (begin := time.perf_counter()) < until:
            await link.get(KEY)
            took.append(time.perf_counter() - begin)

    await asyncio.gather(*(read(links[number % len(links)]) for number in range(clients)))
    return took
