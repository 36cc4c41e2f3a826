"""Networks of their own for the nodes of one cluster: a namespace each, joined by a bridge, with links to be cut.

How it works. The bridge is in a namespace too, where the clients are: the addresses exist nowhere else, and deleting
the namespaces takes all of it away. A thread that is in a namespace gives it to the processes and threads that it
starts, and to its sockets. ``cut`` drops packets by their sender where they arrive, so it can be one-way. Needs root.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from quorate.cli.folder import Layout

from tests.cluster import LocalCluster

HUB = 0
CLIENT_PORT, PEER_PORT = 7401, 7501
CLONE_NEWNET = 0x40000000
COMMAND_TIMEOUT_S = 20.0
FILTER = """
add table inet cut
add set inet cut away { type ipv4_addr; }
add chain inet cut input { type filter hook input priority 0; }
add rule inet cut input ip saddr @away drop
"""


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


def run(*command: str, stdin: str = "") -> None:
    """A command of the system; raises RuntimeError with what it says."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


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

    def __init__(self, nodes: range) -> None:
        self.nodes = nodes
        self._prefix = f"quorate-{secrets.token_hex(4)}"
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._make(HUB)
            hub = self._name(HUB)
            run("ip", "-n", hub, "link", "add", "br0", "type", "bridge")
            run("ip", "-n", hub, "address", "add", f"{address(HUB)}/24", "dev", "br0")
            run("ip", "-n", hub, "link", "set", "br0", "up")
            for node in self.nodes:
                self._join(node)
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def _name(self, node: int) -> str:
        return f"{self._prefix}-{node}"

    def _make(self, node: int) -> None:
        run("ip", "netns", "add", self._name(node))
        self._cleanup.callback(run, "ip", "netns", "del", self._name(node))
        run("ip", "-n", self._name(node), "link", "set", "lo", "up")

    def _join(self, node: int) -> None:
        self._make(node)
        hub, name, port = self._name(HUB), self._name(node), f"v{node}"
        run("ip", "-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "-n", hub, "link", "set", port, "master", "br0", "up")
        run("ip", "-n", name, "address", "add", f"{address(node)}/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        run("ip", "netns", "exec", name, "nft", "-f", "-", stdin=FILTER)

    @contextmanager
    def inside(self, node: int = HUB) -> Iterator[None]:
        """This thread, and what it starts, in a node's network; the hub's is where clients are."""
        with Path("/proc/thread-self/ns/net").open() as before, Path("/run/netns", self._name(node)).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

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
            self._nft(node, "flush set inet cut away\n")
            run("ip", "-n", self._name(HUB), "link", "set", f"v{node}", "up")

    def _nft(self, node: int, text: str) -> None:
        run("ip", "netns", "exec", self._name(node), "nft", "-f", "-", stdin=text)


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


class SpreadCluster(LocalCluster):
    """A cluster whose nodes are in a Network; to be used ``inside`` it."""

    layout_type = SpreadLayout

    def __init__(self, network: Network, folder: Path, protocol: str = "raft", options: str = "") -> None:
        super().__init__(folder, len(network.nodes), protocol, options)
        self.network = network

    def _spawn(self, node: int) -> subprocess.Popen[bytes]:
        with self.network.inside(node):
            return super()._spawn(node)
