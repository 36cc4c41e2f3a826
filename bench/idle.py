"""What a cluster costs that nobody uses: CPU of all its processes in percent of a core; Quorate, and etcd beside it.

    PYTHONPATH=src:. python bench/idle.py [--systems raft,multipaxos,pbft,etcd] [--seconds 60]

Three processes (four of PBFT) with their defaults, on disk, all started and settled before the count begins.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack

from bench import etcd, ours
from bench.processes import cpu_seconds

SETTLE_S = 10.0


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
        print(f"{name:10} {percent_of_a_core(name, arguments.seconds):.2f} % of a core", flush=True)


if __name__ == "__main__":
    main()
