"""Networks of their own for the nodes of one cluster: a namespace each, joined by a bridge, with links to be cut.

How it works. The bridge is in a namespace too, where the clients are: the addresses exist nowhere else, and deleting
the namespaces takes all of it away. A thread that is in a namespace gives it to the processes and threads that it
starts, and to its sockets. ``cut`` drops packets by their sender where they arrive, so it can be one-way. Needs root.

Links that are bad: ``lose`` drops a share of the packets that come to a node, by the packet filter, and ``slow`` has
all that it sends stand in a queue that is emptied at a low rate (tbf). Both are in more kernels than netem, and both
count what they did. ``passes`` asks the network itself whether a packet gets through.

The namespaces bear the number of this process; those of processes that are gone, killed perhaps, are swept away.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from quorate.cli.folder import Layout

from tests.cluster import LocalCluster

HUB = 0
CLIENT_PORT, PEER_PORT = 7401, 7501
CLONE_NEWNET = 0x40000000
PROBE_PORT = 7601
COMMAND_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S, PROBE_POLL_S = 60.0, 0.1
SUBNET = "10.77.0.0/24"
NODES_MAX = 250
PREFIX = "quorate-"
FILTER = f"""
add table inet cut
add set inet cut away {{ type ipv4_addr; }}
add counter inet cut probes
add counter inet cut lost
add chain inet cut input {{ type filter hook input priority 0; }}
add rule inet cut input udp dport {PROBE_PORT} ip saddr @away counter name probes drop
add rule inet cut input ip saddr @away drop
add chain inet cut loss {{ type filter hook input priority 1; }}
"""
SLOW_RATE, SLOW_S, SLOW_BURST_BYTES = "256kbit", 0.2, 2000
"""A packet waits up to so long for its turn, and is lost where it would wait longer."""


def address(node: int) -> str:
    """A node's, inside the network; 254 is the hub's."""
    return f"10.77.0.{node or 254}"


class SpreadLayout(Layout):
    """Each node at an address of its own."""

    def client(self, node: int) -> str:
        """Where clients reach a node."""
        return f"{address(node)}:{CLIENT_PORT}"

    def peer(self, node: int) -> str:
        """Where the other nodes reach it."""
        return f"{address(node)}:{PEER_PORT}"


def run(*command: str, stdin: str = "") -> str:
    """A command of the system, and what it prints; raises RuntimeError with what it says against it."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def sweep() -> None:
    """Delete the namespaces that a process left behind which was killed."""
    for name in re.findall(rf"^{PREFIX}[0-9]+-[0-9a-f]+-[0-9]+", run("ip", "netns", "list"), re.MULTILINE):
        if not Path("/proc", name.split("-")[1]).exists():
            run("ip", "netns", "del", name)


