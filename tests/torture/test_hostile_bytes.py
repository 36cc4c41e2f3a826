"""Hostile bytes at the ports of a cluster that runs: no process ends or grows, and the cluster serves afterwards.

tests/wire sends such bytes to the parts of a node, in this process; here they go to whole nodes. An attacker that is
greeted as a node ends that node's own connection for a while (where nodes have no keys, a Hello proves nothing; where
they have, the attacker has the node's), so what is asked of the cluster meanwhile is only that it lives.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import pytest

from quorate.machines.kv import commands as kv
from quorate.parts.crypto.keys import Symbolic
from quorate.parts.log import configuration
from quorate.parts.requests import sign
from quorate.protocols import REGISTRY
from quorate.runtime.address import parse_address
from quorate.runtime.codec import Codec, MalformedMessage
from quorate.runtime.handshake import client_hello, encode
from quorate.service import requests

from tests.cluster import LocalCluster, until
from tests.torture import callers
from tests.torture.callers import TIMEOUT_S
from tests.torture.messages import MESSAGES
from tests.torture.protocols import ALWAYS, in_tiers, nodes_of
from tests.torture.verify import check_replicas
from tests.wire.harness import framed
from tests.wire.test_hostile_frames import bad_streams, random_frames

pytestmark = [pytest.mark.torture, pytest.mark.timeout(150)]

ATTACKED: Final = ["raft", "multipaxos", "pbft"]
LIAR: Final = 4
"""Of four."""
GROWTH_BYTES_MAX: Final = 200 << 20
CONNECTIONS: Final = 300
BATCH: Final = 50
"""Connections at once. Each carries one frame, as a node hangs up at the first that is none."""
TRIES: Final = 5
REQUESTS: Final = (
    requests.Command(1, requests.encode(requests.Apply(1, 1, 1, b"op"))),
    requests.Query(2, b"query", True),
    requests.AskStatus(3),
    requests.Command(4, sign(Symbolic(()).client(0), [requests.encode(requests.OpenSession(5))])),
    requests.Reconfigure(5, configuration.encode_change((1, 2, 3), 0)),
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        changed[chance.randrange(len(changed))] = chance.getrandbits(8)
    return bytes(changed[: chance.randint(1, len(changed))] if chance.random() < 0.2 else changed)


def peer_frames(protocol: str, chance: random.Random, count: int) -> Iterator[bytes]:
    """Mutated messages that are none any more. One that still is can say anything: Raft trusts its members."""
    codec = Codec(REGISTRY[protocol].core)
    while count:
        frame = mutated(codec.encode_message((), chance.choice(MESSAGES[protocol])), chance)
        try:
            codec.decode_message(frame)
        except MalformedMessage:
            count -= 1
            yield frame


def client_frames(chance: random.Random, count: int) -> Iterator[bytes]:
    """Mutated requests. What is a request by chance is one, and answered."""
    for _ in range(count):
        yield mutated(requests.encode(chance.choice(REQUESTS)), chance)


class Victim:
    """A cluster, and what an attack must not change about it."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.protocol = cluster.layout.protocol
        self._before = {node: (cluster.pid(node), resident_bytes(cluster.pid(node))) for node in cluster.ids}

    def address(self, port: str, node: int) -> tuple[str, int]:
        layout = self.cluster.layout
        return parse_address(layout.peer(node) if port == "peer" else layout.client(node))

    def hello(self, port: str, node: int) -> bytes:
        """A first frame that is right where nodes have no keys: of the next node, or of a client."""
        if port == "client":
            return framed(encode(client_hello()))
        return callers.hello_of(self.cluster, node % self.cluster.layout.nodes + 1, node)

    def opener(self, port: str, node: int) -> callers.Opener:
        """A right handshake: of the next node, or of a client."""
        if port == "client":
            return callers.client()
        return callers.peer(self.cluster, node % self.cluster.layout.nodes + 1, node)

    def check(self) -> None:
        """The same processes serve, and agree."""
        until(lambda: len(self.cluster.statuses()) == self.cluster.layout.nodes, "all nodes serve")
        with self.cluster.client(timeout_s=20.0) as client:
            client.put(b"after", b"the attack")
            found = client.get(b"after")
        assert found is not None
        assert found.value == b"the attack"
        check_replicas(self.cluster)
        for node, (pid, before) in self._before.items():
            assert self.cluster.processes[node].poll() is None, self.cluster.log(node)
            assert self.cluster.status(node).pid == pid
            assert resident_bytes(pid) - before < GROWTH_BYTES_MAX
            assert "Traceback" not in self.cluster.log(node)


