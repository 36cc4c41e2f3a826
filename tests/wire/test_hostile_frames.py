"""Hostile bytes on both ports: nothing raises out of the loop, memory stays bounded, others are served meanwhile."""

import asyncio
import random
import resource
import sys
from collections.abc import Callable, Iterator

import pytest

from quorate.kernel import Path
from quorate.runtime.codec import Codec, MalformedMessage
from quorate.runtime.framing import FrameConnection
from quorate.runtime.handshake import encode
from quorate.runtime.listener import ClientConnection

from tests.wire.harness import Cluster, Note, Root, Whisper, call, clients, cluster, framed, hello, until

CODEC = Codec(Root)
FRAMES = 10_000
MEMORY_GROWTH_BYTES_MAX = 96 << 20
CLIENT = {"role": "client", "protocol": "", "cluster": "", "node": None, "target": None}
PATHS: tuple[Path, ...] = ((), (("slot", 3),), (("a", 1), ("b", 2)))


def random_frames(chance: random.Random) -> Iterator[bytes]:
    for _ in range(FRAMES):
        yield chance.randbytes(chance.choice([1, 2, 10, 60, 300]))


def mutated_frames(chance: random.Random) -> Iterator[bytes]:
    for number in range(FRAMES):
        message = chance.choice([Note(number, "text", (b"x" * 20, b"")), Whisper(True, 0.5)])
        data = bytearray(CODEC.encode_message(chance.choice(PATHS), message))
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.getrandbits(8)
        yield bytes(data)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Decoding:
    """What a node does with frames: decodes them, counts those that are none."""

    def __init__(self) -> None:
        self.good = 0
        self.malformed = 0

    def take(self, frames: list[bytes]) -> None:
        for frame in frames:
            try:
                CODEC.decode_message(frame)
                self.good += 1
            except MalformedMessage:
                self.malformed += 1

    @property
    def total(self) -> int:
        return self.good + self.malformed


@pytest.mark.parametrize("make_frames", [random_frames, mutated_frames])
def test_malformed_frames_of_a_peer_hurt_nobody(run, make_frames: Callable[[random.Random], Iterator[bytes]]) -> None:
    async def main() -> None:
        made = Cluster(3)
        seen = {1: Decoding(), 2: Decoding()}
        made.make(0, on_frames=lambda sender, frames: seen[sender].take(frames))
        await made.start(0, 2)
        await made.connected()
        before = peak_bytes()
        attacker = await call(made.addresses[0][1])
        await attacker.greet(node=1)
        good = CODEC.encode_message((), Note(1))
        for number, frame in enumerate(make_frames(random.Random(5)), 1):
            attacker.writer.write(framed(frame))
            if number % 100 == 0:
                await attacker.writer.drain()
                assert made.peers[2].send(0, good)
                await until(lambda n=number: seen[2].good == n // 100)  # served while the attack goes on
        await until(lambda: seen[1].total == FRAMES)
        assert seen[1].malformed > FRAMES // 2
        assert seen[2].malformed == 0
        assert peak_bytes() - before < MEMORY_GROWTH_BYTES_MAX
        attacker.close()
        for peers in made.peers.values():
            await peers.stop()
        made.sockets[1].close()

    run(main())


@pytest.mark.parametrize("make_frames", [random_frames, mutated_frames])
def test_malformed_frames_of_a_client_hurt_nobody(run, make_frames: Callable[[random.Random], Iterator[bytes]]) -> None:
    async def main() -> None:
        async with clients() as made:
            seen = Decoding()

            def serve(connection: ClientConnection, frames: list[bytes]) -> None:
                seen.take(frames)
                for _ in frames:
                    connection.reply(b"ok")
                connection.done(len(frames))

            made.listener.on_frames = serve
            before = peak_bytes()
            attacker, honest = await call(made.listener.port), await call(made.listener.port)
            await attacker.greet(**CLIENT)
            await honest.greet(**CLIENT)
            good = CODEC.encode_message((), Note(1))
            for number, frame in enumerate(make_frames(random.Random(6)), 1):
                attacker.writer.write(framed(frame))
                if number % 100 == 0:
                    await attacker.writer.drain()
                    await honest.write(framed(good))
                    assert await honest.frame() == b"ok"
            for _ in range(FRAMES):
                assert await attacker.frame() == b"ok"
            assert seen.total == FRAMES + FRAMES // 100
            assert seen.malformed > FRAMES // 2
            assert peak_bytes() - before < MEMORY_GROWTH_BYTES_MAX
            attacker.close()
            honest.close()

    run(main())


def bad_streams(chance: random.Random, role: dict[str, object]) -> Iterator[bytes]:
    """Bytes that keep to no frames: before, instead of and after a Hello, some of it right."""
    greeting = encode(hello(**role))
    for _ in range(60):
        yield chance.randbytes(chance.randint(1, 4000))
        mutated = bytearray(framed(greeting))
        mutated[chance.randrange(len(mutated))] = chance.getrandbits(8)
        yield bytes(mutated)
        yield framed(greeting) + chance.randbytes(chance.randint(1, 4000))
        yield framed(chance.randbytes(chance.randint(1, 2048)))


@pytest.mark.parametrize("port", ["peer", "client"])
def test_streams_without_frames_are_cut_off_and_leave_nothing_behind(run, port: str) -> None:
    async def main() -> None:
        async with cluster(3, running=1) as made, clients() as served:
            await made.start(2)
            await made.connected()
            is_peer = port == "peer"
            address = made.addresses[0][1] if is_peer else served.listener.port
            held: set[FrameConnection] = made.peers[0].callers if is_peer else served.listener.connections
            usual = len(held)
            before = peak_bytes()
            for stream in bad_streams(random.Random(8), {"node": 1} if is_peer else CLIENT):
                attacker = await call(address)
                attacker.writer.write(stream)
                attacker.writer.write_eof()
                await attacker.hung_up()
                attacker.close()
            await until(lambda: len(held) == usual)
            assert made.peers[2].send(0, b"well?")
            await until(lambda: made.frames(0, 2) == [b"well?"])
            assert peak_bytes() - before < MEMORY_GROWTH_BYTES_MAX

    run(main())


def test_many_half_frames_hold_what_was_sent_and_no_more(run) -> None:
    """A header that announces a megabyte costs the receiver nothing until the bytes come."""

    async def main() -> None:
        async with clients() as made:
            before = peak_bytes()
            callers = [await call(made.listener.port) for _ in range(200)]
            for caller in callers:
                await caller.greet(**CLIENT)
                await caller.write((2 << 20).to_bytes(4, "little") + b"x" * 1000)
            await until(lambda: sum(len(client._received) for client in made.connections) == 200 * 1004)
            assert peak_bytes() - before < MEMORY_GROWTH_BYTES_MAX
            for caller in callers:
                caller.close()
            await asyncio.sleep(0)

    run(main())
