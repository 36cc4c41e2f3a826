"""Strangers meet, exchange, part, and are refused; who dials whom at the same time. Real sockets, both loops."""

import asyncio
import random
import socket
from itertools import combinations

import msgspec
import pytest

from quorate.runtime.framing import FrameTooLarge
from quorate.runtime.handshake import Refused
from quorate.runtime.names import Names
from quorate.runtime.open_handshake import CalledSide
from quorate.runtime.proving import Mismatch
from quorate.runtime.sealing import Ephemeral
from quorate.runtime.strangers import LINKED, TOO_SLOW

from tests.wire.harness import RawCaller, call, framed, needs_ipv6, until
from tests.wire.open_network import RawStranger, Somebody, people, raw


def test_two_strangers_meet_exchange_and_part(run) -> None:
    async def main() -> None:
        async with people(1, 2) as (ann, bob):
            link = await ann.meets(bob)
            assert ann.events == [("met", 1, bob.key, bob.address, True)]
            assert bob.events == [("met", 1, ann.key, ann.address, False)]
            assert ann.do("send", 1, b"hi")
            bob.do("send_many", (1,), b"ho")
            await until(lambda: ann.received and bob.received)
            assert (ann.received, bob.received) == ([(1, b"ho")], [(1, b"hi")])
            counters = ann.strangers.counters[1]
            assert (counters.sent_frames, counters.sent_bytes, counters.received_bytes) == (1, 2, 2)
            assert ann.strangers.connected() == (1,)
            assert ann.strangers.key(1) == bob.key
            ann.do("send", link, b"last words")
            ann.do("part", link, "enough")
            assert not ann.do("send", link, b"too late")
            await until(lambda: ann.of("parted") and bob.of("parted"))
            assert bob.received[-1] == (1, b"last words")
            assert (ann.of("parted"), bob.of("parted")) == ([(1, "enough")], [(1, "closed by the other side")])
            assert not ann.do("send", 1, b"gone")
            assert ann.strangers.strays.dropped_bytes == 4

    run(main())


def test_a_number_rests_until_it_is_released(run) -> None:
    async def main() -> None:
        async with people(1, 2, 3, 4) as (ann, bob, cat, dan):
            assert [await ann.meets(bob), await ann.meets(cat)] == [1, 2]
            ann.do("part", 1, "")
            await until(lambda: ann.of("parted"))
            assert ann.strangers.key(1) == bob.key
            assert await ann.meets(dan) == 3
            with pytest.raises(AssertionError):
                ann.strangers.release(2)
            ann.do("release", 1)
            assert ann.strangers.key(1) is None
            await until(lambda: bob.of("parted"))
            assert await ann.meets(bob) == 1
            assert ann.strangers.counters[1].sent_frames == 0

    run(main())


def test_five_strangers_exchange_and_the_one_that_sends_garbage_is_banned(run) -> None:
    async def main() -> None:
        now = 100.0
        async with people(1, 2, 3, 4, 5, now=lambda: now) as everybody:
            ann, bob, cat, dan, eve = everybody
            for one, other in combinations(everybody, 2):
                await one.meets(other)
            for one in everybody:
                for key, link in one.links.items():
                    assert one.do("send", link, one.key + key)
            await until(lambda: all(len(one.received) == 4 for one in everybody))
            for one in everybody:
                names = {link: key for key, link in one.links.items()}
                assert sorted(one.received) == sorted((link, names[link] + one.key) for link in names)

            def judges(link: int, frames: list[bytes]) -> None:
                if b"garbage" in frames:
                    ann.strangers.cut(link, "sent garbage")
                    ann.strangers.part(link, "sent garbage", 60.0)

            ann.strangers.on_frames = judges
            link = ann.links[eve.key]
            eve.do("send", eve.links[ann.key], b"garbage")
            await until(lambda: ann.of("parted") and eve.of("parted"))
            assert [event for event in ann.events if event[0] != "met"] == [
                ("misbehaved", link, "sent garbage"),
                ("parted", link, "sent garbage"),
            ]
            text = "refused us: 'you are banned for another 60 s: sent garbage'"
            assert await eve.unmet(ann.address) == text
            assert "banned for another 60 s" in await ann.unmet(eve.address, eve.key)

            again = Somebody(5)  # the same key elsewhere
            await again.strangers.start()
            assert again.port != eve.port
            assert await again.unmet(ann.address) == text
            assert await ann.unmet(again.address) == "you are banned for another 60 s: sent garbage"
            for one, other in combinations((ann, bob, cat, dan), 2):
                assert other.key in one.links, "the others feel nothing"

            now += 61.0
            await again.meets(ann)
            await again.strangers.stop()

    run(main())


