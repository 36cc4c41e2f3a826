"""A load generator: many clients that each put one value after the other, and how long each put took."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

import msgspec

from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import QuorateError


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. ``connections`` None gives each client its own; fewer are shared (requests are pipelined)."""

    endpoints: tuple[str, ...]
    clients: int = 1
    connections: int | None = None
    duration_s: float = 10.0
    puts_max: int | None = None
    """End after so many puts, if that comes first."""
    key_bytes: int = 256
    value_bytes: int = 1024
    warm_up_s: float = 1.0
    timeout_s: float = 10.0
    faults: int | None = None
    """As of the client."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it, the warm-up left out. Latencies in milliseconds."""

    clients: int
    puts: int
    errors: int
    elapsed_s: float
    puts_per_s: float
    latency_ms_p50: float
    latency_ms_p99: float
    latency_ms_max: float


class _Counter:
    """What the clients share."""

    def __init__(self, puts_max: int | None) -> None:
        self.left = puts_max if puts_max is not None else 1 << 62
        self.errors = 0
        self.latencies: list[float] = []


async def run_load(load: Load, progress: Callable[[float], None] | None = None) -> Measured:
    """Put for the warm-up and the duration. ``progress`` hears the share that is done. Raises QuorateError at first."""
    count = load.connections or load.clients
    links = [AsyncClient(load.endpoints, timeout_s=load.timeout_s, faults=load.faults) for _ in range(count)]
    try:
        for group in _groups(links, 50):
            await asyncio.gather(*(client.__aenter__() for client in group))
            await asyncio.gather(*(client.put(b"quorate-load-warm-up", b"") for client in group))
        warm_up = _Counter(None)
        await _put_for(load, links, load.warm_up_s, warm_up, None)
        counter = _Counter(load.puts_max)
        began = time.perf_counter()
        await _put_for(load, links, load.duration_s, counter, progress)
        return _measured(load, counter, time.perf_counter() - began)
    finally:
        await asyncio.gather(*(client.close() for client in links))


async def _put_for(
    load: Load,
    links: Sequence[AsyncClient],
    seconds: float,
    counter: _Counter,
    progress: Callable[[float], None] | None,
) -> None:
    begin = time.perf_counter()
    clients = [
        asyncio.ensure_future(_client(load, links[number % len(links)], begin + seconds, counter))
        for number in range(load.clients)
    ]
    done = asyncio.gather(*clients)
    while progress is not None and not done.done():
        await asyncio.wait((done,), timeout=0.25)
        progress(min(1.0, (time.perf_counter() - begin) / seconds))
    await done


async def _client(load: Load, client: AsyncClient, until: float, counter: _Counter) -> None:
    value = random.randbytes(load.value_bytes)
    while (begin := time.perf_counter()) < until and counter.left > 0:
        counter.left -= 1
        try:
            await client.put(random.randbytes(min(16, load.key_bytes)).ljust(load.key_bytes, b"k"), value)
        except QuorateError:
            counter.errors += 1
        else:
            counter.latencies.append(time.perf_counter() - begin)


def _measured(load: Load, counter: _Counter, elapsed_s: float) -> Measured:
    ordered = sorted(counter.latencies) or [float("nan")]
    puts = len(counter.latencies)
    return Measured(
        clients=load.clients,
        puts=puts,
        errors=counter.errors,
        elapsed_s=elapsed_s,
        puts_per_s=puts / elapsed_s,
        latency_ms_p50=ordered[len(ordered) // 2] * 1000,
        latency_ms_p99=ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000,
        latency_ms_max=ordered[-1] * 1000,
    )


def _groups(items: Sequence[AsyncClient], size: int) -> list[Sequence[AsyncClient]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