def resident_bytes(pid: int) -> int:
    """Peak resident memory of a process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@pytest.fixture
def victim(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Victim]:
    """Nodes that have served something: three of Raft, unless told otherwise."""
    protocol = getattr(request, "param", "raft")
    with LocalCluster(tmp_path / "cluster", nodes_of(protocol), protocol) as cluster:
        with cluster.client() as client:
            client.put(b"before", b"the attack")
        until(lambda: len(cluster.statuses()) == cluster.layout.nodes, "all nodes serve")
        yield Victim(cluster)


def connected(stack: ExitStack, address: tuple[str, int]) -> socket.socket:
    return stack.enter_context(socket.create_connection(address, TIMEOUT_S))


def hung_up(sock: socket.socket) -> None:
    """Wait until the node has."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


def throw(targets: Iterable[tuple[tuple[str, int], callers.Opener | None, bytes | list[bytes]]]) -> None:
    """Address, handshake, and a stream or frames, each on a connection of its own, all at once, until nodes hang up."""
    with ExitStack() as stack:
        sockets = []
        for address, opener, what in targets:
            sock, seal = opened(stack, address, opener)
            with suppress(ConnectionError):
                sock.sendall(what if isinstance(what, bytes) else framed(*map(seal, what)))
            sockets.append(sock)
        for sock in sockets:
            hung_up(sock)


def opened(
    stack: ExitStack, address: tuple[str, int], opener: callers.Opener | None
) -> tuple[socket.socket, callers.Sealing]:
    """A connection after its handshake. The node in whose name it is may call just then: so it is tried again."""
    for _ in range(TRIES - 1):
        sock = connected(stack, address)
        with suppress(callers.HungUp, ConnectionError):
            return sock, bytes if opener is None else opener(sock)
    sock = connected(stack, address)
    return sock, bytes if opener is None else opener(sock)


def attack(victim: Victim, port: str, count: int) -> None:
    """So many random and so many mutated frames, each after a right Hello, at the nodes in turn."""
    chance = random.Random(9)
    made = peer_frames(victim.protocol, chance, count) if port == "peer" else client_frames(chance, count)
    frames = [*islice(random_frames(chance), count), *made]
    nodes = list(victim.cluster.ids)
    # Of two connections of one node the newer counts, so each node gets one frame at a time on its peer port.
    at_once = len(nodes) if port == "peer" else BATCH
    for start in range(0, len(frames), at_once):
        chosen = [(nodes[at % len(nodes)], frame) for at, frame in enumerate(frames[start : start + at_once])]
        throw((victim.address(port, node), victim.opener(port, node), [frame]) for node, frame in chosen)
    victim.check()
    if port == "peer":
        assert all("cut node" in victim.cluster.log(node) for node in nodes), "the frames were looked at"


@pytest.mark.parametrize("protocol", ATTACKED)
def test_attackers_change_every_message(protocol: str) -> None:
    assert {type(message) for message in MESSAGES[protocol]} == set(REGISTRY[protocol].core.messages)


@pytest.mark.parametrize("victim", in_tiers(ATTACKED, fast=("pbft",)), indirect=True)
@pytest.mark.parametrize("port", ["peer", "client"])
def test_frames_that_are_no_messages(victim: Victim, port: str) -> None:
    attack(victim, port, 200)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ATTACKED, indirect=True)
@pytest.mark.parametrize("port", ["peer", "client"])
def test_many_frames_that_are_no_messages(victim: Victim, port: str) -> None:
    attack(victim, port, 10_000 if victim.protocol in ALWAYS else 2_000)


