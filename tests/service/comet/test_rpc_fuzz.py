"""Bytes of every kind at the RPC's port: HTTP that is none, WebSocket frames that break rules or flood.

Each connection gets a documented answer or is hung up on, nothing is logged as an error, and others are served.
"""

import asyncio
import json
import logging
from collections.abc import Sequence

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from quorate.service.comet.rpc_limits import RPCLimits

from tests.ledger.comet.rpc.recorded_view import RecordedView
from tests.service.comet.rpc_ports import QUICK, call, posted, raw, run, served

FAST, SLOW = 6, 80
FEW, MANY = 4, 25
"""Connections of an example."""
HASTY = RPCLimits(request_timeout_s=0.4)
OPEN_S, ENDED_S = 0.5, 20.0
AS_FOUND = (Phase.explicit, Phase.reuse, Phase.generate)
"""What fails is shown as it was found: to make it smaller takes longer than a test may."""

HEAD = (
    b"GET /websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
CONTINUES, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9
TOO_LARGE = 1009
HEALTH = call("health").encode()


def frame(kind: int, data: bytes = b"", *, is_last: bool = True) -> bytes:
    """As a client sends it, under a mask that changes nothing."""
    size = len(data)
    if size < 126:
        length = bytes([128 | size])
    else:
        length = b"\xfe" + size.to_bytes(2, "big") if size < 1 << 16 else b"\xff" + size.to_bytes(8, "big")
    return bytes([kind | 128 * is_last]) + length + bytes(4) + data


def frames_in(data: bytes) -> list[tuple[int, bytes]]:
    """What the server sent: kind and content."""
    found = []
    while data:
        size, at = data[1], 2
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(data[2:at], "big")
        found.append((data[0] & 15, data[at : at + size]))
        data = data[at + size :]
    return found


async def said(port: int, data: bytes) -> list[tuple[int, bytes]]:
    """What the server says on a WebSocket until it hangs up; nothing, if it does so while more comes."""
    answer = await raw(port, HEAD + data)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head[:12] in (b"HTTP/1.1 101", b"")
    return frames_in(rest)


async def answers(port: int, data: bytes, count: int) -> list[tuple[int, bytes]]:
    """So many frames that the server says to this."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(HEAD + data)
        await reader.readuntil(b"\r\n\r\n")
        got = b""
        while len(frames_in(got)) < count:
            got += await reader.read(1 << 16)
        return frames_in(got)
    finally:
        writer.close()


def closes(found: Sequence[tuple[int, bytes]], code: int) -> bool:
    """Whether it ends with this code."""
    return bool(found) and found[-1][0] == CLOSE and int.from_bytes(found[-1][1][:2], "big") == code


def test_a_message_in_pieces_is_one_message() -> None:
    async def test() -> None:
        async with served(RecordedView(1)) as port:
            pieces = frame(TEXT, HEALTH[:9], is_last=False) + frame(PING, b"x") + frame(CONTINUES, HEALTH[9:])
            found = await answers(port, pieces, 2)
            assert (10, b"x") in found
            assert json.loads(next(data for kind, data in found if kind == TEXT))["result"] == {}

    run(test)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xff\xfe"), 1007),
        (frame(TEXT, b'{"id":"', is_last=False) + frame(CONTINUES, b'\xe2\x28"}'), 1007),
        (frame(TEXT, bytes(600_000), is_last=False) + frame(CONTINUES, bytes(600_000), is_last=False), TOO_LARGE),
        (frame(BINARY, bytes(1_000_001)), TOO_LARGE),
        (frame(CONTINUES, b"x"), 1002),
        (frame(TEXT, b"{", is_last=False) + frame(TEXT, b"}"), 1002),
        (frame(PING, b"x", is_last=False), 1002),
        (frame(PING, bytes(126)), 1002),
        (frame(3, b"x"), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, (999).to_bytes(2, "big")), 1002),
    ],
    ids=lambda value: value if isinstance(value, int) else value[:4].hex(),
)
def test_frames_that_break_a_rule_end_their_connection(data: bytes, code: int) -> None:
    async def test() -> None:
        async with served(RecordedView(1), QUICK) as port:
            found = await said(port, data)
            assert closes(found, code) or (code == TOO_LARGE and not found), found
            assert b'"result":{}' in await raw(port, posted(HEALTH))

    run(test)


def test_a_flood_of_pings_that_nobody_reads_the_answers_of_holds_up_nobody() -> None:
    async def test() -> None:
        async with served(RecordedView(1), QUICK) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HEAD + frame(PING, bytes(125)) * 100_000)
            for _ in range(20):
                assert b'"result":{}' in await raw(port, posted(HEALTH))
            writer.transport.abort()

    run(test)


def test_messages_that_are_no_requests_are_answered_each() -> None:
    async def test() -> None:
        bad = [b"", b"{", b"[]", b"7", b'"x"', b'{"id":[]}', b'{"id":1e400,"method":"health"}', b"[" * 100_000]
        async with served(RecordedView(1), QUICK) as port:
            found = await answers(port, b"".join(frame(TEXT, each) for each in bad), len(bad))
            assert {json.loads(data)["error"]["code"] for _, data in found} == {-32700}

    run(test)


def test_what_is_no_http_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with served(RecordedView(1), QUICK) as port:
            for data in (
                b"GET /health HTTP/1.1\r\nnothing\r\n\r\n",
                posted(HEALTH) + b"more",
                b"GET /health HTTP/1.1\r\n\r\n",
            ):
                assert (await raw(port, data)).startswith(b"HTTP/1.")

    with caplog.at_level(logging.INFO):
        run(test)
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]


# --- at random ---

RIGHT_HTTP = (
    posted(HEALTH),
    posted(call("block", height="1").encode()),
    b"GET /block?height=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}   \r\n0\r\n\r\n",
    HEAD,
)
RIGHT_FRAMES = (
    frame(TEXT, HEALTH),
    frame(BINARY, call("status").encode()),
    frame(TEXT, call("subscribe", query="tm.event='Tx'").encode()),
    frame(TEXT, HEALTH[:5], is_last=False) + frame(CONTINUES, HEALTH[5:]),
    frame(PING, b"x"),
    frame(CLOSE, b"\x03\xe8bye"),
)


def _spoilt(data: bytes, wrongs: Sequence[tuple[int, int, int]]) -> bytes:
    for wrong, where, what in wrongs:
        at = where % (len(data) + 1)
        if wrong == 0:
            data = data[:at] + bytes([what % 256]) + data[at + 1 :]
        elif wrong == 1:
            data = data[:at] + bytes([what % 256]) * (1 + what % 50) + data[at:]
        elif wrong == 2:
            data = data[:at]
        else:
            data = data[at:] + data[:at]
    return data


def spoilt(right: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Some of these in a row, with a few things wrong."""
    wrongs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4096), st.integers(0, 4096)), max_size=4)
    rows = st.lists(st.sampled_from(right), min_size=1, max_size=3).map(b"".join)
    return st.builds(_spoilt, rows, wrongs) | st.binary(max_size=80)