def why_impossible() -> str | None:
    """Why this machine cannot have such networks, or None; tries with one."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "nft"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    try:
        with Network(range(1, 2)):
            return None
    except (RuntimeError, OSError) as error:
        return f"no network namespaces here: {error}"


class Network:
    """A context manager; leaves nothing behind."""

    layout_type: type[Layout] = SpreadLayout

    def __init__(self, nodes: Iterable[int]) -> None:
        self.nodes = list(nodes)
        self._prefix = f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self._made: list[int] = []
        """Whose namespaces there are."""
        self._slow: set[int] = set()

    def __enter__(self) -> Self:
        sweep()
        try:
            self._make(HUB)
            hub = self._name(HUB)
            run("ip", "-n", hub, "link", "add", "br0", "type", "bridge")
            run("ip", "-n", hub, "address", "add", f"{address(HUB)}/24", "dev", "br0")
            run("ip", "-n", hub, "link", "set", "br0", "up")
            for node in self.nodes:
                self._join(node)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        failures = []
        for node in reversed(self._made):
            try:
                run("ip", "netns", "del", self._name(node))
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                failures.append(str(error))
        self._made.clear()
        if failures:
            raise RuntimeError("; ".join(failures))

    def _name(self, node: int) -> str:
        return f"{self._prefix}-{node}"

    def _make(self, node: int) -> None:
        run("ip", "netns", "add", self._name(node))
        self._made.append(node)
        run("ip", "-n", self._name(node), "link", "set", "lo", "up")

    def _join(self, node: int) -> None:
        assert node <= NODES_MAX, f"there is no address for node {node}"
        self._make(node)
        hub, name, port = self._name(HUB), self._name(node), f"v{node}"
        run("ip", "-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "-n", hub, "link", "set", port, "master", "br0", "up")
        run("ip", "-n", name, "address", "add", f"{address(node)}/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        self._nft(node, FILTER)

    def serve(self, layout: Layout) -> None:
        """The nodes of this cluster: there is nothing to do."""

    def environment(self, node: int) -> dict[str, str]:
        """What its process is told: nothing."""
        return {}

    # --- nodes that come and go ---

    def join(self, node: int) -> None:
        """One more node."""
        self._join(node)
        self.nodes.append(node)

    def leave(self, node: int) -> None:
        """A node whose process is gone."""
        self.nodes.remove(node)
        self._made.remove(node)
        run("ip", "netns", "del", self._name(node))

    @contextmanager
    def inside(self, node: int = HUB) -> Iterator[None]:
        """This thread, and what it starts, in a node's network; the hub's is where clients are."""
        with Path("/proc/thread-self/ns/net").open() as before, Path("/run/netns", self._name(node)).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    # --- links that are cut ---

    def cut(self, sender: int, receiver: int) -> None:
        """No packet from one node to the other; the way back stays."""
        self._nft(receiver, f"add element inet cut away {{ {address(sender)} }}\n")

    def cut_both(self, one: int, other: int) -> None:
        """No packet between two nodes."""
        self.cut(one, other)
        self.cut(other, one)

    def isolate(self, node: int) -> None:
        """Cut a node off from all other nodes, not from clients."""
        for other in self.nodes:
            if other != node:
                self.cut_both(node, other)

    def unplug(self, node: int) -> None:
        """The node's link goes down: nobody reaches it."""
        run("ip", "-n", self._name(HUB), "link", "set", f"v{node}", "down")

    def heal(self) -> None:
        """All links as at the beginning."""
        for node in self.nodes:
            self._nft(node, "flush set inet cut away\nflush chain inet cut loss\n")
            run("ip", "-n", self._name(HUB), "link", "set", f"v{node}", "up")
        for node in self._slow.intersection(self.nodes):
            self._tc(node, "del", "root")
        self._slow.clear()

    def passes(self, sender: int, receiver: int) -> bool:
        """Whether a packet gets from one node to the other: it arrives, or the filter counts it as dropped.

        Either is awaited, so this takes as long as it must, and says nothing that was not seen.
        """
        with self.inside(receiver):
            there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with self.inside(sender):
            here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with here, there:
            there.bind((address(receiver), PROBE_PORT))
            there.settimeout(PROBE_POLL_S)
            dropped = self._counted(receiver, "probes")
            deadline = time.monotonic() + PROBE_TIMEOUT_S
            while time.monotonic() < deadline:
                here.sendto(b"probe", (address(receiver), PROBE_PORT))
                with suppress(TimeoutError):
                    return bool(there.recv(16))
                if self._counted(receiver, "probes") > dropped:
                    return False
        raise AssertionError(f"a packet from {sender} to {receiver} neither arrives nor is dropped")

    # --- links that are bad ---

    def lose(self, node: int, percent: int) -> None:
        """Of the packets that come to a node so many are lost. Raises RuntimeError where the kernel cannot."""
        rule = f"ip saddr {SUBNET} numgen random mod 100 < {percent} counter name lost drop"
        self._nft(node, f"reset counter inet cut lost\nadd rule inet cut loss {rule}\n")

    def lost(self, node: int) -> int:
        """How many packets were, since ``lose``."""
        return self._counted(node, "lost")

    def slow(self, node: int) -> None:
        """What a node sends waits in a queue, as on a line that is too thin. Raises RuntimeError where the kernel
        cannot."""
        queue = ("tbf", "rate", SLOW_RATE, "burst", str(SLOW_BURST_BYTES), "latency", f"{SLOW_S * 1000:.0f}ms")
        self._tc(node, "add", "root", *queue)
        self._slow.add(node)

    def delayed(self, node: int) -> int:
        """How many packets of a node had to wait for their turn, since ``slow``; some are sent, and must."""
        with self.inside(node):
            here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with here:
            for _ in range(3):
                here.sendto(bytes(SLOW_BURST_BYTES // 2), (address(HUB), PROBE_PORT))
        (queue,) = [queue for queue in json.loads(self._tc(node, "show", statistics=True)) if queue["kind"] == "tbf"]
        return int(queue["overlimits"])

    def _tc(self, node: int, verb: str, *what: str, statistics: bool = False) -> str:
        options = ["-s", "-j"] if statistics else []
        return run("ip", "netns", "exec", self._name(node), "tc", *options, "qdisc", verb, "dev", "eth0", *what)

    def _counted(self, node: int, counter: str) -> int:
        text = run("ip", "netns", "exec", self._name(node), "nft", "list", "counter", "inet", "cut", counter)
        found = re.search(r"packets (\d+)", text)
        assert found, text
        return int(found[1])

    def _nft(self, node: int, text: str) -> None:
        run("ip", "netns", "exec", self._name(node), "nft", "-f", "-", stdin=text)


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


class SpreadCluster(LocalCluster):
    """A cluster whose nodes are in a Network; to be used ``inside`` it."""

    def __init__(
        self,
        network: Network,
        folder: Path,
        protocol: str = "raft",
        options: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.layout_type = network.layout_type
        super().__init__(folder, len(network.nodes), protocol, options, env)
        self.network = network
        network.serve(self.layout)

    def environment(self, node: int) -> dict[str, str]:
        return {**super().environment(node), **self.network.environment(node)}

    def _spawn(self, node: int) -> subprocess.Popen[bytes]:
        with self.network.inside(node):
            return super()._spawn(node)