def test_a_link_that_has_ended_can_still_be_banned(run) -> None:
    async def main() -> None:
        async with people(1, 2) as (ann, bob):
            await ann.meets(bob)
            bob.do("part", 1, "hit and run")
            await until(lambda: ann.of("parted"))
            ann.do("part", 1, "took the money", 60.0)
            ann.do("part", 9, "nobody", 60.0)
            assert "took the money" in await bob.unmet(ann.address)
            dials = ann.strangers.totals.dials
            assert "took the money" in await ann.unmet(bob.address)
            assert ann.strangers.totals.dials == dials, "it was dialled there, so that address is not dialled again"
            ann.do("release", 1)
            ann.do("part", 1, "too late", 90.0)
            assert "took the money" in await bob.unmet(ann.address)

    run(main())


def test_where_hosts_are_banned_others_from_there_are_too(run) -> None:
    async def main() -> None:
        async with people(1, 2, 3, ban_hosts=True) as (ann, bob, cat):
            await ann.meets(bob)
            ann.do("part", 1, "garbage", 60.0)
            await until(lambda: ann.of("parted"))
            assert "refused us" not in await cat.unmet(ann.address), "hung up on without a word"
            assert ann.strangers.totals.refusals == 1
            assert "banned for another 60 s: garbage" in await ann.unmet(cat.address)
            assert ann.strangers.totals.dials == 1, "not even dialled"
            assert "banned for another 60 s: garbage" in await ann.unmet(f"localhost:{cat.port}")
            caller = await call(ann.port)
            assert await caller.hung_up() == b""
            caller.close()

    run(main())


def test_every_dial_in_vain_says_why(run) -> None:
    async def main() -> None:
        async with people(1, 2, 3, handshake_timeout_s=0.3) as (ann, bob, cat):
            with socket.socket() as free, socket.socket() as silent:
                free.bind(("127.0.0.1", 0))
                assert "111" in await ann.unmet("127.0.0.1:{1}".format(*free.getsockname()))
                silent.bind(("127.0.0.1", 0))
                silent.listen()
                why = await ann.unmet("127.0.0.1:{1}".format(*silent.getsockname()))
                assert why == "did not finish the handshake within 0.3 s"
            assert "is not an address: the port is missing" in await ann.unmet("bob")
            assert "'no.such.host.invalid' could not be looked up" in await ann.unmet("no.such.host.invalid:1")
            assert await ann.unmet(bob.address, b"k") == "a public key has 32 bytes, not 1"
            assert await ann.unmet(bob.address, cat.key) == f"it has another key, {bob.key.hex()}"
            assert await ann.unmet(bob.address, ann.key) == "it is this node itself"
            assert await ann.unmet(ann.address) == "refused us: 'this is you yourself: your key is mine'"
            ann.do("meet", bob.address)
            assert await ann.unmet(bob.address) == "it is being dialled already"
            await until(lambda: ann.links and bob.links)
            assert await ann.unmet(bob.address) == LINKED
            assert await ann.unmet("127.0.0.1:1", bob.key) == LINKED
            assert await bob.unmet(ann.address) == LINKED
            assert list(ann.links) == [bob.key]

    run(main())


def test_who_is_banned_or_too_many_is_refused_before_anything_is_signed(run) -> None:
    async def main() -> None:
        async with people(1, 2, inbound_max=1) as (ann, bob):
            banned = await raw(ann, 7)
            await banned.enter()
            ann.do("part", 1, "garbage", 60.0)
            await until(lambda: ann.of("parted"))
            await bob.meets(ann)
            for number, code in ((7, "banned"), (8, "full")):
                caller = await raw(ann, number)
                await caller.caller.write(framed(caller.side.opening))
                assert msgspec.msgpack.decode(await caller.caller.frame(), type=Refused).code == code
                assert await caller.caller.hung_up() == b""
                caller.caller.close()
            banned.caller.close()

    run(main())


def test_a_link_may_be_cut_for_what_it_sent(run) -> None:
    async def main() -> None:
        async with people(1, 2) as (ann, bob):
            await bob.meets(ann)
            ann.do("cut", 1, "no message of any type")
            ann.do("cut", 1, "twice is once")
            await until(lambda: ann.of("parted"))
            assert ann.events[1:] == [
                ("misbehaved", 1, "no message of any type"),
                ("parted", 1, "no message of any type"),
            ]

    run(main())


