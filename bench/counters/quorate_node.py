"""A node of ours with a counter: ``python -m bench.counters.quorate_node ID FOLDER STYLE PORTS``.

STYLE: threads or coroutines. PORTS: three, with commas between; each node takes the next one as well.
"""

from __future__ import annotations

import asyncio
import sys
import time

from quorate import Replicated, command, read, replicate

from bench.counters.load import figures, serve, threads, write_for_ever

READY_TIMEOUT_S = 30.0


class Counter(Replicated):
    """Counts."""

    def __init__(self) -> None:
        self.value = 0

    @command
    def add(self, amount: int = 1) -> int:
        """Count."""
        self.value += amount
        return self.value

    @read
    def get(self) -> int:
        """The count."""
        return self.value


def main() -> None:
    """One node, until standard input ends."""
    node, folder, style, ports = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4].split(",")
    nodes = {number: f"127.0.0.1:{port}" for number, port in enumerate(ports, 1)}
    replication = replicate(Counter, node=node, nodes=nodes, data=folder)
    if style == "coroutines":
        asyncio.run(coroutines(replication))
        return
    with replication as counter:
        serve(
            {
                "wait": lambda: replication.wait_ready(READY_TIMEOUT_S),
                "leads": lambda: replication.is_leader,
                "load": lambda callers, seconds: threads(counter.add, callers, seconds),
                "write": lambda callers: write_for_ever(counter.add, callers),
                "value": counter.get,
            }
        )


async def coroutines(replication: replicate) -> None:
    """The same with callers that await."""
    loop = asyncio.get_running_loop()
    async with replication as counter:

        async def load(callers: int, seconds: float) -> dict[str, float]:
            latencies: list[list[float]] = [[] for _ in range(callers)]
            end = time.monotonic() + seconds

            async def call(mine: list[float]) -> None:
                while (begun := time.monotonic()) < end:
                    await counter.add()
                    mine.append(time.monotonic() - begun)

            begun = time.monotonic()
            await asyncio.gather(*map(call, latencies))
            return figures(latencies, time.monotonic() - begun)

        def on_loop(callers: int, seconds: float) -> dict[str, float]:
            return asyncio.run_coroutine_threadsafe(load(callers, seconds), loop).result()

        def wait() -> None:
            asyncio.run_coroutine_threadsafe(replication.ready(READY_TIMEOUT_S), loop).result()

        orders = {"wait": wait, "leads": lambda: replication.is_leader, "load": on_loop}
        await asyncio.to_thread(serve, orders)


if __name__ == "__main__":
    main()
