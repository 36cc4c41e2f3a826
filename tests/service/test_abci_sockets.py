"""ABCI over real sockets: our client and our server with each other, and each with one that is hostile."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from quorate.ledger.comet.abci.app_end import ServeLimits
from quorate.ledger.comet.abci.engine_end import AppFailed, AskLimits
from quorate.ledger.comet.abci.frames import FrameBuffer
from quorate.ledger.comet.abci.handshake import Heights, handshake
from quorate.ledger.comet.abci.request_messages import (
    REQUEST,
    Request,
    RequestCheckTx,
    RequestCommit,
    RequestEcho,
    RequestFinalizeBlock,
    RequestFlush,
    RequestInfo,
    RequestInitChain,
    RequestListSnapshots,
    RequestQuery,
)
from quorate.ledger.comet.abci.response_messages import (
    RESPONSE,
    ResponseCheckTx,
    ResponseCommit,
    ResponseEcho,
    ResponseException,
    ResponseFinalizeBlock,
    ResponseFlush,
    ResponseInfo,
    ResponseInitChain,
    ResponseListSnapshots,
    ResponseQuery,
)
from quorate.ledger.comet.wire_reader import delimited
from quorate.machines.abci.application import ABCIApp
from quorate.machines.abci.kvstore import KVStoreApp
from quorate.service.abci.app_calls import AppCalls, LocalApp, Room, shake_hands
from quorate.service.abci.app_client import AppClient

from tests.ports import free_ports
from tests.runtime.servers import until
from tests.service.abci_apps import KINDS, TCP, Line, client_of, endpoint_of, false_app, line_to, said, served


async def chain_of_two(app: AppCalls) -> None:
    await app.ask(RequestInitChain(), ResponseInitChain)
    for height in (1, 2):
        done = await app.ask(RequestFinalizeBlock((b"k%d=v" % height,), height=height), ResponseFinalizeBlock)
        assert done.app_hash == bytes([2 * height]) + bytes(7)
        await app.ask(RequestCommit(), ResponseCommit)
    assert (await app.ask(RequestQuery(b"k2"), ResponseQuery)).value == b"v"
    assert (await app.ask(RequestInfo(), ResponseInfo)).last_block_height == 2
    assert (await app.ask(RequestListSnapshots(), ResponseListSnapshots)).snapshots == ()


@pytest.mark.parametrize("kind", KINDS)
def test_an_app_behind_a_socket(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with served(KVStoreApp(), endpoint_of(kind, tmp_path)) as server, client_of(server.endpoint) as client:
            await chain_of_two(client)
            asked = [client.ask(RequestCheckTx(b"%d=1" % n), ResponseCheckTx) for n in range(300)]
            assert {answer.code for answer in await asyncio.gather(*asked)} == {0}
            assert len(server.connections) == len(Room)
            assert not client.failed.done()

    asyncio.run(main())


def test_the_same_app_without_a_socket() -> None:
    asyncio.run(chain_of_two(LocalApp(KVStoreApp())))


class OneBlock:
    """A store that is one block ahead of its state and of the app."""

    def __init__(self) -> None:
        self.saved: list[tuple[int, ResponseFinalizeBlock]] = []

    def heights(self, app: int) -> Heights:
        return Heights(app=app, store=1, state=0, base=1)

    def app_hash(self) -> bytes:
        return bytes(8)

    def finalize_request(self, height: int) -> RequestFinalizeBlock:
        return RequestFinalizeBlock((b"a=b",), height=height)

    def header_app_hash(self, height: int) -> bytes:
        return bytes(8)

    def saved_answer(self, height: int) -> ResponseFinalizeBlock | None:
        raise AssertionError

    async def save(self, height: int, answer: ResponseFinalizeBlock) -> None:
        self.saved.append((height, answer))


def test_a_handshake_over_a_socket() -> None:
    async def main() -> None:
        app, store = KVStoreApp(), OneBlock()
        async with served(app) as server, client_of(server.endpoint) as client:
            ready = await shake_hands(client, handshake(store, RequestInitChain(), RequestInfo()), store.save)
        assert ready.last is not None
        assert store.saved == [(1, ready.last)]
        assert (app.height, app.pairs) == (1, {b"a": b"b"})

    asyncio.run(main())


class Failing(ABCIApp):
    def commit(self, request: RequestCommit) -> ResponseCommit:
        raise OSError("disk full\udcff")


def test_an_app_that_raises_stops_the_engine_with_its_words() -> None:
    async def main() -> None:
        async with served(Failing()) as server:
            async with client_of(server.endpoint) as client:
                waiting = asyncio.create_task(client.ask(RequestCommit(), ResponseCommit))
                later = asyncio.create_task(client.ask(RequestCommit(), ResponseCommit))
                for call in (waiting, later):
                    with pytest.raises(AppFailed, match=r"consensus connection: .*Failing: OSError: disk full"):
                        await call
                assert "disk full" in str(await client.failed)
                with pytest.raises(AppFailed, match="disk full"):  # the other connections are no use either
                    await client.ask(RequestInfo(), ResponseInfo)
            async with client_of(server.endpoint) as client:  # the app is there for the next engine
                await client.ask(RequestInfo(), ResponseInfo)
        local = LocalApp(Failing())
        for _ in range(2):
            with pytest.raises(AppFailed, match="Failing in this process: OSError: disk full"):
                await local.ask(RequestCommit(), ResponseCommit)

    asyncio.run(main())


def test_what_was_asked_before_the_failure_is_answered() -> None:
    async def main() -> None:
        async with served(Failing()) as server, line_to(server) as line:
            asked = (RequestEcho("a"), RequestCommit(), RequestEcho("b"))
            line.writer.write(b"".join(delimited(REQUEST.encode(request)) for request in asked))
            echoed, failed = await until_gone(line)
            assert echoed == ResponseEcho("a")
            assert isinstance(failed, ResponseException)

    asyncio.run(asyncio.wait_for(main(), 10.0))


SHORT = AskLimits(answer_timeout_s=0.2, whole_timeout_s=0.1)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (lambda _: said(ResponseCommit()), "a ResponseCommit came as the answer to Info"),
        (lambda _: said(ResponseFlush()), "a ResponseFlush came as the answer to Info"),
        (lambda _: said(ResponseInfo(), ResponseInfo()), "a ResponseInfo came as the answer to Flush"),
        (lambda _: said(ResponseException("no")), "cannot go on: 'no'"),
        (lambda _: b"\xff\xff\xff\xff\x7f", "a message of"),
        (lambda _: b"HTTP/1.1 400 Bad Request\r\n" + bytes(60), "not an answer of ABCI"),
        (lambda _: None, "closed by the other side|broke"),
        (lambda _: b"", "no answer to Info for 0.2 s"),
        (lambda _: b"\x7f", "an answer began 0.1 s ago and has 1 bytes so far"),
    ],
)
def test_a_false_app_ends_in_words(reply: Callable[[Request], bytes | None], says: str) -> None:
    """It lies to Info alone, and says nothing else. Who waits on another connection hears of it too."""

    async def main() -> None:
        def false(request: Request) -> bytes | None:
            return reply(request) if isinstance(request, RequestInfo) else b""

        limits = SHORT if says.startswith(("no answer", "an answer began")) else None
        async with false_app(false) as endpoint, client_of(endpoint, limits) as client:
            info = asyncio.create_task(client.ask(RequestInfo(), ResponseInfo))
            other = asyncio.create_task(client.ask(RequestCommit(), ResponseCommit))
            failure = await client.failed
            assert re.search(f"^the app at {endpoint}, query connection: .*({says}).*What to do: ", str(failure))
            for call in (info, other):
                with contextlib.suppress(AppFailed):
                    assert isinstance(await call, ResponseInfo)  # which the first of two answers may be
            with pytest.raises(AppFailed):
                await client.ask(RequestInfo(), ResponseInfo)

    asyncio.run(asyncio.wait_for(main(), 10.0))


def test_an_app_that_goes_away_while_nothing_is_asked() -> None:
    async def main() -> None:
        def reply(request: Request) -> bytes | None:
            return said(ResponseInfo()) if isinstance(request, RequestInfo) else said(ResponseFlush())

        async with false_app(reply) as endpoint, client_of(endpoint) as client:
            await client.ask(RequestInfo(), ResponseInfo)
        assert "this node stops" in str(client.failed.result())
        async with served(KVStoreApp()) as server:
            client = AppClient(server.endpoint, awaited_s=0.1)
            await client.start()
            await client.ask(RequestInfo(), ResponseInfo)
        assert "closed by the other side" in str(await client.failed)

    asyncio.run(asyncio.wait_for(main(), 10.0))


def test_nobody_is_there() -> None:
    async def main() -> None:
        (port,) = free_ports(1)
        client = AppClient(TCP._replace(port=port), awaited_s=0.1)
        with pytest.raises(AppFailed, match=r"query connection: .*cannot be reached.*start the app, then the node"):
            await client.start()
        with pytest.raises(AppFailed, match="cannot be reached"):
            await client.ask(RequestInfo(), ResponseInfo)

    asyncio.run(main())


def test_a_call_that_is_cancelled_leaves_the_others_in_order() -> None:
    async def main() -> None:
        async with served(KVStoreApp()) as server, client_of(server.endpoint) as client:
            first = asyncio.create_task(client.ask(RequestEcho("1"), ResponseEcho))
            second = asyncio.create_task(client.ask(RequestEcho("2"), ResponseEcho))
            await asyncio.sleep(0)
            first.cancel()
            assert (await second).message == "2"
            assert not client.failed.done()

    asyncio.run(main())


async def until_gone(line: Line) -> list[object]:
    return [RESPONSE.decode(frame) for frame in FrameBuffer().feed(await line.rest())]


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"GET / HTTP/1.1\r\nHost: app\r\n" + bytes(60), "not a request of ABCI 0.38"),
        (b"\xff\xff\xff\xff\x7f", "a message of .* bytes or more, at most 1000"),
        (b"\x00", "Request: none of the kinds"),
        (delimited(b"\x9a\x01\x00"), None),
    ],
)
def test_what_is_no_request_is_told_so(sent: bytes, says: str | None) -> None:
    async def main() -> None:
        limits = ServeLimits(message_bytes_max=1000)
        async with served(KVStoreApp(), limits=limits) as server, line_to(server) as line:
            line.writer.write(sent)
            if says is None:  # it is one: an empty VerifyVoteExtension
                assert await line.reader.readexactly(6) == bytes.fromhex("05a201020801")
                return
            (exception,) = await until_gone(line)
            assert isinstance(exception, ResponseException)
            assert "not a request of ABCI 0.38" in exception.error
            async with client_of(server.endpoint) as client:
                await client.ask(RequestInfo(), ResponseInfo)

    asyncio.run(asyncio.wait_for(main(), 20.0))


def test_a_request_that_drips_is_hung_up_on() -> None:
    async def main() -> None:
        limits = ServeLimits(whole_timeout_s=0.2)
        async with served(KVStoreApp(), limits=limits) as server, line_to(server) as line, line_to(server) as idle:
            for byte in delimited(REQUEST.encode(RequestEcho("x" * 100)))[:8]:
                line.writer.write(bytes([byte]))
                await asyncio.sleep(0.01)
            assert await line.rest() == b""
            idle.writer.write(delimited(REQUEST.encode(RequestFlush())))  # who asks nothing for long is welcome
            assert await idle.reader.readexactly(3) == b"\x02\x1a\x00"

    asyncio.run(asyncio.wait_for(main(), 20.0))


class Big(ABCIApp):
    def query(self, request: RequestQuery) -> ResponseQuery:
        return ResponseQuery(value=bytes(1 << 20))


def test_an_engine_that_takes_no_answers_is_hung_up_on_and_holds_little() -> None:
    async def main() -> None:
        limits = ServeLimits(whole_timeout_s=1.0)
        async with served(Big(), limits=limits) as server, line_to(server) as line:
            line.writer.write(delimited(REQUEST.encode(RequestQuery())) * 1000)
            await until(lambda: any(not connection.is_writable for connection in server.connections))
            (connection,) = server.connections
            assert 0 < connection.unsent_bytes < 4 << 20
            await until(lambda: not server.connections)

    asyncio.run(asyncio.wait_for(main(), 20.0))


def test_callers_that_are_too_many_and_frames_that_are_too_much() -> None:
    async def main() -> None:
        limits = ServeLimits(connections_max=2, unfinished_bytes_max=150)
        async with served(KVStoreApp(), limits=limits) as server, line_to(server) as first, line_to(server) as second:
            async with line_to(server) as third:
                assert await third.rest() == b""
            half = delimited(REQUEST.encode(RequestEcho("x" * 200)))[:100]
            first.writer.write(half)
            await until(lambda: server.unfinished.size_bytes == len(half))
            second.writer.write(half)
            assert await first.rest() == b""  # the one that is at it longest
            second.writer.write(delimited(REQUEST.encode(RequestEcho("x" * 200)))[100:])
            assert (await second.reader.readexactly(20))[-5:] == b"xxxxx"

    asyncio.run(asyncio.wait_for(main(), 20.0))


def test_an_engine_with_a_thousand_requests_does_not_keep_the_others_waiting() -> None:
    """The app counts its calls: the second engine's request is answered long before the first one's last."""

    class Counting(ABCIApp):
        calls = 0

        def check_tx(self, request: RequestCheckTx) -> ResponseCheckTx:
            self.calls += 1
            return ResponseCheckTx()

        def query(self, request: RequestQuery) -> ResponseQuery:
            return ResponseQuery(index=self.calls)

    async def main() -> None:
        async with served(Counting()) as server, line_to(server) as busy, line_to(server) as other:
            await until(lambda: len(server.connections) == 2)
            busy.writer.write(delimited(REQUEST.encode(RequestCheckTx(b"t"))) * 5000)
            other.writer.write(delimited(REQUEST.encode(RequestQuery())))
            answer = await other.reader.read(100)
            (response,) = (RESPONSE.decode(frame) for frame in FrameBuffer().feed(answer))
            assert isinstance(response, ResponseQuery)
            assert response.index < 2000

    asyncio.run(asyncio.wait_for(main(), 20.0))
