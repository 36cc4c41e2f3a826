"""What nodes of either library do when they are told: load of callers, and orders from standard input.

An order is one line of JSON, its answer another. Only the standard library, for it runs in the peer's venv too.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

TELL_EVERY_S = 0.02


def serve(orders: dict[str, Callable[..., Any]]) -> None:
    """Carry out orders until standard input ends: ``{"do": "load", "callers": 9}`` is ``orders["load"](callers=9)``."""
    for line in sys.stdin:
        order = json.loads(line)
        answer(orders[order.pop("do")](**order))


def answer(value: Any) -> None:
    """One line."""
    print(json.dumps(value), flush=True)


def threads(add: Callable[[], Any], callers: int, seconds: float) -> dict[str, float]:
    """So many threads, each of which calls again when it has its answer."""
    latencies: list[list[float]] = [[] for _ in range(callers)]
    end = time.monotonic() + seconds

    def call(mine: list[float]) -> None:
        while (begun := time.monotonic()) < end:
            add()
            mine.append(time.monotonic() - begun)

    running = [threading.Thread(target=call, args=(mine,)) for mine in latencies]
    begun = time.monotonic()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return figures(latencies, time.monotonic() - begun)


def figures(latencies: list[list[float]], seconds: float) -> dict[str, float]:
    """Commands a second, and the median latency in milliseconds."""
    every = [latency for mine in latencies for latency in mine]
    return {"rate": len(every) / seconds, "p50_ms": 1000 * statistics.median(every) if every else float("inf")}


def write_for_ever(add: Callable[[], Any], callers: int) -> None:
    """Threads that add, while standard output tells how many answers there were; until the process is killed."""
    counts = [0] * callers

    def call(number: int) -> None:
        while True:
            add()
            counts[number] += 1

    for number in range(callers):
        threading.Thread(target=call, args=(number,), daemon=True).start()
    while True:
        answer(sum(counts))
        time.sleep(TELL_EVERY_S)
