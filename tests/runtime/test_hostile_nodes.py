"""Hostile bytes and hostile messages on both ports of running nodes: all of them stay up and go on serving.

Raft promises agreement only among nodes that keep to it: what a forged acknowledgement or a forged term does to the log
is not the question here. That nothing raises, grows without bound or stays stuck is.
"""

import asyncio
import itertools
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.kernel import Path as CorePath
from quorate.machines.kv import commands as kv
from quorate.parts.log import configuration
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Chunk
from quorate.protocols.raft import Raft
from quorate.protocols.raft import messages as raft
from quorate.runtime.codec import Codec
from quorate.service.requests import Apply, AskStatus, CloseSession, Command, OpenSession, Query, Reconfigure, encode

from tests.runtime.servers import FAST, Servers, run, servers, until
from tests.wire.harness import RawCaller, call, framed
from tests.wire.test_hostile_frames import peak_bytes

FRAMES = [1_000, pytest.param(10_000, marks=pytest.mark.slow)]
FRAMES_PER_CALL = 400
TURNS = 3  # of the loop: write, read, hang up
MEMORY_GROWTH_BYTES_MAX = 200 << 20
CODEC = Codec(Raft)
PATHS: tuple[CorePath, ...] = ((), (), (), (("slot", 3),))
SMALL_LOGS = msgspec.structs.replace(FAST, snapshot_entries=300, keep_entries=50)


