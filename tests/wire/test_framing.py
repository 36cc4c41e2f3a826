"""Framing: whole frames in order whatever TCP does, one call a read, one write a turn, and hard limits."""

import asyncio
import random
import socket

import pytest

from quorate.runtime.framing import JOINED_BYTES_MAX, FrameLimits, FrameTooLarge, close_all

from tests.wire.faulty import FaultyCollector
from tests.wire.harness import Collector, connection_and_socket, framed, until

SMALL = FrameLimits(frame_size_bytes_max=1000, backlog_bytes_max=10_000, backlog_frames_max=100)
WIDE = FrameLimits(frame_size_bytes_max=1 << 20, backlog_bytes_max=8 << 20, backlog_frames_max=1 << 16)
BIG = b"x" * (1 << 20)
KINDS = pytest.mark.parametrize("kind", [Collector, FaultyCollector])


async def read_frames(sock: socket.socket, count: int) -> list[bytes]:
    reader, writer = await asyncio.open_connection(sock=sock)
    frames = [await reader.readexactly(int.from_bytes(await reader.readexactly(4), "little")) for _ in range(count)]
    writer.transport.abort()
    return frames


def test_any_cut_of_the_stream_gives_the_same_frames(run) -> None:
    async def main() -> None:
        chance = random.Random(3)
        for _ in range(300):
            payloads = [chance.randbytes(chance.choice([1, 2, 3, 50, 1000])) for _ in range(chance.randint(1, 12))]
            stream = framed(*payloads)
            connection, far = await connection_and_socket(SMALL)
            at = 0
            while at < len(stream):
                size = chance.choice([1, 2, 3, 4, 5, 100, 5000])
                connection.data_received(stream[at : at + size])
                at += size
            assert connection.frames == payloads
            assert not connection._received
            connection.cut("enough")
            far.close()

    run(main())


def test_frames_of_one_read_come_in_one_call(run) -> None:
    async def main() -> None:
        connection, far = await connection_and_socket(SMALL)
        payloads = [b"%d" % number for number in range(100)]
        far.send(framed(*payloads))
        await until(lambda: connection.calls)
        assert connection.calls == [payloads]
        far.close()
        await connection.lost

    run(main())


def test_frames_of_one_turn_leave_in_one_write(run) -> None:
    async def main() -> None:
        connection, far = await connection_and_socket(SMALL)
        spy = connection._transport = Spy(connection._transport)
        payloads = [b"%d" % number for number in range(50)]
        for payload in payloads:
            assert connection.send(payload)
        assert await read_frames(far, 50) == payloads
        assert spy.writes == [framed(*payloads)]
        await connection.lost

    run(main())


def test_much_of_one_turn_leaves_in_some_writes_and_what_is_large_is_not_copied(run) -> None:
    async def main() -> None:
        connection, far = await connection_and_socket(WIDE)
        spy = connection._transport = Spy(connection._transport)
        half = bytes(JOINED_BYTES_MAX // 2)
        payloads = [b"a", half, half, b"b", BIG, b"c"]
        for payload in payloads:
            assert connection.send(payload)
        assert connection._waiting_bytes == len(framed(*payloads))
        assert await read_frames(far, len(payloads)) == payloads
        first, second, third, last = spy.writes
        assert len(first) == len(framed(b"a", half)) + 4
        assert second == half + framed(b"b") + len(BIG).to_bytes(4, "little")
        assert third is BIG
        assert last == framed(b"c")
        assert connection._waiting_bytes == 0
        await connection.lost

    run(main())


class Spy:
    """The real transport, with one verb watched; the loops' own transports take no new attributes."""

    def __init__(self, transport) -> None:
        self._transport = transport
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str):
        return getattr(self._transport, name)


@pytest.mark.parametrize(
    ("header", "size"), [(b"\0\0\0\0", 0), ((1001).to_bytes(4, "little"), 1001), (b"GET ", 542393671)]
)
def test_a_wrong_length_ends_the_connection_after_the_frames_before_it(run, header: bytes, size: int) -> None:
    async def main() -> None:
        connection, far = await connection_and_socket(SMALL)
        far.send(framed(b"good") + header)
        why = await connection.lost
        assert f"announced a frame of {size} bytes" in why
        assert "1 to 1000" in why
        assert connection.frames == [b"good"]
        far.close()

    run(main())


