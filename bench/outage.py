"""For how long nobody can write when the leader stops (SIGTERM), is killed (SIGKILL), hangs (SIGSTOP) or loses its
link: Quorate, and etcd beside it.

    PYTHONPATH=src:. python bench/outage.py [--tries 50] [--systems raft,etcd,etcd-600] [--faults TERM,KILL,STOP,LINK]

Three processes on this machine (four of PBFT). One client writes without a pause, through whichever node answers; a
try is one fault of the node that leads. The outage is the longest time between two writes that were acknowledged, from
just before the fault on. Then the node is started again, and the next try waits until all follow. Both clients are
told of all nodes: ours turns to another when its link ends; etcd's is asked through gRPC, at the next endpoint after an
error or half a second.

`etcd` has its defaults, an election timeout of 1 to 2 s; ours is 0.6 to 1.2 s, and a process that ends is noticed by
its connections; `etcd-600` has our timeout. Where links are cut (as root, on Linux) each node is in a network namespace
of its own, and nobody reaches the one whose link is down: neither nodes nor clients are told.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path

from quorate import Client
from quorate.service.client.errors import QuorateError

from bench import etcd
from tests.cluster import LocalCluster, until
from tests.torture.network import Network, SpreadCluster, address, why_impossible

SETTLE_S = 0.5
"""Between two tries, and after the signal at the least."""
ETCD_PATIENCE_S = 0.5
ETCD_OPTIONS = {"etcd": (), "etcd-600": ("--election-timeout", "600")}
SIGNALS = {"TERM": signal.SIGTERM, "KILL": signal.SIGKILL, "STOP": signal.SIGSTOP}
LINK = "LINK"


class Quorate:
    """One of our protocols."""

    def __init__(self, folder: Path, protocol: str, network: Network | None) -> None:
        self.network = network
        if network is None:
            self.cluster = LocalCluster(folder, nodes_of(protocol), protocol)
        else:
            self.cluster = SpreadCluster(network, folder, protocol)
        self.cluster.start()

    def leader(self) -> int:
        return self.cluster.leader(everyone=True)

    def end(self, node: int, fault: str) -> None:
        if fault == LINK:
            assert self.network is not None
            self.network.unplug(node)
        elif fault == "TERM":
            self.cluster.stop_node(node)
        elif fault == "STOP":
            self.cluster.pause(node)
        else:
            self.cluster.kill(node)

    def start(self, node: int) -> None:
        if self.network is not None:
            self.network.heal()
        if node in self.cluster.paused:
            self.cluster.resume(node)
        elif node not in self.cluster.processes:
            self.cluster.start_node(node)

    @contextmanager
    def writer(self) -> Iterator[Callable[[], None]]:
        with Client(self.cluster.endpoints, timeout_s=20.0) as client:
            yield lambda: (client.put(b"outage", b"v"), None)[1]

    def close(self) -> None:
        self.cluster.close()


class SpreadEtcd(etcd.Etcd):
    """Each of its processes in a network of its own."""

    hosts = (address(1), address(2), address(3))

    def __init__(self, network: Network, folder: Path, options: Sequence[str]) -> None:
        self._network = network
        super().__init__(folder, options)

    def _spawn(self, number: int) -> subprocess.Popen[bytes]:
        with self._network.inside(number + 1):
            return super()._spawn(number)


class Etcd:
    """Debian's."""

    def __init__(self, folder: Path, name: str, network: Network | None) -> None:
        self.network = network
        options = ETCD_OPTIONS[name]
        self.etcd = etcd.Etcd(folder, options) if network is None else SpreadEtcd(network, folder, options)
        self.etcd.wait()

    def leader(self) -> int:
        return until(self.etcd.leading, "all members of etcd follow one") - 1

    def end(self, node: int, fault: str) -> None:
        if fault == LINK:
            assert self.network is not None
            self.network.unplug(node + 1)
            return
        self.etcd.processes[node].send_signal(SIGNALS[fault])
        if fault != "STOP":
            self.etcd.processes[node].wait()

    def start(self, node: int) -> None:
        if self.network is not None:
            self.network.heal()
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


def outages(system: Quorate | Etcd, fault: str, tries: int) -> list[float]:
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
            system.end(leader, fault)
            until(lambda began=began: written[-1] > began + SETTLE_S, "writes go on")  # type: ignore[misc]
            times = written[first:]
            found.append(max(after - before for before, after in pairwise(times)))
            system.start(leader)
    finally:
        is_over.set()
        writing.join()
    return found


def nodes_of(name: str) -> int:
    """How many it takes to bear one fault."""
    return 4 if name == "pbft" else 3


def measure(name: str, fault: str, tries: int) -> list[float]:
    """With a fresh cluster, in networks of its own where links are cut; sorted."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-outage-")))
        network = None
        if fault == LINK:
            network = stack.enter_context(Network(range(1, nodes_of(name) + 1)))
            stack.enter_context(network.inside())
        system = (Etcd if name in ETCD_OPTIONS else Quorate)(folder, name, network)
        stack.callback(system.close)
        return sorted(outages(system, fault, tries))


def main() -> None:
    """Measure one after the other, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=50)
    parser.add_argument("--systems", default="raft,multipaxos,pbft,etcd")
    parser.add_argument("--faults", default="TERM,KILL", help="TERM, KILL, STOP and LINK, separated by commas")
    parser.add_argument("--json", type=Path, help="write all outages there")
    arguments = parser.parse_args()
    faults = arguments.faults.split(",")
    if unknown := set(faults) - {*SIGNALS, LINK}:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join([*SIGNALS, LINK])}")
    if LINK in faults and (why := why_impossible()):
        parser.error(f"links cannot be cut here: {why}")
    results: dict[str, list[float]] = {}
    for name in arguments.systems.split(","):
        if name in ETCD_OPTIONS and not etcd.installed():
            print("etcd is not installed and left out; as root: apt-get install etcd-server etcd-client")
            continue
        for fault in faults:
            found = results[f"{name} {fault}"] = measure(name, fault, arguments.tries)
            middle, high = statistics.median(found), found[min(len(found) - 1, len(found) * 99 // 100)]
            print(f"{name:10} {fault}: median {middle:.3f} s, p99 {high:.3f} s, longest {found[-1]:.3f} s", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