def test_a_full_node_says_so_and_keeps_its_links(run) -> None:
    async def main() -> None:
        async with people(1, 2, 3, 4, inbound_max=2, outbound_max=1) as (ann, bob, cat, dan):
            await bob.meets(ann)
            await cat.meets(ann)
            why = await dan.unmet(ann.address)
            assert why == "refused us: 'this node has 2 callers already: try another node, or later'"
            assert await bob.unmet(dan.address) == "this node has 1 outbound links already"
            assert sorted(ann.links) == sorted([bob.key, cat.key])
            await ann.meets(dan)  # outbound has its own limit
            for other in (bob, cat, dan):
                assert ann.do("send", ann.links[other.key], b"still here")
            await until(lambda: all(other.received for other in (bob, cat, dan)))
            ann.do("part", ann.links[bob.key], "")
            ann.do("part", ann.links[dan.key], "")
            await until(lambda: dan.of("parted") and len(ann.of("parted")) == 2)
            await dan.meets(ann)

    run(main())


def test_a_node_that_takes_no_calls_can_dial(run) -> None:
    async def main() -> None:
        async with people(1) as [ann]:
            bob = Somebody(2, listen_at=None)
            await bob.strangers.start()
            await bob.meets(ann)
            assert ann.events == [("met", 1, bob.key, "", False)]
            await bob.strangers.stop()
            cat = Somebody(3, listen_at=None, told_port=9999)
            await cat.strangers.start()
            await cat.meets(ann)
            assert ann.events[-1][3] == "127.0.0.1:9999"
            await cat.strangers.stop()

    run(main())


@needs_ipv6
def test_strangers_meet_over_ipv6_and_under_names(run) -> None:
    async def main() -> None:
        names = Names(lambda host, port: ["127.0.0.2", "::1"])
        async with people(1, 2, listen_at=("::1", 0), names=names) as (ann, bob):
            ann.do("meet", f"[::1]:{bob.port}")
            await until(lambda: ann.links and bob.links)
            assert ann.events[0][3] == f"[::1]:{bob.port}"
            assert bob.events[0][3] == f"[::1]:{ann.port}"
            ann.do("part", 1, "")
            await until(lambda: ann.of("parted") and bob.of("parted"))
            bob.do("meet", f"node.example:{ann.port}")
            await until(lambda: ann.links and bob.links)
            assert bob.events[-1][3] == f"node.example:{ann.port}"
        async with people(1, 2, listen_at=("::", 0)) as (ann, bob):
            await ann.meets(bob)
            assert bob.events[0][3] == ann.address, "an IPv4 address is one, though it came through IPv6"

    run(main())


# --- two links with one key ---


@pytest.mark.parametrize("seed", range(5))
def test_who_dial_each_other_at_the_same_time_keep_one_link(run, seed: int) -> None:
    chance = random.Random(seed)

    async def main() -> None:
        for _ in range(8):
            numbers = chance.sample(range(1, 1000), 2)
            async with people(*numbers) as (ann, bob):
                ann.do("meet", bob.address)
                for _ in range(chance.randrange(12)):
                    await asyncio.sleep(0)
                bob.do("meet", ann.address)
                both = (ann.strangers, bob.strangers)
                await until(lambda b=both: not any(s._dials or len(s._connections) != 1 for s in b))
                assert (list(ann.links), list(bob.links)) == ([bob.key], [ann.key])
                outbound = [connection.is_outbound for s in both for connection in s._connections]
                assert sorted(outbound) == [False, True], "the same connection on both sides"
                before = [list(one.events) for one in (ann, bob)]
                for one in (ann, bob):
                    dialled = [met for met in one.of("met") if met[3]]
                    assert len(dialled) + len(one.of("unmet")) == 1
                    assert len(one.of("parted")) <= 1
                assert ann.do("send", ann.links[bob.key], b"to bob")
                assert bob.do("send", bob.links[ann.key], b"to ann")
                await until(lambda a=ann, b=bob: a.received and b.received)
                assert [one.events for one in (ann, bob)] == before, "and there it ends"

    run(main())