def mutated(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        changed[chance.randrange(len(changed))] = chance.getrandbits(8)
    return bytes(changed)


# --- what a hostile peer says ---


def raft_message(chance: random.Random, term: int) -> Any:
    """A message of any kind, well typed, with numbers near those of the cluster or far off."""
    near, far = chance.randint(0, 60), chance.getrandbits(61)
    number = chance.choice([near, near, near, far])
    later = max(0, term + chance.randint(-2, 1))
    entries = [Entry(max(0, later - chance.randint(0, 1)), chance.randbytes(9)) for _ in range(chance.randint(0, 4))]
    data = chance.randbytes(chance.choice([0, 10, 300]))
    chunk = Chunk(number, later, chance.choice([0, near]), data, chance.choice([256, 300, 10**6, far]))
    return chance.choice(
        [
            raft.PreVote(later, number, later),
            raft.PreVoteReply(later, chance.random() < 0.5),
            raft.RequestVote(later, number, later),
            raft.Vote(later, chance.random() < 0.5),
            raft.AppendEntries(later, number, later, entries, chance.choice([0, near, far])),
            raft.Appended(later, number),
            raft.Conflict(later, number, near, later),
            raft.Heartbeat(later, number, near),
            raft.HeartbeatReply(later, number),
            raft.InstallSnapshot(later, chunk),
            raft.SnapshotProgress(later, number, near, chance.random() < 0.5),
            raft.Propose([chance.randbytes(12), encode(OpenSession(near))]),
            raft.ReadRequest(near, [near, far]),
            raft.ReadReply(near, [near, far], number),
        ]
    )


def random_bytes(chance: random.Random, _: int) -> bytes:
    return chance.randbytes(chance.choice([1, 2, 10, 60, 300]))


def mutated_message(chance: random.Random, term: int) -> bytes:
    return mutated(chance, wrong_message(chance, term))


def wrong_message(chance: random.Random, term: int) -> bytes:
    return CODEC.encode_message(chance.choice(PATHS), raft_message(chance, term))


# --- what a hostile client says ---


def request(chance: random.Random, _: int = 0) -> bytes:
    """A request of any kind, well typed, most of it about what is not there."""
    near, far = chance.randint(0, 60), chance.getrandbits(61)
    number = chance.choice([near, near, far])
    operation = chance.choice(
        [kv.encode(kv.Put(b"hostile", b"x")), kv.encode(kv.DeleteRange(b"")), chance.randbytes(9)]
    )
    entry = chance.choice(
        [OpenSession(number), Apply(number, near, chance.choice([0, near, far]), operation), CloseSession(number)]
    )
    return encode(
        chance.choice(
            [
                Command(number, encode(entry)),
                Command(number, chance.randbytes(20)),
                Query(number, kv.encode(kv.Range(b"\0", b"\0", chance.choice([0, -far, far]), near)), near % 2 == 0),
                Query(number, chance.randbytes(20), near % 2 == 0),
                AskStatus(number),
                Reconfigure(number, chance.choice([configuration.PREFIX, b""]) + chance.randbytes(20)),
            ]
        )
    )


def mutated_request(chance: random.Random, _: int) -> bytes:
    return mutated(chance, request(chance))


# --- the attacks ---


class Attacker:
    """Calls a port, greets as it should, and calls again whenever it is cut off."""

    def __init__(self, cluster: Servers, port: str, target: int, claims: int) -> None:
        self.port = int(getattr(cluster.members[target], port).rpartition(":")[2])
        role = {"role": "peer", "node": claims, "target": target} if port == "peer" else {"role": "client"}
        empty = {"protocol": "", "cluster": "", "node": None, "target": None}
        self.greeting = {**({"cluster": "test"} if port == "peer" else empty), **role}
        self.caller: RawCaller | None = None
        self.frames = 0

    async def write(self, frame: bytes) -> None:
        """One frame, and time for the node to take it and to hang up."""
        self.frames += 1
        if self.caller is not None and (
            self.caller.reader.at_eof()
            or self.caller.writer.transport.is_closing()
            or self.frames % FRAMES_PER_CALL == 0  # one with much unanswered is not read from
        ):
            self.close()
        with suppress(OSError, EOFError):
            if self.caller is None:
                self.caller = await call(self.port)
                await self.caller.greet(**self.greeting)
            self.caller.writer.write(framed(frame))
            for _ in range(TURNS):
                await asyncio.sleep(0)

    def close(self) -> None:
        if self.caller is not None:
            self.caller.close()
            self.caller = None


def received(cluster: Servers, port: str) -> int:
    """Frames that the nodes took in, on one kind of port."""
    if port == "client":
        return sum(server.listener.counters.received_frames for server in cluster.running.values())
    return sum(c.received_frames for server in cluster.running.values() for c in server.node.peers.counters.values())


@pytest.mark.parametrize(
    ("port", "make"),
    [
        ("peer", random_bytes),
        ("peer", mutated_message),
        ("peer", wrong_message),
        ("client", random_bytes),
        ("client", mutated_request),
        ("client", request),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
@pytest.mark.parametrize("count", FRAMES)
def test_nodes_stay_up_and_serve(
    tmp_path: Path, port: str, make: Callable[[random.Random, int], bytes], count: int
) -> None:
    async def main() -> None:
        chance = random.Random(11)
        async with servers(tmp_path, options=SMALL_LOGS) as cluster:
            async with cluster.client() as client:
                for n in range(30):
                    await client.put(b"k%d" % n, b"v")
            leader = await cluster.leader()
            before, frames = peak_bytes(), received(cluster, port)
            # The leader is attacked in the name of a node that is silent, and a follower in that of its leader.
            victim, silent = (node for node in cluster.ids if node != leader)
            attackers = [Attacker(cluster, port, leader, silent), Attacker(cluster, port, victim, leader)]
            for attempt in itertools.count():
                if received(cluster, port) - frames >= count:
                    break
                assert attempt < 2 * count, "the attack does not reach the nodes"
                for attacker in attackers:
                    term = max(cluster.core(node).term for node in cluster.ids)
                    await attacker.write(make(chance, term))
            for attacker in attackers:
                attacker.close()
            assert cluster.alive()
            async with cluster.client() as client:
                await client.put(b"after", b"the attack")
                assert (await client.get(b"after")).value == b"the attack"
            assert cluster.alive()
            assert peak_bytes() - before < MEMORY_GROWTH_BYTES_MAX
            connections = [*cluster.running[leader].listener.connections, *cluster.running[victim].listener.connections]
            await until(lambda: not any(connection.is_open for connection in connections))

    run(main())
