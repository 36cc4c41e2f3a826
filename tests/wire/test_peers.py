"""Peers: order, loss, back-pressure, restarts, hang-ups. Real sockets, both loops."""

import asyncio
import random

import msgspec
import pytest

from quorate.runtime.peers import Backoff

from tests.wire.harness import FAST, Cluster, call, cluster, framed, listening_socket, until

BIG = b"x" * (1 << 20)


def test_frames_arrive_in_order_from_every_node_to_every_node(run) -> None:
    async def main() -> None:
        async with cluster(3) as made:
            payloads = [b"%d" % number for number in range(2000)]
            for number, payload in enumerate(payloads):
                for node, peers in made.peers.items():
                    peers.send_many([other for other in made.peers if other != node], payload)
                if number % 100 == 0:
                    await asyncio.sleep(0)
            pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
            await until(lambda: all(len(made.frames(a, b)) == len(payloads) for a, b in pairs))
            assert all(made.frames(a, b) == payloads for a, b in pairs)
            assert len(made.received) < 6 * 500  # many frames a call
            counters = made.peers[0].counters[1]
            size = sum(map(len, payloads))
            assert (counters.sent_frames, counters.sent_bytes, counters.dropped_frames) == (2000, size, 0)
            assert (counters.received_frames, counters.received_bytes) == (2000, size)
            assert made.peers[0].connected() == (1, 2)

    run(main())


def test_nothing_is_kept_for_a_peer_that_is_away(run) -> None:
    async def main() -> None:
        async with cluster(3, running=2) as made:
            assert not made.peers[0].send(2, b"lost")
            made.peers[0].send_many([1, 2], b"both")
            await until(lambda: made.frames(1, 0))
            counters = made.peers[0].counters[2]
            assert (counters.dropped_frames, counters.dropped_bytes, counters.sent_frames) == (2, 8, 0)
            assert made.peers[0].backlog_bytes(2) == 0
            await made.start(2)
            await made.connected()
            assert made.peers[0].send(2, b"now")
            await until(lambda: made.frames(2, 0))
            assert made.frames(2, 0) == [b"now"]

    run(main())


def test_a_peer_that_restarts_is_found_again(run) -> None:
    async def main() -> None:
        async with cluster(2) as made:
            for round_number in range(1, 4):
                await made.peers.pop(1).stop()
                await until(lambda: made.peers[0].connected() == ())
                made.sockets[1] = listening_socket(made.addresses[1][1])
                await made.start(1)
                await made.connected()
                made.peers[0].send(1, b"%d" % round_number)
                made.peers[1].send(0, b"%d" % round_number)
                await until(lambda n=round_number: len(made.frames(1, 0)) == len(made.frames(0, 1)) == n)
            assert made.frames(1, 0) == made.frames(0, 1) == [b"1", b"2", b"3"]
            assert made.peers[0].counters[1].connects == made.peers[0].counters[1].accepts == 4

    run(main())


def test_the_newer_of_two_callers_with_one_id_counts(run) -> None:
    async def main() -> None:
        async with cluster(2, running=1) as made:
            older = await call(made.addresses[0][1])
            await older.greet()
            newer = await call(made.addresses[0][1])
            await newer.greet()
            assert await older.hung_up() == b""
            await newer.write(framed(b"hi"))
            await until(lambda: made.frames(0, 1) == [b"hi"])
            assert made.peers[0].counters[1].accepts == 2
            await until(lambda: len(made.peers[0].callers) == 1)
            made.peers[0].cut(1, "to see that the newer one is still known")
            assert await newer.hung_up() == b""
            older.close()
            newer.close()

    run(main())


def test_a_peer_that_is_cut_off_calls_again(run, caplog) -> None:
    async def main() -> None:
        async with cluster(2) as made:
            made.peers[0].cut(1, "sent a message of no type that I know")
            made.peers[0].cut(1, "twice is once")
            await until(lambda: made.peers[0].counters[1].accepts == 2)
            await made.connected()
            assert made.peers[1].send(0, b"again")
            await until(lambda: made.frames(0, 1) == [b"again"])
            assert made.peers[0].counters[1].connects == 1  # the other direction was left alone

    run(main())
    assert "cut node 1 off: sent a message of no type that I know" in caplog.messages


