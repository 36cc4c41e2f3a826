"""Links between nodes with keys, on loopback: who has proved nothing is nobody and displaces nobody."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from quorate.runtime.handshake import Refused, Welcome, encode
from quorate.runtime.keys import Ed25519Signer
from quorate.runtime.peers import Peers
from quorate.runtime.proving import Admitted, Challenge, Proof

from tests.wire.harness import FAST, Cluster, RawCaller, call, framed, hello, until
from tests.wire.keyed import NODES, SCHEME, keyed_cluster, keys_of, raw_peer

pack = msgspec.msgpack.encode


async def flows(made: Cluster, sender: int, receiver: int, payload: bytes) -> None:
    """A frame arrives."""
    assert made.peers[sender].send(receiver, payload)
    await until(lambda: payload in made.frames(receiver, sender))


async def refusal(caller: RawCaller) -> Refused:
    answer = msgspec.msgpack.decode(await caller.frame(), type=Refused)
    assert await caller.hung_up() == b""
    return answer


def test_nodes_with_keys_talk_and_what_they_say_is_not_on_the_wire(run) -> None:
    async def main() -> None:
        async with keyed_cluster() as made:
            for sender in NODES:
                for receiver in NODES:
                    if sender != receiver:
                        await flows(made, sender, receiver, b"from %d" % sender)
            large = random.Random(1).randbytes(FAST.frame_size_bytes_max)
            await flows(made, 0, 1, large)
            assert made.frames(1, 0) == [b"from 0", large]

    run(main())


def test_keys_of_another_node_or_cluster_make_no_peers() -> None:
    made = Cluster(4)
    for keys in (keys_of(1), keys_of(0).within("other")):
        with pytest.raises(ValueError, match="the keys are those of node"):
            made.make(0, keys=keys)
    for sock in made.sockets:
        sock.close()


# --- calls in the name of others ---


def test_calls_in_the_name_of_others_displace_nobody(run) -> None:
    """imposter.py: node 3 has its own key, says that it is node 1 or 2, and says nothing more, or as much as it can."""

    async def main() -> None:
        async with keyed_cluster(running=3) as made:
            links = {node: dict(made.peers[node].incoming) for node in range(3)}
            for victim in range(3):
                for claims in {0, 1, 2} - {victim}:
                    plain = await call(made.addresses[victim][1])
                    await plain.write(framed(encode(hello(node=claims, target=victim))))
                    assert (await refusal(plain)).code == "proof"
                    liar = await raw_peer(made, claims, victim, by=3)
                    answer = msgspec.msgpack.decode(await liar.prove(), type=Refused)
                    assert answer.code == "proof"
                    silent = await raw_peer(made, claims, victim, by=3)
                    await silent.caller.write(framed(silent.side.opening))
                    await silent.caller.frame()
            assert {node: made.peers[node].incoming for node in range(3)} == links
            for victim in range(3):
                for other in {0, 1, 2} - {victim}:
                    await flows(made, other, victim, b"still here")

    run(main())


def test_a_node_that_proves_its_key_again_takes_the_place_of_its_older_connection(run) -> None:
    """It has restarted, and its old connection is not known to be dead."""

    async def main() -> None:
        async with keyed_cluster(running=2) as made:
            first, second = [await raw_peer(made, 3, 0) for _ in range(2)]
            await first.enter()
            await first.say(b"first")
            await until(lambda: made.frames(0, 3) == [b"first"])
            await second.enter()
            await first.caller.hung_up()
            await second.say(b"second", b"third")
            await until(lambda: made.frames(0, 3) == [b"first", b"second", b"third"])
            second.caller.close()

    run(main())


def test_an_imposter_that_answers_dials_gets_no_frame(run) -> None:
    """It listens at node 1's address, with node 3's key, or with none."""

    async def main() -> None:
        heard: list[bytes] = []

        async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            caller = RawCaller(reader, writer)
            heard.append(await caller.frame())
            answer = Challenge(SCHEME.keyring().public(len(heard) % 4), bytes(32), SCHEME.keyring().public(1))
            await caller.write(framed(encode(Welcome(1, "raft", "c", 1)) if len(heard) % 2 else pack(answer)))
            heard.append(await caller.hung_up())
            caller.close()

        async with keyed_cluster(running=1) as made:
            server = await asyncio.start_server(listens, "127.0.0.1", 0)
            made.peers[0].meet(1, server.sockets[0].getsockname())
            await until(lambda: len(heard) >= 8)
            assert not made.peers[0].send(1, b"secret")
            assert made.peers[0].connected() == ()
            server.close()

    run(main())


@pytest.mark.parametrize("keyed", [0, 1])
def test_a_node_with_keys_and_one_without_have_no_link(run, keyed: int) -> None:
    async def main() -> None:
        made = Cluster(4)
        made.make(keyed, keys=keys_of(keyed))
        made.make(1 - keyed)
        await made.start(0, 1)
        await until(lambda: all(made.peers[node].counters[1 - node].dials > 3 for node in (0, 1)))
        assert made.peers[keyed].connected() == made.peers[1 - keyed].connected() == ()
        assert not made.peers[keyed].incoming
        for peers in made.peers.values():
            await peers.stop()
        for sock in made.sockets:
            sock.close()

    run(main())


# --- somebody in between ---

Carry = Callable[[RawCaller, RawCaller], Awaitable[None]]


async def frames_on(reader: RawCaller, writer: RawCaller, change: Callable[[int, bytes], list[bytes]]) -> None:
    """Carry frames one way; ``change`` says what becomes of each."""
    number = 0
    try:
        while True:
            await writer.write(framed(*change(number, await reader.frame())))
            number += 1
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@asynccontextmanager
async def between(made: Cluster, change: Callable[[int, bytes], list[bytes]]) -> AsyncIterator[list[bytes]]:
    """Node 0 reaches node 1 by way of somebody who carries every frame; what that one saw."""
    seen: list[bytes] = []
    both: set[asyncio.Task[None]] = set()

    def noted(number: int, frame: bytes) -> list[bytes]:
        seen.append(frame)
        return change(number, frame)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near, far = RawCaller(reader, writer), await call(made.addresses[1][1])
        for one, other, how in ((near, far, noted), (far, near, lambda _, frame: [frame])):
            task = asyncio.ensure_future(frames_on(one, other, how))
            both.add(task)
            task.add_done_callback(both.discard)

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    made.peers[0].meet(1, server.sockets[0].getsockname())
    await until(lambda: 1 in made.peers[0].connected() and len(seen) >= 2)
    yield seen
    server.close()
    for task in list(both):
        task.cancel()
    await asyncio.gather(*both, return_exceptions=True)


def test_somebody_who_relays_all_of_a_handshake_can_neither_read_nor_write(run) -> None:
    """A relayed handshake is not refused: it is the nodes' own. What is refused is every frame that is not."""

    async def main() -> None:
        async with keyed_cluster(running=2) as made:
            injects: list[bytes] = []

            def change(number: int, frame: bytes) -> list[bytes]:
                return [frame, *injects]

            async with between(made, change) as seen:
                await flows(made, 0, 1, b"the secret")
                assert not any(b"secret" in frame for frame in seen)
                injects += [b"injected", seen[-1]]
                assert made.peers[0].send(1, b"the last")
                await until(lambda: made.peers[1].counters[0].cuts)
                assert made.frames(1, 0) == [b"the secret", b"the last"]

    run(main())


