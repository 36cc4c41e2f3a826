"""A liar's process among the nodes of PBFT, which calls in the name of others: it costs nobody a put.

What ``tests/wire/test_keyed_links.py`` shows of links is shown here of nodes that are processes, with clients.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import pytest

from quorate.runtime.address import parse_address

from tests.cluster import LocalCluster, until
from tests.torture.callers import TIMEOUT_S, HungUp, dial, hello_of, read_frame
from tests.torture.verify import check_replicas
from tests.wire.harness import framed

pytestmark = [pytest.mark.torture, pytest.mark.timeout(150)]

LIAR: Final = 1
"""It has its own key. Its node runs as well, as an honest one's would: the imposter is another process of the liar."""
HONEST: Final = (2, 3, 4)
PUTS: Final = 40
PUT_S_MAX: Final = 5.0
IDLE: Final = 72
"""Sockets at each node."""


class Imposter:
    """Calls each honest node in the name of the others, all the time."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.calls = self.welcomes = 0
        self._cluster = cluster
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Imposter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(TIMEOUT_S)

    def _run(self) -> None:
        while not self._is_over.is_set():
            for victim in HONEST:
                for claims in HONEST:
                    if claims != victim:
                        self._call(victim, claims)

    def _call(self, victim: int, claims: int) -> None:
        """Without a proof, and with one by the wrong key."""
        side = dial(self._cluster, claims, victim, LIAR)
        for frames in ((hello_of(self._cluster, claims, victim),), (framed(side.opening), b"")):
            with suppress(OSError, HungUp), connected(self._cluster, victim) as sock:
                sock.sendall(frames[0])
                answer = read_frame(sock)
                if len(frames) > 1:
                    sock.sendall(framed(side.challenged(answer)))
                    answer = read_frame(sock)
                self.calls += 1
                self.welcomes += b"proof" not in answer


def connected(cluster: LocalCluster, node: int) -> socket.socket:
    return socket.create_connection(parse_address(cluster.layout.peer(node)), TIMEOUT_S)


def puts(cluster: LocalCluster, count: int = PUTS) -> float:
    """So many; the longest of them, in seconds."""
    longest = 0.0
    with cluster.client(timeout_s=PUT_S_MAX) as client:
        for number in range(count):
            began = time.monotonic()
            client.put(b"key", b"%d" % number)
            longest = max(longest, time.monotonic() - began)
    return longest


def test_calls_in_the_name_of_others_cost_no_put(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "cluster", 4, "pbft") as cluster:
        until(lambda: len(cluster.statuses()) == 4, "all nodes serve")
        puts(cluster, 1)
        with Imposter(cluster) as imposter:
            until(lambda: imposter.calls > 12, "the imposter has called everybody")
            longest = puts(cluster)
            assert imposter.welcomes == 0
            print(f"{imposter.calls} calls in the name of others; the longest put took {longest:.3f} s")
        until(lambda: len(cluster.statuses()) == 4, "all nodes serve")
        for node in HONEST:
            assert "called again" not in cluster.log(node)
            assert "bring no nonce" in cluster.log(node)
        check_replicas(cluster)


def test_idle_sockets_do_not_keep_a_restarted_node_out(tmp_path: Path) -> None:
    """With the liar down as well, the node that restarts is needed for every put."""
    with LocalCluster(tmp_path / "cluster", 4, "pbft") as cluster, ExitStack() as idle:
        until(lambda: len(cluster.statuses()) == 4, "all nodes serve")
        puts(cluster, 1)
        cluster.kill(LIAR)
        for node in HONEST:
            for _ in range(IDLE):
                idle.enter_context(connected(cluster, node))
        cluster.restart(HONEST[-1])
        for _ in range(IDLE):
            idle.enter_context(connected(cluster, HONEST[-1]))
        began = time.monotonic()
        with cluster.client(timeout_s=4 * PUT_S_MAX) as client:
            client.put(b"key", b"back")
        print(f"the first put after the restart took {time.monotonic() - began:.3f} s")
        assert puts(cluster) < PUT_S_MAX