def test_cut_from_within_on_frames_hands_over_no_more(run) -> None:
    async def main() -> None:
        made = Cluster(2)
        seen: list[list[bytes]] = []

        def on_frames(sender: int, frames: list[bytes]) -> None:
            seen.append(frames)
            made.peers[0].cut(sender, "malformed")

        made.make(0, on_frames=on_frames)
        await made.start(0)
        caller = await call(made.addresses[0][1])
        await caller.greet()
        await caller.write(framed(b"bad") + framed(b"rest")[:-1])
        await caller.hung_up()
        assert seen == [[b"bad"]]
        assert made.peers[0].incoming == {}
        await made.peers[0].stop()
        caller.close()
        made.sockets[1].close()

    run(main())


def test_a_slow_peer_is_dropped_for_and_others_do_not_feel_it(run) -> None:
    async def main() -> None:
        limits = msgspec.structs.replace(FAST, backlog_bytes_max=8 << 20)
        async with cluster(3, limits=limits) as made:
            slow = made.peers[1].incoming[0]
            slow.pause()
            while made.peers[0].send(1, BIG):
                await asyncio.sleep(0)
                assert made.peers[0].backlog_bytes(1) <= limits.backlog_bytes_max
            assert made.peers[0].counters[1].dropped_frames == 1
            sent = made.peers[0].counters[1].sent_frames
            made.peers[0].send_many([1, 2], b"after")
            await until(lambda: made.frames(2, 0) == [b"after"])
            slow.resume()
            await until(lambda: len(made.frames(1, 0)) >= sent)
            assert made.peers[0].send(1, b"end")
            await until(lambda: made.frames(1, 0)[-1] == b"end")
            dropped = made.peers[0].counters[1].dropped_frames
            assert len(made.frames(1, 0)) == made.peers[0].counters[1].sent_frames
            assert dropped in (1, 2)  # "after" fits if the socket took a little more meanwhile

    run(main())


def test_who_is_called_does_not_speak(run) -> None:
    async def main() -> None:
        async with cluster(2) as made:
            made.peers[1].incoming[0].send(b"psst")
            await until(lambda: made.peers[0].counters[1].dials == 2)
            await made.connected()
            assert made.received == []

    run(main())


def test_a_stop_lets_out_what_was_sent_before_it(run) -> None:
    async def main() -> None:
        async with cluster(2) as made:
            for _ in range(5):
                made.peers[0].send(1, BIG)
            made.peers[0].send(1, b"farewell")
            await made.peers[0].stop()
            await until(lambda: len(made.frames(1, 0)) == 6)
            assert made.frames(1, 0)[-1] == b"farewell"
            assert not made.peers[0].send(1, b"late")

    run(main())


def test_callers_without_a_hello_are_limited_and_take_no_place_from_members(run) -> None:
    async def main() -> None:
        async with cluster(3, running=2) as made:
            idle = [await call(made.addresses[0][1]) for _ in range(60)]
            await made.start(2)
            await made.connected()
            more = [await call(made.addresses[0][1]) for _ in range(60)]
            await until(lambda: sum(caller.reader.at_eof() for caller in more) >= 50)
            assert made.peers[0].connected() == (1, 2)
            for caller in [*idle, *more]:
                caller.close()

    run(main())


@pytest.mark.parametrize("address", [("127.0.0.1", 1), ("127.0.0.1", 70000), ("no..such", 1), ("x" * 300, 1)])
def test_an_address_where_nobody_is_keeps_the_link_dialling(run, address: tuple[str, int]) -> None:
    async def main() -> None:
        made = Cluster(2)
        made.make(0, addresses={0: made.addresses[0], 1: address})
        await made.start(0)
        await until(lambda: made.peers[0].counters[1].dials >= 3)
        await made.peers[0].stop()
        made.sockets[1].close()

    run(main())


def test_redials_back_off_to_the_limit_and_start_over_after_a_good_while() -> None:
    for seed in range(20):
        backoff = Backoff(0.05, 2.0, random.Random(seed))
        waits = [backoff.after(lasted_s) for lasted_s in [0.0] * 10 + [5.0, 0.0]]
        steps = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0, 0.05, 0.1]
        assert all(step / 2 <= wait <= step for wait, step in zip(waits, steps, strict=True))
