"""What a cluster does at twice its capacity: goodput beside the peak, and how the clients share it.

    PYTHONPATH=src:. python bench/overload.py [--clients 60] [--puts 32] [--value-bytes 256] [--rounds 4]

First every client keeps some transactions under way, which gives the peak. Then each begins transactions at a fixed
rate, together so many times the peak, whether the ones before are answered or not. One counts if it took effect within
its timeout. Clients are those of programs: they try again by themselves. The two phases take turns, several times: a
node that writes snapshots and checkpoints does a third as much meanwhile, for seconds, and each phase must meet its
share of that.

Clients run in this process, on the machine of the nodes, but not on their cores: else offering twice the load takes
from the nodes what they would do it with. ``own core`` is the share of its core that this process used: near 1 it is
what was measured. The load is transactions of many small puts, which cost the nodes' CPU most. With TMPDIR=/dev/shm
the nodes' disks, whose speed varies, are memory.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import fmean

from quorate import AsyncClient, QuorateError
from quorate.machines.kv import commands as kv

from bench.ours import cluster

UNDER_WAY = 4
TIMEOUT_S = 5.0


class Counts:
    """Of one phase."""

    def __init__(self, clients: int) -> None:
        self.done = [0] * clients
        self.errors: Counter[str] = Counter()
        self.times: list[float] = []
        self._began = time.monotonic(), time.process_time()

    async def run(self, client: AsyncClient, number: int, puts: list[kv.Put]) -> None:
        """One transaction, and what came of it."""
        started = time.monotonic()
        try:
            await client.txn([], puts)
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
        used = (time.process_time() - self._began[1]) / (time.monotonic() - self._began[0])
        p50, p99 = (1e3 * times[int(len(times) * share)] for share in (0.5, 0.99))
        print(
            f"{name:9} {goodput:8.1f} txns/s, slowest client {min(self.done) / max(mean, 1e-9):.2f} of the mean, "
            f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, own core {used:.2f}, errors {dict(self.errors)}",
            flush=True,
        )
        return goodput


def set_apart(pids: list[int]) -> None:
    """The nodes on all cores but one, and this process on that."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("there is one core: clients and nodes share it")
        return
    os.sched_setaffinity(0, cores[-1:])
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores[:-1])


async def peak(clients: list[AsyncClient], puts: list[kv.Put], seconds: float) -> float:
    """Closed loops: the next when one is answered."""
    counts = Counts(len(clients))
    until = time.monotonic() + seconds

    async def loop(number: int) -> None:
        while time.monotonic() < until:
            await counts.run(clients[number], number, puts)

    await asyncio.gather(*(loop(number) for number in range(len(clients)) for _ in range(UNDER_WAY)))
    return counts.report("peak", seconds)


async def overload(clients: list[AsyncClient], puts: list[kv.Put], seconds: float, rate: float) -> float:
    """Open loops: so many a second are begun in all, evenly by all clients."""
    counts = Counts(len(clients))
    tasks: set[asyncio.Task[None]] = set()
    started, begun = time.monotonic(), 0
    while (now := time.monotonic()) < started + seconds:
        while begun < rate * (now - started):
            number = begun % len(clients)
            task = asyncio.create_task(counts.run(clients[number], number, puts))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            begun += 1
        await asyncio.sleep(0.002)
    goodput = counts.report(f"x {rate:.0f}/s", seconds)
    await asyncio.gather(*tasks)
    return goodput


async def measure(endpoints: str, args: argparse.Namespace) -> None:
    puts = [kv.Put(b"key %d" % number, bytes(args.value_bytes)) for number in range(args.puts)]
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncClient(endpoints, timeout_s=TIMEOUT_S)) for _ in range(args.clients)
        ]
        await asyncio.gather(*(client.put(b"warm", b"") for client in clients))
        peaks, found = [await peak(clients, puts, args.seconds)], []
        for _ in range(args.rounds):
            found.append(await overload(clients, puts, args.seconds, args.times * fmean(peaks)))
            peaks.append(await peak(clients, puts, args.seconds))
        print(f"{fmean(found) / fmean(peaks):.2f} of the peak, on average", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=60)
    parser.add_argument("--puts", type=int, default=32)
    parser.add_argument("--value-bytes", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--times", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    with cluster("raft", 3) as quorate:
        set_apart(quorate.pids)
        asyncio.run(measure(quorate.endpoints, args))


if __name__ == "__main__":
    main()