def test_of_two_links_at_once_the_one_dialled_by_the_lower_key_stays(run) -> None:
    """Both handshakes get past the point at which either side could have seen the other link."""

    kept: set[bool] = set()

    async def main() -> None:
        for number in range(3, 12):
            async with people(1) as [ann]:
                other = await raw(ann, number)
                server, calls = await _answering(other)
                ann.do("meet", "127.0.0.1:{1}".format(*server.sockets[0].getsockname()))
                await until(lambda c=calls: c)  # Ann has sent her Proof and waits
                await other.enter()  # ... and is called by the same key meanwhile
                await until(lambda a=ann: a.of("met"))
                calls[0].set_result(None)
                is_dialled_kept = ann.key < other.me.key
                await until(lambda a=ann, kept=is_dialled_kept: a.of("parted") if kept else a.of("unmet"))
                assert list(ann.links) == [other.me.key]
                [connection] = ann.strangers._links.values()
                assert connection.is_outbound == is_dialled_kept
                kept.add(is_dialled_kept)
                server.close()
                other.caller.close()

    run(main())
    assert kept == {False, True}


async def _answering(other: RawStranger) -> tuple[asyncio.Server, list[asyncio.Future[None]]]:
    """A server that is called under the key of a RawStranger and admits when it is told to."""
    calls: list[asyncio.Future[None]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = RawCaller(reader, writer)
        side = CalledSide(other.me, Ephemeral())
        side.knocked(await caller.frame())
        await caller.write(framed(side.challenge()))
        side.proved(await caller.frame())
        calls.append(asyncio.get_running_loop().create_future())
        await calls[-1]
        await caller.write(framed(side.admission()))
        await caller.hung_up()
        caller.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0), calls


def test_of_two_links_in_one_direction_the_older_stays(run) -> None:
    async def main() -> None:
        async with people(1) as [ann]:
            older = await raw(ann, 7)
            await older.enter()
            newer = await raw(ann, 7)
            with pytest.raises(Mismatch, match=LINKED):
                await newer.enter()
            assert await newer.caller.hung_up() == b""
            ann.do("send", 1, b"hi")
            assert await older.receive() == b"hi"
            assert len(ann.events) == 1
            older.caller.close()
            await until(lambda: ann.of("parted"))
            newest = await raw(ann, 7)
            await newest.enter()
            assert ann.links == {newest.me.key: 2}
            newer.caller.close()
            newest.caller.close()

    run(main())


# --- limits ---


def test_a_link_that_takes_too_little_is_parted_from_and_others_do_not_feel_it(run) -> None:
    async def main() -> None:
        async with people(1, 2) as (ann, bob):
            slow = await raw(ann, 7)
            await slow.enter()
            slow.caller.writer.transport.pause_reading()
            await ann.meets(bob)
            limits = ann.strangers.limits
            frame = b"x" * (1 << 20)
            sent = 0
            while ann.do("send", 1, frame):
                sent += 1
                assert ann.strangers.backlog_bytes(1) <= limits.backlog_bytes_max
                ann.do("send_many", (2,), b"%d" % sent)
                await asyncio.sleep(0)
            assert sent >= limits.backlog_bytes_max // len(frame)
            await until(lambda: ann.of("parted"))
            assert ann.of("parted") == [(1, TOO_SLOW)]
            assert ann.strangers.counters[1].dropped_frames == 1
            await until(lambda: len(bob.received) == sent)
            slow.caller.close()

    run(main())


def test_a_frame_has_a_limit_that_is_ours_to_keep(run) -> None:
    async def main() -> None:
        async with people(1, 2) as (ann, bob):
            await ann.meets(bob)
            largest = b"x" * ann.strangers.limits.frame_size_bytes_max
            assert ann.do("send", 1, largest)
            await until(lambda: bob.received)
            assert bob.received == [(1, largest)]
            with pytest.raises(FrameTooLarge):
                ann.strangers.send(1, largest + b"x")
            assert ann.strangers.connected() == (1,)

    run(main())


def test_a_stop_lets_out_what_was_sent_and_tells_nobody(run) -> None:
    async def main() -> None:
        async with people(1, 2) as (ann, bob):
            await ann.meets(bob)
            for _ in range(5):
                ann.do("send", 1, b"x" * (1 << 20))
            ann.do("send", 1, b"farewell")
            before = list(ann.events)
            await ann.strangers.stop()
            await until(lambda: bob.of("parted"))
            assert bob.received[-1] == (1, b"farewell")
            assert ann.events == before
            ann.do("meet", bob.address)
            await asyncio.sleep(0)
            assert ann.events == before

    run(main())


def test_a_stop_ends_dials_that_hang(run) -> None:
    async def main() -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            async with people(1) as [ann]:
                ann.do("meet", "127.0.0.1:{1}".format(*silent.getsockname()))
                await until(lambda: ann.strangers._connections)

    run(main())