@pytest.mark.parametrize("what", ["changed", "left out", "twice", "swapped"])
def test_frames_that_somebody_in_between_tampers_with_are_not_taken(run, what: str) -> None:
    async def main() -> None:
        held: list[bytes] = []

        def change(number: int, frame: bytes) -> list[bytes]:
            if number < 3:  # Hello, Proof and the first frame
                return [frame]
            if what == "changed":
                return [frame[:-1] + bytes([frame[-1] ^ 1])]
            if what == "twice":
                return [frame, frame]
            held.append(frame)
            if len(held) < 2:
                return []
            return held[:0:-1] if what == "left out" else held[::-1]

        async with keyed_cluster(running=2) as made, between(made, change):
            await flows(made, 0, 1, b"first")
            for payload in (b"second", b"third"):
                assert made.peers[0].send(1, payload)
            await until(lambda: made.peers[1].counters[0].cuts)
            assert made.frames(1, 0) in ([b"first"], [b"first", b"second"][: 1 + (what == "twice")])

    run(main())


# --- what callers can cost ---


def test_idle_sockets_do_not_keep_a_restarted_node_out(run) -> None:
    """72 of them, and more whenever one is cut; they say nothing for as long as they may."""

    async def main() -> None:
        limits = msgspec.structs.replace(FAST, handshake_timeout_s=60.0)
        async with keyed_cluster(running=2, limits=limits) as made:
            idle: list[RawCaller] = []
            for _ in range(72):
                idle.append(await call(made.addresses[0][1]))
            for _ in range(3):
                half = await raw_peer(made, 1, 0)
                await half.caller.write(framed(half.side.opening))
                idle.append(half.caller)
            await until(lambda: len(made.peers[0].callers) >= limits.callers_per_host_max)
            await made.peers[1].stop()
            made.sockets[1] = restarted_socket(made, 1)
            made.make(1, keys=keys_of(1))
            await made.start(1)
            await made.connected()
            await flows(made, 1, 0, b"back")
            await flows(made, 0, 1, b"welcome")
            assert made.peers[0].totals.evictions > 0
            assert len(made.peers[0].callers) <= limits.callers_per_host_max + len(NODES)
            for caller in idle:
                caller.close()

    run(main())


