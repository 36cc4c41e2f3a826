"""Memory: nodes under large values, one of them dead and one client that reads nothing, stay within their budget."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from quorate.machines.kv import commands as kv
from quorate.runtime.handshake import client_hello
from quorate.runtime.handshake import encode as encode_handshake
from quorate.runtime.memory import MEMORY_BYTES_MIN
from quorate.service.requests import Query
from quorate.service.requests import encode as encode_request

from tests.cluster import LocalCluster

pytestmark = [pytest.mark.torture, pytest.mark.slow, pytest.mark.timeout(300)]

VALUE = os.urandom(1_400_000)
PUTS = 450
"""630 MB: two and a half times the budget, and ten times the share of the log."""
COMPACT_EVERY = 20
NODE_ITSELF_BYTES = 60 << 20
"""An interpreter, its modules, and an empty store."""
PROTOCOLS = {"raft": 3, "multipaxos": 3, "pbft": 4}
"""Each with the nodes that bear the loss of one."""


def anonymous_bytes(pid: int) -> int:
    """What a process has in memory of its own. The system may drop what it has of files, such as the store's."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    pytest.skip("this system does not say what a process has in memory of its own")


def read_nothing(address: str, questions: int) -> socket.socket:
    """A client that asks for the large value and does not read the answers."""
    host, port = address.rsplit(":", 1)
    sock = socket.create_connection((host, int(port)))
    frames = [encode_handshake(client_hello())]
    sock.sendall(struct.pack("<I", len(frames[0])) + frames[0])
    sock.recv(1)
    for number in range(questions):
        frame = encode_request(Query(number, kv.encode(kv.Range(b"large 0")), serializable=True))
        sock.sendall(struct.pack("<I", len(frame)) + frame)
    return sock


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_large_values_with_a_dead_follower_and_slow_readers_stay_within_the_budget(
    protocol: str, tmp_path: Path
) -> None:
    cluster = LocalCluster(tmp_path / "cluster", PROTOCOLS[protocol], protocol)
    text = cluster.config_path.read_text()
    cluster.config_path.write_text(f"memory_bytes_max = {MEMORY_BYTES_MIN}\n{text}")
    with cluster:
        leader = cluster.leader()
        dead = next(node for node in cluster.ids if node != leader)
        cluster.kill(dead)
        alive = [node for node in cluster.ids if node != dead]
        term = cluster.status(leader).term
        peak = dict.fromkeys(alive, 0)
        readers: list[socket.socket] = []
        with cluster.client(*alive, timeout_s=60) as client:
            for number in range(PUTS):
                client.put(b"large %d" % (number % 3), VALUE)
                if number == COMPACT_EVERY:
                    readers = [read_nothing(cluster.layout.client(leader), 11) for _ in range(20)]
                if number % COMPACT_EVERY == 0:
                    client.compact(client.get(b"large %d" % (number % 3)).mod_revision)
                for node in alive:
                    peak[node] = max(peak[node], anonymous_bytes(cluster.pid(node)))
            found = client.get(b"large 0")
            assert found is not None
            assert found.value == VALUE
        for reader in readers:
            reader.close()
        assert cluster.status(leader).term == term, "nobody was elected meanwhile"
        allowed = MEMORY_BYTES_MIN + NODE_ITSELF_BYTES
        assert max(peak.values()) <= allowed, f"{peak}, at most {allowed}; logs in {cluster.folder}"
        assert max(peak.values()) >= MEMORY_BYTES_MIN // 4, "a log that holds next to nothing shows nothing"
