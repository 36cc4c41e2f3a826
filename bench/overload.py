"""What a cluster does at twice its capacity: goodput beside the peak, and how the clients share it.

    PYTHONPATH=src:. python bench/overload.py [--clients 60] [--value-bytes 65536] [--seconds 10] [--times 2.0]

First every client keeps some puts under way, which gives the peak. Then each begins puts at a fixed rate, together so
many times the peak, whether the ones before are answered or not. A put counts if it took effect within its timeout.
Clients are those of programs: they try again by themselves. They run in this process, on the machine of the nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack

from quorate import AsyncClient, QuorateError

from bench.ours import cluster

UNDER_WAY = 4
TIMEOUT_S = 5.0
KEYS = 16


class Counts:
    """Of one phase."""

    def __init__(self, clients: int) -> None:
        self.done = [0] * clients
        self.errors: Counter[str] = Counter()
        self.times: list[float] = []

    async def put(self, client: AsyncClient, number: int, value: bytes) -> None:
        """One put, and what came of it."""
        started = time.monotonic()
        try:
            await client.put(b"key %d" % (number % KEYS), value)
        except QuorateError as error:
            self.errors[type(error).__name__] += 1
        else:
            self.done[number] += 1
            self.times.append(time.monotonic() - started)

    def report(self, name: str, seconds: float) -> float:
        """A line; returns the goodput."""
        goodput = sum(self.done) / seconds
        mean = sum(self.done) / len(self.done)
        times = sorted(self.times) or [0.0]
        p50, p99 = (1e3 * times[int(len(times) * share)] for share in (0.5, 0.99))
        print(
            f"{name:9} {goodput:8.1f} puts/s, slowest client {min(self.done) / max(mean, 1e-9):.2f} of the mean, "
            f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, errors {dict(self.errors)}",
            flush=True,
        )
        return goodput


async def peak(clients: list[AsyncClient], value: bytes, seconds: float) -> float:
    """Closed loops: the next put when one is answered."""
    counts = Counts(len(clients))
    until = time.monotonic() + seconds

    async def loop(number: int) -> None:
        while time.monotonic() < until:
            await counts.put(clients[number], number, value)

    await asyncio.gather(*(loop(number) for number in range(len(clients)) for _ in range(UNDER_WAY)))
    return counts.report("peak", seconds)


async def overload(clients: list[AsyncClient], value: bytes, seconds: float, rate: float) -> float:
    """Open loops: so many puts a second are begun in all, evenly by all clients."""
    counts = Counts(len(clients))
    tasks: set[asyncio.Task[None]] = set()
    started, begun = time.monotonic(), 0
    while (now := time.monotonic()) < started + seconds:
        while begun < rate * (now - started):
            number = begun % len(clients)
            task = asyncio.create_task(counts.put(clients[number], number, value))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            begun += 1
        await asyncio.sleep(0.002)
    done_in_time = Counts(len(clients))
    done_in_time.done, done_in_time.times = list(counts.done), list(counts.times)
    await asyncio.gather(*tasks)
    done_in_time.errors = counts.errors
    return done_in_time.report(f"x {rate:.0f}/s", seconds)


async def measure(endpoints: str, args: argparse.Namespace) -> None:
    value = bytes(args.value_bytes)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncClient(endpoints, timeout_s=TIMEOUT_S)) for _ in range(args.clients)
        ]
        await asyncio.gather(*(client.put(b"warm", b"") for client in clients))
        most = await peak(clients, value, args.seconds)
        found = await overload(clients, value, 2 * args.seconds, args.times * most)
        print(f"{found / most:.2f} of the peak", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=60)
    parser.add_argument("--value-bytes", type=int, default=65_536)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--times", type=float, default=2.0)
    args = parser.parse_args()
    with cluster("raft", 3) as quorate:
        asyncio.run(measure(quorate.endpoints, args))


if __name__ == "__main__":
    main()
