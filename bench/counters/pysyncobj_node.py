"""A node of PySyncObj with a counter: ``pysyncobj_node.py ID FOLDER STYLE PORTS JOURNAL BATCH``, in its own venv.

STYLE: threads (calls with ``sync=True``) or callbacks. JOURNAL: none, file (as it comes: written, never flushed) or
flushed (each record before it is answered). BATCH: 1 is its default; 0 sends each command at once.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pysyncobj.journal as journals
from load import figures, serve, threads, write_for_ever
from pysyncobj import SyncObj, SyncObjConf, replicated

CALL_TIMEOUT_S = 30.0


class Counter(SyncObj):  # type: ignore[misc]
    """Counts."""

    def __init__(self, own: str, others: list[str], conf: SyncObjConf) -> None:
        super().__init__(own, others, conf)
        self.value = 0

    @replicated  # type: ignore[untyped-decorator]
    def add(self, amount: int = 1) -> int:
        """Count."""
        self.value += amount
        return self.value


def flush_each_record() -> None:
    """PySyncObj leaves that to the kernel: it has a ``flush``, and nothing that calls it."""
    add = journals.FileJournal.add

    def add_and_flush(self: Any, command: Any, idx: int, term: int) -> None:
        add(self, command, idx, term)
        self.flush()

    journals.FileJournal.add = add_and_flush


def main() -> None:
    """One node, until standard input ends."""
    node, folder, style, ports, journal, batch = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    if journal == "flushed":
        flush_each_record()
    addresses = [f"127.0.0.1:{port}" for port in ports.split(",")]
    own = addresses.pop(int(node) - 1)
    conf = SyncObjConf(
        journalFile=None if journal == "none" else f"{folder}/journal",
        fullDumpFile=None if journal == "none" else f"{folder}/dump",
        appendEntriesUseBatch=batch == "1",
        connectionRetryTime=0.2,  # of 5.0, so that starting does not take long
    )
    counter = Counter(own, addresses, conf)

    def add(amount: int = 1) -> int:
        return counter.add(amount, sync=True, timeout=CALL_TIMEOUT_S)

    def wait() -> None:
        while not counter.isReady():
            time.sleep(0.01)
        add(0)

    def value() -> int:
        add(0)
        return counter.value

    def load(callers: int, seconds: float) -> dict[str, float]:
        return (threads if style == "threads" else callbacks)(
            add if style == "threads" else counter.add, callers, seconds
        )

    serve(
        {
            "wait": wait,
            "leads": counter._isLeader,
            "load": load,
            "write": lambda callers: write_for_ever(add, callers),
            "value": value,
        }
    )


def callbacks(add: Any, callers: int, seconds: float) -> dict[str, float]:
    """So many calls under way: each answer begins the next. Its fastest way, which needs no thread for each caller."""
    latencies: list[list[float]] = [[] for _ in range(callers)]
    done = threading.Semaphore(0)
    end = time.monotonic() + seconds

    def call(mine: list[float]) -> None:
        begun = time.monotonic()
        if begun >= end:
            done.release()
            return

        def answered(_: Any, error: int) -> None:
            if error == 0:
                mine.append(time.monotonic() - begun)
            call(mine)

        add(callback=answered)

    begun = time.monotonic()
    for mine in latencies:
        call(mine)
    for _ in latencies:
        done.acquire()
    return figures(latencies, time.monotonic() - begun)


if __name__ == "__main__":
    main()
