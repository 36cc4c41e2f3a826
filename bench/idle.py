"""What a cluster costs that nobody uses: CPU of all its processes in percent of a core; Quorate, and etcd beside it.

    PYTHONPATH=src:. python bench/idle.py [--systems raft,multipaxos,pbft,etcd] [--seconds 60]

Three processes (four of PBFT) with their defaults, on disk, all started and settled before the count begins.

Each core has a loop at idle priority beside them, which gives way at once. A virtual core that sleeps is given to other
guests, and until it has its own again the time counts as that of whoever woke it: with such sleeps the same cluster
used 1.6 % and 14 % of a core on one machine within half an hour, and etcd likewise.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench import etcd, ours
from bench.processes import cpu_seconds

SETTLE_S = 10.0


def spin(core: int) -> None:
    """For ever, when nothing else wants the core."""
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        pass


@contextmanager
def awake_cores() -> Iterator[None]:
    """No core sleeps meanwhile."""
    loops = [multiprocessing.Process(target=spin, args=(core,), daemon=True) for core in os.sched_getaffinity(0)]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.join()


def percent_of_a_core(name: str, seconds: float) -> float:
    """Of one system, over so many seconds."""
    with ExitStack() as stack:
        if name == "etcd":
            pids = stack.enter_context(etcd.cluster()).pids
        else:
            pids = stack.enter_context(ours.cluster(name, 4 if name == "pbft" else 3)).pids
        time.sleep(SETTLE_S)
        before, began = cpu_seconds(pids), time.monotonic()
        time.sleep(seconds)
        return 100 * (cpu_seconds(pids) - before) / (time.monotonic() - began)


def main() -> None:
    """Measure one after the other, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", default="raft,multipaxos,pbft,etcd")
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    for name in arguments.systems.split(","):
        if name == "etcd" and not etcd.installed():
            print("etcd is not installed and left out; as root: apt-get install etcd-server etcd-client")
            continue
        with awake_cores():
            percent = percent_of_a_core(name, arguments.seconds)
        print(f"{name:10} {percent:.2f} % of a core", flush=True)


if __name__ == "__main__":
    main()