async def answer_to(port: int, data: bytes) -> bytes:
    """What comes back. A WebSocket whose frames are whole, or have begun, stays open; all else is ended in time."""
    try:
        return await raw(port, data + b"\r\n\r\n", wait_s=OPEN_S if data.startswith(HEAD) else ENDED_S)
    except TimeoutError:
        assert data.startswith(HEAD)
        return b""


def check_port(streams: Sequence[bytes], limits: RPCLimits) -> None:
    """Bring these at once. All are answered or hung up on in time."""

    async def test() -> None:
        async with served(RecordedView(1), limits) as port:
            for answer in await asyncio.gather(*[answer_to(port, data) for data in streams]):
                assert answer[:5] in (b"", b"HTTP/"), answer[:50]
                assert b"Traceback" not in answer
                if b" 500 " in answer[:16]:
                    assert b'"code":-32' in answer
            assert b'"result":{}' in await raw(port, posted(HEALTH))

    errors: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: errors.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        run(test)
    finally:
        logging.getLogger().removeHandler(handler)
    assert not errors


STREAM = spoilt(RIGHT_HTTP) | spoilt(RIGHT_FRAMES).map(HEAD.__add__)


@settings(max_examples=FAST, deadline=None, phases=AS_FOUND)
@given(st.lists(STREAM, min_size=1, max_size=FEW))
def test_streams(streams: list[bytes]) -> None:
    check_port(streams, QUICK)


@pytest.mark.slow
@settings(max_examples=SLOW, deadline=None, phases=AS_FOUND)
@given(st.lists(STREAM, min_size=MANY, max_size=MANY))
def test_many_streams(streams: list[bytes]) -> None:
    check_port(streams, HASTY)