def restarted_socket(made: Cluster, node: int):
    from tests.wire.harness import listening_socket

    made.sockets[node].close()
    return listening_socket(made.addresses[node][1])


GARBAGE: list[Callable[[random.Random], bytes]] = [
    lambda chance: framed(chance.randbytes(chance.randint(1, 2048))),
    lambda chance: chance.randbytes(chance.randint(1, 200)),
    lambda chance: framed(pack(Proof(chance.randbytes(64)))),
    lambda chance: framed(pack(Challenge(*[chance.randbytes(32) for _ in range(3)]))),
    lambda chance: framed(pack(Admitted(chance.randbytes(64))), b"more"),
    lambda chance: framed(encode(hello(node=chance.randint(0, 4)))),
    lambda chance: framed(encode(Welcome(1, "raft", "c", 0))),
    lambda chance: framed(b"x" * 2049),
    lambda chance: (1 << 31).to_bytes(4, "little"),
    lambda chance: b"\0" * 4,
]


@pytest.mark.parametrize("step", ["first", "after hello", "after proof", "when dialled", "when dialled twice"])
def test_garbage_at_each_step_harms_nobody(run, step: str) -> None:
    async def main() -> None:
        chance = random.Random(step)
        async with keyed_cluster(running=2) as made:
            if step.startswith("when"):
                await dialled(made, chance, step == "when dialled twice")
            else:
                for garbage in GARBAGE * 3:
                    await calls(made, garbage(chance), step)
            for sender, receiver in ((0, 1), (1, 0)):
                await flows(made, sender, receiver, b"still here")
            assert made.frames(0, 2) == []

    async def calls(made: Cluster, garbage: bytes, step: str) -> None:
        eve = await raw_peer(made, 2, 0)
        if step == "after proof":
            await eve.enter()
        elif step == "after hello":
            await eve.caller.write(framed(eve.side.opening))
            await eve.caller.frame()
        eve.caller.writer.write(garbage)
        eve.caller.writer.write_eof()
        await eve.caller.hung_up()
        eve.caller.close()

    async def dialled(made: Cluster, chance: random.Random, is_late: bool) -> None:
        answers = [garbage(chance) for garbage in GARBAGE * 2]
        count = 0

        async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            caller = RawCaller(reader, writer)
            await caller.frame()
            if is_late:
                right = Challenge(SCHEME.keyring().public(2), chance.randbytes(32), SCHEME.keyring().public(3))
                await caller.write(framed(pack(right)))
                await caller.frame()
            writer.write(answers[count % len(answers)])
            writer.write_eof()
            await caller.hung_up()
            count += 1
            caller.close()

        server = await asyncio.start_server(listens, "127.0.0.1", 0)
        made.peers[0].meet(2, server.sockets[0].getsockname())
        await until(lambda: count >= len(answers))
        assert 2 not in made.peers[0].connected()
        server.close()

    run(main())