@pytest.mark.parametrize("victim", in_tiers(ATTACKED, fast=("pbft",)), indirect=True)
@pytest.mark.parametrize("port", ["peer", "client"])
def test_streams_that_are_no_frames(victim: Victim, port: str) -> None:
    changes = {"protocol": victim.protocol, "cluster": victim.cluster.layout.cluster, "node": 2, "target": 1}
    if port == "client":
        changes = {"role": "client", "protocol": "", "cluster": "", "node": None, "target": None}
    streams = list(bad_streams(random.Random(10), changes))
    for start in range(0, len(streams), BATCH):
        throw((victim.address(port, 1), None, stream) for stream in streams[start : start + BATCH])
    chance = random.Random(12)
    for _ in range(BATCH):
        throw([(victim.address(port, 1), victim.opener(port, 1), chance.randbytes(chance.randint(1, 4000)))])
    victim.check()


@pytest.mark.parametrize("port", ["peer", "client"])
def test_hundreds_of_connections_with_half_a_frame(victim: Victim, port: str) -> None:
    """Some announce a megabyte and send a little of it, byte by byte; some never say Hello. All stay open."""
    with ExitStack() as stack:
        address, hello = victim.address(port, 1), victim.hello(port, 1)
        sockets = [connected(stack, address) for _ in range(CONNECTIONS)]
        for number, sock in enumerate(sockets):
            if number % 2 and port == "client":
                victim.opener(port, 1)(sock)
                sock.sendall((1 << 20).to_bytes(4, "little"))
            else:
                with suppress(ConnectionError):
                    sock.sendall(hello[:3])
        for _ in range(5):
            for sock in sockets:
                with suppress(ConnectionError):
                    sock.send(b"x")
        with victim.cluster.client(timeout_s=20.0) as client:
            client.put(b"during", b"the attack")
    victim.check()


def test_a_client_that_does_not_read_its_answers(victim: Victim) -> None:
    """It is not read from any more, then; its answers stay bounded, and others are served."""
    with victim.cluster.client() as client:
        client.put(b"large", b"x" * (1 << 20))
    ask = framed(requests.encode(requests.Query(1, kv.encode(kv.Range(b"large")), True)))
    with ExitStack() as stack:
        sock = connected(stack, victim.address("client", 1))
        callers.client()(sock)
        sock.setblocking(False)
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            with suppress(BlockingIOError, ConnectionError):
                sock.send(ask * 100)
        with victim.cluster.client(1, timeout_s=20.0) as client:
            assert client.get(b"large", serializable=True)
    victim.check()


@pytest.mark.parametrize("victim", in_tiers(["raft", "multipaxos"]), indirect=True)
def test_lies_that_are_well_formed_end_no_process(victim: Victim) -> None:
    """A member that says what it likes can stop such a cluster (it trusts its members), but crash none of its nodes."""
    chance = random.Random(11)
    for node in victim.cluster.ids:
        frames = list(lies(victim.protocol, chance))
        throw([(victim.address("peer", node), victim.opener("peer", node), frames)])
    until(lambda: len(victim.cluster.statuses()) == 3, "all nodes answer")
    assert all("Traceback" not in victim.cluster.log(node) for node in victim.cluster.ids)


@pytest.mark.parametrize("victim", ["pbft"], indirect=True)
def test_lies_of_one_node_of_four_do_not_stop_the_others(victim: Victim) -> None:
    chance = random.Random(11)
    for node in victim.cluster.ids:
        if node != LIAR:
            opener = callers.peer(victim.cluster, LIAR, node)
            throw([(victim.address("peer", node), opener, list(lies(victim.protocol, chance)))])
    victim.check()


def lies(protocol: str, chance: random.Random, count: int = 300) -> Iterator[bytes]:
    """Messages with numbers that mean nothing."""
    codec = Codec(REGISTRY[protocol].core)
    for _ in range(count):
        yield codec.encode_message((), lie(chance.choice(MESSAGES[protocol]), chance))


def lie(message: msgspec.Struct, chance: random.Random) -> msgspec.Struct:
    changes = {
        field: chance.choice([0, 1, 2, 5, 1000, 1 << 40])
        for field in message.__struct_fields__
        if type(getattr(message, field)) is int
    }
    return msgspec.structs.replace(message, **changes)