def test_a_payload_that_no_frame_takes_is_refused(run) -> None:
    async def main() -> None:
        connection, far = await connection_and_socket(SMALL)
        for payload in (b"", b"x" * 1001):
            with pytest.raises(FrameTooLarge, match="1 to 1000 bytes"):
                connection.send(payload)
        assert connection.send(b"x" * 1000)
        assert await read_frames(far, 1) == [b"x" * 1000]
        await connection.lost

    run(main())


def test_a_frame_that_drips_in_holds_no_more_than_itself(run) -> None:
    async def main() -> None:
        connection, far = await connection_and_socket(SMALL)
        held = []
        for byte in framed(b"x" * 1000) * 3:
            connection.data_received(bytes([byte]))
            held.append(len(connection._received))
        assert max(held) == 1003
        assert connection.frames == [b"x" * 1000] * 3
        connection.cut("enough")
        far.close()

    run(main())


@KINDS
def test_a_reader_that_does_not_read_meets_the_limit_and_loses_nothing_accepted(run, kind: type[Collector]) -> None:
    async def main() -> None:
        connection, far = await connection_and_socket(WIDE, kind)
        accepted = 0
        while connection.send(accepted.to_bytes(4, "big") + BIG[4:]):
            accepted += 1
            await asyncio.sleep(0)
            assert connection.backlog_bytes <= WIDE.backlog_bytes_max
        assert accepted >= 7
        assert connection.writable == [False]
        got = await read_frames(far, accepted)
        assert [int.from_bytes(frame[:4], "big") for frame in got] == list(range(accepted))
        await until(lambda: connection.is_writable)
        assert connection.writable[-1] is True
        await connection.lost

    run(main())


@KINDS
def test_frames_are_limited_by_number_too(run, kind: type[Collector]) -> None:
    async def main() -> None:
        limits = FrameLimits(frame_size_bytes_max=1 << 20, backlog_bytes_max=1 << 30, backlog_frames_max=10)
        connection, far = await connection_and_socket(limits, kind)
        while connection.is_writable:
            connection.send(BIG)
            await asyncio.sleep(0)
        accepted = 0
        while connection.send(b"small"):
            accepted += 1
        assert accepted == 10
        connection.cut("enough")
        far.close()

    run(main())


def test_close_lets_out_what_was_sent_and_cut_does_not_wait(run) -> None:
    async def main() -> None:
        connection, far = await connection_and_socket(WIDE)
        connection.send(b"last words")
        connection.close("done")
        assert not connection.send(b"too late")
        assert await read_frames(far, 1) == [b"last words"]
        assert await connection.lost == "done"

        stuck, other = await connection_and_socket(WIDE)
        for _ in range(7):
            stuck.send(BIG)
        await close_all([stuck], "stop", grace_s=0.01)  # its reader never reads
        assert stuck.lost.result() == "stop"
        other.close()

    run(main())


@KINDS
@pytest.mark.parametrize("verb", ["close", "abort"])
def test_what_is_sent_when_the_other_side_has_hung_up_already_raises_nothing(
    run, kind: type[Collector], verb: str
) -> None:
    """Both loops close a transport that reads the end, and tell the protocol a moment later."""

    async def main() -> None:
        connection, far = await connection_and_socket(WIDE, kind)
        assert connection.send(BIG)
        getattr(connection._transport, verb)()
        assert connection.send(b"more")
        connection.close("done")
        await connection.lost
        other, end = await connection_and_socket(WIDE, kind)
        assert other.send(b"x")
        getattr(other._transport, verb)()  # the flush comes between this and the loss
        assert other.is_open
        assert await other.lost == "closed by the other side"
        far.close()
        end.close()

    run(main())


def test_after_a_cut_nothing_is_handed_over_or_sent(run) -> None:
    async def main() -> None:
        connection, far = await connection_and_socket(SMALL)
        far.send(framed(b"a"))
        await until(lambda: connection.calls)
        far.send(framed(b"b"))
        connection.cut("enough")
        connection.cut("a second reason")
        connection.pause()
        connection.resume()
        assert not connection.send(b"c")
        assert await connection.lost == "enough"
        assert connection.frames == [b"a"]
        assert connection.backlog_bytes == 0
        far.close()

    run(main())


def test_pause_leaves_bytes_with_the_sender(run) -> None:
    async def main() -> None:
        connection, far = await connection_and_socket(WIDE)
        connection.pause()
        sent = 0
        try:
            while True:
                sent += far.send(framed(b"x" * 1020))
        except BlockingIOError:
            pass
        for _ in range(20):
            await asyncio.sleep(0)
        assert not connection.calls
        connection.resume()
        await until(lambda: len(connection.frames) == sent // 1024)
        connection.cut("enough")
        far.close()

    run(main())