def test_who_sends_more_before_it_is_admitted_is_cut(run) -> None:
    async def main() -> None:
        async with keyed_cluster(running=1) as made:
            eager = await raw_peer(made, 1, 0)
            await eager.caller.write(framed(eager.side.opening, b"more"))
            await eager.caller.hung_up()
            eager = await raw_peer(made, 1, 0)
            await eager.caller.write(framed(eager.side.opening))
            proof = eager.side.challenged(await eager.caller.frame())
            await eager.caller.write(framed(proof, b"more"))
            await eager.caller.hung_up()
            assert made.received == []

    run(main())


# --- the roster changes ---


def test_a_newcomer_proves_the_key_that_the_roster_has_for_it(run) -> None:
    async def main() -> None:
        newcomer = Ed25519Signer(9, b"n" * 32).within("c")
        imposter = Ed25519Signer(9, b"i" * 32).within("c")
        async with keyed_cluster(running=1) as made:
            for key, is_right in ((newcomer, False), (imposter, False), (newcomer, True)):
                if is_right:
                    made.peers[0].meet(9, "127.0.0.1:1", newcomer.public)
                eve = await raw_peer(made, 9, 0, by=1)
                eve.side._me = key
                if is_right:
                    await eve.enter()
                    await eve.say(b"hi")
                    await until(lambda: made.frames(0, 9) == [b"hi"])
                else:
                    await eve.caller.write(framed(eve.side.opening))
                    assert (await refusal(eve.caller)).code == "node", "nobody has introduced it yet"
                eve.caller.close()
            eve = await raw_peer(made, 9, 0, by=1)
            eve.side._me = imposter
            assert msgspec.msgpack.decode(await eve.prove(), type=Refused).code == "proof"

    run(main())


def test_a_node_that_has_another_key_from_now_on_must_prove_that_one(run) -> None:
    async def main() -> None:
        other = Ed25519Signer(2, b"o" * 32).within("c")
        async with keyed_cluster(running=1) as made:
            peers: Peers = made.peers[0]
            old = await raw_peer(made, 2, 0)
            await old.enter()
            await until(lambda: 2 in peers.incoming)
            peers.meet(2, made.addresses[2])
            assert 2 in peers.incoming, "it is the same one"
            peers.meet(2, made.addresses[2], other.public)
            await old.caller.hung_up()
            again = await raw_peer(made, 2, 0)
            assert msgspec.msgpack.decode(await again.prove(), type=Refused).code == "proof"
            right = await raw_peer(made, 2, 0)
            right.side._me = other
            await right.enter()
            await until(lambda: 2 in peers.incoming)

    run(main())


def test_a_node_that_is_removed_during_its_handshake_is_not_admitted(run) -> None:
    async def main() -> None:
        async with keyed_cluster(running=1) as made:
            late = await raw_peer(made, 2, 0)
            await late.caller.write(framed(late.side.opening))
            proof = late.side.challenged(await late.caller.frame())
            made.peers[0].part(2, "enough")
            await late.caller.write(framed(proof))
            assert (await refusal(late.caller)).code == "key"
            assert made.peers[0].incoming == {}

    run(main())
