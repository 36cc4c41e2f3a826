"""For how long nobody can write when the leader stops (SIGTERM), is killed (SIGKILL) or hangs (SIGSTOP): Quorate, and
etcd beside it.

    PYTHONPATH=src:. python bench/outage.py [--tries 50] [--systems raft,etcd] [--signals TERM,KILL,STOP]

Three processes on this machine (four of PBFT). One client writes without a pause, through whichever node answers; a
try is one signal to the node that leads. The outage is the longest time between two writes that were acknowledged, from
just before the signal on. Then the node is started again, and the next try waits until all follow. Both clients are
told of all nodes: ours turns to another when its link ends; etcd's is asked through gRPC, at the next endpoint after an
error or half a second. etcd has its defaults, an election timeout of 1 s; ours is 0.6 to 1.2 s, and a process that
ends is noticed by its connections.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

from quorate import Client
from quorate.service.client.errors import QuorateError

from bench import etcd
from tests.cluster import LocalCluster, until

SETTLE_S = 1.0
"""Between two tries, and after the signal at the least."""
ETCD_PATIENCE_S = 0.5
SIGNALS = {"TERM": signal.SIGTERM, "KILL": signal.SIGKILL, "STOP": signal.SIGSTOP}


class Quorate:
    """One of our protocols."""

    def __init__(self, folder: Path, protocol: str) -> None:
        self.cluster = LocalCluster(folder, 4 if protocol == "pbft" else 3, protocol)
        self.cluster.start()

    def leader(self) -> int:
        return self.cluster.leader(everyone=True)

    def end(self, node: int, number: signal.Signals) -> None:
        if number == signal.SIGTERM:
            self.cluster.stop_node(node)
        elif number == signal.SIGSTOP:
            self.cluster.pause(node)
        else:
            self.cluster.kill(node)

    def start(self, node: int) -> None:
        if node in self.cluster.paused:
            self.cluster.resume(node)
        else:
            self.cluster.start_node(node)

    @contextmanager
    def writer(self) -> Iterator[Callable[[], None]]:
        with Client(self.cluster.endpoints, timeout_s=20.0) as client:
            yield lambda: (client.put(b"outage", b"v"), None)[1]

    def close(self) -> None:
        self.cluster.close()


class Etcd:
    """Debian's."""

    def __init__(self, folder: Path, _: str) -> None:
        self.etcd = etcd.Etcd(folder)
        self.etcd.wait()

    def leader(self) -> int:
        return until(self.etcd.leading, "all members of etcd follow one") - 1

    def end(self, node: int, number: signal.Signals) -> None:
        self.etcd.processes[node].send_signal(number)
        if number != signal.SIGSTOP:
            self.etcd.processes[node].wait()

    def start(self, node: int) -> None:
        if self.etcd.processes[node].poll() is None:
            self.etcd.processes[node].send_signal(signal.SIGCONT)
        else:
            self.etcd.start(node)

    @contextmanager
    def writer(self) -> Iterator[Callable[[], None]]:
        import grpc

        channels = [grpc.insecure_channel(endpoint) for endpoint in self.etcd.endpoints]
        puts = [each.unary_unary(etcd.PUT, request_serializer=bytes, response_deserializer=bytes) for each in channels]
        request = etcd.put_request(b"outage", b"v")
        at = 0

        def write() -> None:
            nonlocal at
            while True:
                try:
                    puts[at](request, timeout=ETCD_PATIENCE_S)
                    return
                except grpc.RpcError:
                    at = (at + 1) % len(puts)

        try:
            yield write
        finally:
            for channel in channels:
                channel.close()

    def close(self) -> None:
        self.etcd.stop()


def outages(system: Quorate | Etcd, number: signal.Signals, tries: int) -> list[float]:
    """Seconds, one for each try."""
    written: list[float] = []
    is_over = threading.Event()

    def write_on() -> None:
        with system.writer() as write:
            while not is_over.is_set():
                with suppress(QuorateError):  # its outcome is unknown, perhaps; it counts as none
                    write()
                    written.append(time.monotonic())

    writing = threading.Thread(target=write_on)
    writing.start()
    found = []
    try:
        for _ in range(tries):
            leader = system.leader()
            time.sleep(SETTLE_S)
            began, first = time.monotonic(), max(0, len(written) - 1)
            system.end(leader, number)
            until(lambda began=began: written[-1] > began + SETTLE_S, "writes go on")  # type: ignore[misc]
            times = written[first:]
            found.append(max(after - before for before, after in pairwise(times)))
            system.start(leader)
    finally:
        is_over.set()
        writing.join()
    return found


def main() -> None:
    """Measure one after the other, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=50)
    parser.add_argument("--systems", default="raft,multipaxos,pbft,etcd")
    parser.add_argument("--signals", default="TERM,KILL", help="TERM, KILL and STOP, separated by commas")
    parser.add_argument("--json", type=Path, help="write all outages there")
    arguments = parser.parse_args()
    results: dict[str, list[float]] = {}
    for name in arguments.systems.split(","):
        if name == "etcd" and not etcd.installed():
            print("etcd is not installed and left out; as root: apt-get install etcd-server etcd-client")
            continue
        for number in [SIGNALS[each] for each in arguments.signals.split(",")]:
            with tempfile.TemporaryDirectory(prefix="bench-outage-") as folder:
                system = Etcd(Path(folder), name) if name == "etcd" else Quorate(Path(folder), name)
                try:
                    found = sorted(outages(system, number, arguments.tries))
                finally:
                    system.close()
            results[f"{name} {number.name}"] = found
            middle, high = statistics.median(found), found[min(len(found) - 1, len(found) * 99 // 100)]
            print(
                f"{name:10} {number.name}: median {middle:.3f} s, p99 {high:.3f} s, longest {found[-1]:.3f} s",
                flush=True,
            )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
