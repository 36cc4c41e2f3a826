"""Strangers who lie, listen in, say nothing, drip, flood, or break off: each is refused, and nobody else feels it."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from quorate.runtime.framing import SEALED_BYTES
from quorate.runtime.handshake import MAGIC, Refused, client_hello, encode
from quorate.runtime.keys import Ed25519Signer
from quorate.runtime.open_handshake import CalledSide, Knock, Myself
from quorate.runtime.proving import Challenge, Mismatch, Proof
from quorate.runtime.sealing import Ephemeral
from quorate.runtime.stranger_limits import TOO_SLOW

from tests.wire.harness import RawCaller, call, framed, hello, until
from tests.wire.open_network import NETWORK, Somebody, people, raw
from tests.wire.test_hostile_frames import MEMORY_GROWTH_BYTES_MAX, peak_bytes

SHARE = Ephemeral(bytes(32)).share
EVE = Myself(NETWORK, Ed25519Signer(None, b"e" * 32))


@asynccontextmanager
async def attacked(**changes: object) -> AsyncIterator[tuple[Somebody, Somebody]]:
    """Ann, who is attacked, and Bob, who is linked to her before, and served during and after the attack."""
    async with people(1, 2, **changes) as (ann, bob):
        await bob.meets(ann)
        yield ann, bob
        await served(ann, bob)
        await until(lambda: len(ann.strangers._connections) == 1)
        assert len(ann.strangers._waiting) == 0
        assert list(ann.links) == [bob.key]


async def served(ann: Somebody, bob: Somebody) -> None:
    """A frame each way."""
    before = len(ann.received), len(bob.received)
    assert bob.do("send", bob.links[ann.key], b"there?")
    assert ann.do("send", ann.links[bob.key], b"here")
    await until(lambda: (len(ann.received), len(bob.received)) == (before[0] + 1, before[1] + 1))


async def refusal(caller: RawCaller) -> Refused:
    """The last that a caller hears."""
    answer = msgspec.msgpack.decode(await caller.frame(), type=Refused)
    assert await caller.hung_up() == b""
    caller.close()
    return answer


# --- who pretends ---


def test_a_recorded_handshake_is_refused(run) -> None:
    """Eve has heard every byte that Bob said to Ann, and says them again."""

    async def main() -> None:
        async with attacked() as (ann, bob):
            heard = await raw(ann, 7)
            challenge_frames: list[bytes] = []
            await heard.caller.write(framed(heard.side.opening))
            challenge_frames.append(await heard.caller.frame())
            proof = heard.side.challenged(challenge_frames[0])
            await heard.caller.write(framed(proof))
            heard.side.admitted(await heard.caller.frame())
            heard.caller.close()
            await until(lambda: ann.of("parted"))

            eve = await call(ann.port)
            await eve.write(framed(heard.side.opening))
            assert await eve.frame() != challenge_frames[0]
            await eve.write(framed(proof))
            assert (await refusal(eve)).code == "proof"
            await served(ann, bob)

    run(main())


def test_a_mirror_is_refused_on_both_sides(run) -> None:
    """Whatever Ann says comes back to her: from where she dials, and from who calls her."""

    async def main() -> None:
        async with attacked() as (ann, bob):

            async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while data := await reader.read(4096):
                    writer.write(data)
                writer.close()

            server = await asyncio.start_server(mirror, "127.0.0.1", 0)
            why = await ann.unmet("127.0.0.1:{1}".format(*server.sockets[0].getsockname()))
            assert why.startswith("answered with no Challenge")

            async def challenger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                """Asks Ann herself for the answers, by a call to her."""
                caller = RawCaller(reader, writer)
                knock = await caller.frame()
                back = await call(ann.port)
                await back.write(framed(knock))
                assert (await refusal(back)).code == "self"
                await caller.write(framed(msgspec.msgpack.encode(Challenge(ann.key, bytes(32), SHARE))))
                await caller.hung_up()
                caller.close()

            other = await asyncio.start_server(challenger, "127.0.0.1", 0)
            assert await ann.unmet("127.0.0.1:{1}".format(*other.sockets[0].getsockname())) == "it is this node itself"
            server.close()
            other.close()
            await served(ann, bob)

    run(main())


@pytest.mark.parametrize("swaps", ["dialler", "called", "both"])
def test_somebody_between_who_swaps_keys_gets_a_link_with_neither(run, swaps: str) -> None:
    async def main() -> None:
        async with people(1, 2, handshake_timeout_s=0.5) as (ann, bob):

            async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                caller, onward = RawCaller(reader, writer), await call(bob.port)
                knock = msgspec.msgpack.decode(await caller.frame(), type=Knock)
                if swaps != "called":
                    knock = msgspec.structs.replace(knock, key=EVE.key)
                await onward.write(framed(msgspec.msgpack.encode(knock)))
                challenge = msgspec.msgpack.decode(await onward.frame(), type=Challenge)
                if swaps != "dialler":
                    challenge = msgspec.structs.replace(challenge, key=EVE.key)
                await caller.write(framed(msgspec.msgpack.encode(challenge)))
                await onward.write(framed(await caller.frame()))
                await caller.write(framed(await onward.frame()))
                for end in (caller, onward):
                    await end.hung_up()
                    end.close()

            server = await asyncio.start_server(between, "127.0.0.1", 0)
            why = await ann.unmet("127.0.0.1:{1}".format(*server.sockets[0].getsockname()))
            assert why == "refused us: 'the signature is not by the key that you name, or not for this handshake'"
            await until(lambda: not bob.strangers._connections)
            assert ann.of("met") == bob.of("met") == []
            server.close()

    run(main())


def test_a_proof_for_eve_opens_no_door_at_bobs(run) -> None:
    """Ann dials Eve, who calls Bob at that moment and hands on the nonces."""

    async def main() -> None:
        async with people(1, 2) as (ann, bob):
            outcome: list[Refused] = []

            async def eve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                caller, onward = RawCaller(reader, writer), await call(bob.port)
                await onward.write(framed(await caller.frame()))  # "I am Ann"
                challenge = msgspec.msgpack.decode(await onward.frame(), type=Challenge)
                await caller.write(framed(msgspec.msgpack.encode(Challenge(EVE.key, challenge.nonce, challenge.share))))
                await onward.write(framed(await caller.frame()))
                outcome.append(await refusal(onward))
                caller.close()

            server = await asyncio.start_server(eve, "127.0.0.1", 0)
            await ann.unmet("127.0.0.1:{1}".format(*server.sockets[0].getsockname()))
            await until(lambda: outcome)
            assert outcome[0].code == "proof"
            assert bob.of("met") == []
            server.close()

    run(main())


def test_who_names_a_key_and_cannot_sign_pushes_nobody_out(run) -> None:
    """Eve says that she is Bob, who has a link, and who is banned elsewhere for nothing that she does."""

    async def main() -> None:
        async with attacked() as (ann, bob):
            eve = await call(ann.port)
            knock = Knock(b"quorate open", 2, NETWORK, bob.key, bytes(32), 0, SHARE)
            await eve.write(framed(msgspec.msgpack.encode(knock)))
            await eve.frame()
            await eve.write(framed(msgspec.msgpack.encode(Proof(bytes(64)))))
            assert (await refusal(eve)).code == "proof"
            assert ann.of("parted") == []

    run(main())


def test_a_called_side_that_cannot_sign_is_left(run) -> None:
    async def main() -> None:
        async with attacked() as (ann, bob):

            async def pretends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                caller = RawCaller(reader, writer)
                side = CalledSide(Myself(NETWORK, bob.signer), Ephemeral())
                side.knocked(await caller.frame())
                side._me = EVE.signer
                await caller.write(framed(side.challenge()))
                side.proved(await caller.frame())
                await caller.write(framed(side.admission()))
                await caller.hung_up()
                caller.close()

            bob.do("part", bob.links[ann.key], "")
            await until(lambda: ann.of("parted"))
            server = await asyncio.start_server(pretends, "127.0.0.1", 0)
            why = await ann.unmet("127.0.0.1:{1}".format(*server.sockets[0].getsockname()))
            assert why.startswith("the signature is not by the key")
            server.close()
            await bob.meets(ann)

    run(main())


# --- who does not belong here ---


WRONG: list[tuple[bytes, str]] = [
    (msgspec.msgpack.encode(Knock(b"quorate open", 2, "net/2", EVE.key, bytes(32), 0, SHARE)), "network"),
    (msgspec.msgpack.encode(Knock(b"quorate open", 9, NETWORK, EVE.key, bytes(32), 0, SHARE)), "version"),
    (msgspec.msgpack.encode(Knock(b"redis", 2, NETWORK, EVE.key, bytes(32), 0, SHARE)), "magic"),
    (encode(hello()), "magic"),
    (encode(client_hello()), "magic"),
    (b"GET / HTTP/1.1\r\n\r\n", "malformed"),
    (b"\x81" * 2000, "malformed"),
    (msgspec.msgpack.encode(Proof(bytes(64))), "malformed"),
]


@pytest.mark.parametrize(("frame", "code"), WRONG)
def test_who_does_not_belong_here_is_told_why(run, frame: bytes, code: str) -> None:
    async def main() -> None:
        async with attacked() as (ann, bob):
            caller = await call(ann.port)
            await caller.write(framed(frame))
            assert (await refusal(caller)).code == code
            await served(ann, bob)

    run(main())
    assert MAGIC != b"quorate open"


def test_who_sends_on_before_it_is_admitted_is_cut_off(run) -> None:
    async def main() -> None:
        async with attacked() as (ann, bob):
            eager = await raw(ann, 7)
            await eager.caller.write(framed(eager.side.opening, b"more"))
            await eager.caller.hung_up()
            eager.caller.close()
            eager = await raw(ann, 8)
            await eager.caller.write(framed(eager.side.opening))
            proof = eager.side.challenged(await eager.caller.frame())
            await eager.caller.write(framed(proof, b"more"))
            await eager.caller.hung_up()
            eager.caller.close()
            await until(lambda: len(ann.of("met")) == len(ann.of("parted")) + 1)
            assert not any(frame == b"more" for _, frame in ann.received)
            await served(ann, bob)

    run(main())


# --- who says nothing, or much too much ---


@pytest.mark.parametrize(
    "start", [b"", b"\x05", framed(b"x" * 500)[:200]], ids=["nothing", "half header", "half frame"]
)
def test_silence_ends_at_the_deadline(run, start: bytes) -> None:
    async def main() -> None:
        async with attacked(handshake_timeout_s=0.1) as (ann, bob):
            caller = await call(ann.port)
            await caller.write(start)
            assert await caller.hung_up() == b""
            caller.close()
            half = await raw(ann, 7)
            await half.caller.write(framed(half.side.opening))
            await half.caller.frame()
            assert await half.caller.hung_up() == b"", "a Proof that never comes"
            half.caller.close()
            await served(ann, bob)

    run(main())


def test_a_drip_of_single_bytes_does_not_move_the_deadline(run) -> None:
    async def main() -> None:
        async with attacked(handshake_timeout_s=0.2) as (ann, _):
            slow = await raw(ann, 7)
            frame = framed(slow.side.opening)
            await until(lambda: len(ann.strangers._waiting) == 1)
            sent = 0
            while len(ann.strangers._waiting) and sent < len(frame):
                if not slow.caller.writer.is_closing():
                    slow.caller.writer.write(frame[sent : sent + 1])
                sent += 1
                await asyncio.sleep(0.005)  # the whole of it would take more than twice the deadline
            assert 1 < sent < len(frame)
            slow.caller.close()

    run(main())


@pytest.mark.parametrize("size", [0, (4 << 20) + 17, (1 << 32) - 1])
def test_a_frame_of_a_size_that_is_not_allowed_is_misbehaviour(run, size: int) -> None:
    async def main() -> None:
        async with attacked() as (ann, bob):
            eve = await raw(ann, 7)
            await eve.enter()
            await eve.caller.write(eve.sealed(b"good") + size.to_bytes(4, "little") + b"rest")
            await eve.caller.hung_up()
            await until(lambda: ann.of("parted"))
            [(link, why)] = ann.of("misbehaved")
            assert ann.of("parted") == [(link, why)]
            assert f"announced a frame of {size} bytes" in why
            assert ann.received == [(link, b"good")]
            assert [event[0] for event in ann.events[-2:]] == ["misbehaved", "parted"]
            assert ann.strangers.totals.misbehaved == 1
            eve.caller.close()
            ann.received.clear()
            await served(ann, bob)

    run(main())


def test_an_oversized_frame_of_a_caller_is_the_end_of_it_and_no_more(run) -> None:
    async def main() -> None:
        async with attacked() as (ann, bob):
            caller = await call(ann.port)
            await caller.write((1 << 20).to_bytes(4, "little") + b"x" * 5000)
            await caller.hung_up()
            caller.close()
            assert ann.of("misbehaved") == []
            await served(ann, bob)

    run(main())


@pytest.mark.parametrize("hosts", [1, 72])
def test_idle_sockets_keep_nobody_out(run, hosts: int) -> None:
    """72 sockets that say nothing, from one host and from as many: a newcomer gets in long before their deadline."""

    async def main() -> None:
        async with people(1, 2, 3, handshake_timeout_s=60.0) as (ann, bob, cat):
            await bob.meets(ann)
            idle: list[socket.socket] = []
            for number in range(72):
                sock = socket.create_connection(
                    ("127.0.0.1", ann.port), source_address=(f"127.0.88.{2 + number % hosts}", 0)
                )
                idle.append(sock)
                await asyncio.sleep(0)
            limits = ann.strangers.limits
            await until(lambda: ann.strangers.totals.calls == 73)
            held = limits.callers_per_host_max if hosts == 1 else limits.callers_max
            assert len(ann.strangers._waiting) == held
            assert ann.strangers.totals.evictions == 72 - held
            await cat.meets(ann)
            assert sorted(ann.links) == sorted([bob.key, cat.key])
            await served(ann, bob)
            for sock in idle:
                sock.close()

    run(main())


def test_callers_from_one_host_leave_places_for_others(run) -> None:
    async def main() -> None:
        async with people(1, callers_max=8, callers_per_host_max=6, handshake_timeout_s=60.0) as [ann]:
            early = [await call(ann.port, "127.0.0.1") for _ in range(2)]
            many = []
            for _ in range(20):
                many.append(socket.create_connection(("127.0.0.1", ann.port), source_address=("127.0.88.9", 0)))
                await asyncio.sleep(0)
            await until(lambda: ann.strangers.totals.calls == 22)
            hosts = [caller.host for caller in ann.strangers._waiting._callers]
            assert (hosts.count("127.0.0.1"), hosts.count("127.0.88.9")) == (2, 6)
            more = socket.create_connection(("127.0.0.1", ann.port), source_address=("127.0.88.8", 0))
            await until(lambda: ann.strangers.totals.calls == 23)
            hosts = [caller.host for caller in ann.strangers._waiting._callers]
            assert [hosts.count(host) for host in ("127.0.0.1", "127.0.88.8", "127.0.88.9")] == [2, 1, 5]
            assert not any(caller.reader.at_eof() for caller in early)
            for sock in [*many, more]:
                sock.close()
            for caller in early:
                caller.close()

    run(main())


def test_frames_that_never_end_are_limited_in_all_and_the_slowest_goes(run) -> None:
    async def main() -> None:
        async with attacked(unfinished_bytes_max=1 << 20) as (ann, bob):
            slow = [await raw(ann, number) for number in range(10, 15)]
            for number, eve in enumerate(slow):
                await eve.enter()
                await eve.caller.write((1 << 20).to_bytes(4, "little") + b"x" * 200_000)
                await until(lambda n=number: ann.strangers.unfinished.size_bytes == (n + 1) * 200_004)
            assert ann.of("parted") == []
            await served(ann, bob)
            large = b"y" * 900_000
            bob.do("send", bob.links[ann.key], large)
            await until(lambda: ann.received[-1][1] == large)
            victims = [link for link, why in ann.of("parted") if why == TOO_SLOW]
            assert victims == sorted(victims)
            assert victims
            assert ann.links[bob.key] not in victims, "who has begun last and goes on is not the slowest"
            assert ann.strangers.unfinished.size_bytes <= 1 << 20
            for eve in slow:
                eve.caller.close()
            await until(lambda: ann.strangers.unfinished.size_bytes == 0)
            ann.received.clear()

    run(main())


def test_who_has_ended_a_frame_since_is_not_the_slowest(run) -> None:
    async def main() -> None:
        async with people(1, unfinished_bytes_max=1_000_000) as [ann]:
            first, second, third = [await raw(ann, number) for number in (10, 11, 12)]
            for eve in (first, second, third):
                await eve.enter()
            size = ann.strangers.unfinished
            header = (400_000).to_bytes(4, "little")
            whole = header + first.channel.seal(b"x" * (400_000 - SEALED_BYTES))
            await first.caller.write(whole[:300_004])
            await until(lambda: size.size_bytes == 300_004)
            await second.caller.write(header + b"x" * 300_000)
            await until(lambda: size.size_bytes == 600_008)
            await first.caller.write(whole[300_004:] + header + b"x" * 300_000)
            await until(lambda: ann.received and size.size_bytes == 600_008)
            assert ann.of("parted") == []
            await third.caller.write(header + b"x" * 399_999)
            await until(lambda: ann.of("parted"))
            assert ann.of("parted") == [(2, TOO_SLOW)]
            for eve in (first, second, third):
                eve.caller.close()

    run(main())


# --- any bytes ---


def streams(chance: random.Random, knock: bytes) -> list[bytes]:
    """Bytes that keep to no frames, and frames that are no greeting."""
    mutated = bytearray(framed(knock))
    mutated[chance.randrange(len(mutated))] = chance.getrandbits(8)
    return [
        chance.randbytes(chance.randint(1, 4000)),
        bytes(mutated),
        framed(knock) + chance.randbytes(chance.randint(1, 4000)),
        framed(chance.randbytes(chance.randint(1, 2048))),
        framed(knock)[: chance.randrange(1, 60)],
    ]


def test_any_bytes_before_a_link_harm_nobody(run) -> None:
    async def main() -> None:
        chance = random.Random(3)
        async with attacked(handshake_timeout_s=0.2) as (ann, bob):
            before = peak_bytes()
            for _ in range(50):
                for stream in streams(chance, (await raw(ann, 7)).side.opening):
                    caller = await call(ann.port)
                    caller.writer.write(stream)
                    caller.writer.write_eof()
                    await caller.hung_up()
                    caller.close()
                await served(ann, bob)
            assert peak_bytes() - before < MEMORY_GROWTH_BYTES_MAX
            assert ann.of("misbehaved") == []

    run(main())


def test_any_bytes_after_a_link_are_frames_or_its_end(run) -> None:
    async def main() -> None:
        chance = random.Random(4)
        async with attacked() as (ann, bob):
            for number in range(10, 60):
                eve = await raw(ann, number)
                await eve.enter()
                eve.caller.writer.write(eve.sealed(b"first") + chance.randbytes(chance.randint(4, 4000)))
                eve.caller.writer.write_eof()
                await eve.caller.hung_up()
                eve.caller.close()
                await until(lambda n=number: len(ann.of("parted")) == n - 9)
            assert len(ann.of("misbehaved")) > 25, "most announce a frame that is much too large"
            ann.received = [(link, frame) for link, frame in ann.received if frame == b"there?"]
            await served(ann, bob)

    run(main())


def test_any_bytes_of_the_called_side_end_a_dial_with_a_reason(run) -> None:
    chance = random.Random(5)

    async def main() -> None:
        async with attacked(handshake_timeout_s=0.3) as (ann, bob):
            number = 0
            answers: list[Callable[[], bytes]] = [
                lambda: framed(chance.randbytes(chance.randint(1, 2048))),
                lambda: chance.randbytes(100),
                lambda: framed(
                    msgspec.msgpack.encode(Challenge(chance.randbytes(32), chance.randbytes(32), chance.randbytes(32))),
                    b"x",
                ),
                lambda: framed(msgspec.msgpack.encode(Challenge(EVE.key, bytes(32), SHARE))),
                lambda: framed(encode(Refused("full", "no"))),
                lambda: b"",
            ]

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read(4096)
                writer.write(answers[number % len(answers)]())
                writer.write(chance.randbytes(chance.randrange(300)))
                await reader.read(4096)
                writer.transport.abort()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            address = "127.0.0.1:{1}".format(*server.sockets[0].getsockname())
            for _ in range(30):
                assert await ann.unmet(address)
                number += 1
            assert len(ann.of("met")) == 1
            await served(ann, bob)
            server.close()

    run(main())


def test_a_raw_caller_that_does_right_gets_in() -> None:
    """What the attacks above differ from."""

    async def main() -> None:
        async with people(1) as [ann]:
            right = await raw(ann, 7)
            await right.enter()
            await right.caller.write(right.sealed(b"hi"))
            await until(lambda: ann.received == [(1, b"hi")])
            right.caller.close()
            wrong = await raw(ann, 8, network="net/2")
            with pytest.raises(Mismatch, match="this is network 'net/1', you are of 'net/2'"):
                await wrong.enter()
            wrong.caller.close()

    asyncio.run(main())
