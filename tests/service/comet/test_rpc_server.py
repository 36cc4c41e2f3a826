"""The port of CometBFT's RPC: HTTP and WebSocket from real sockets, with its limits and hostile bytes."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from quorate.service.comet.index_keeper import IndexKeeper
from quorate.service.comet.indexer import ChainIndexer
from quorate.service.comet.rpc_limits import RPCLimits
from quorate.service.comet.rpc_port import RPCUnavailable, serve_rpc

from tests.ledger.comet.rpc import record_rpc
from tests.ledger.comet.rpc.recorded_view import RecordedView, lines
from tests.runtime.servers import until, until_async
from tests.service.comet.rpc_ports import QUICK, aiohttp, call, posted, raw, run, served, talking_to


def test_http_as_it_was_recorded() -> None:
    """Status, type and cache of a few answers; what they say is compared elsewhere."""

    async def test() -> None:
        async with served(RecordedView()) as port, aiohttp.ClientSession() as session:
            wanted = [asked for asked in lines("asked") if not asked["path"].startswith(("tx", "block_search"))]
            for asked in wanted[::7]:
                method = "GET" if asked["body"] is None else "POST"
                url = f"http://127.0.0.1:{port}/{asked['path']}"
                async with session.request(method, url, data=asked["body"]) as answer:
                    assert answer.status == asked["status"], asked
                    assert answer.headers.get("Content-Type", "").startswith(asked["kind"])
                    if isinstance(asked["answer"], dict) and "error" not in asked["answer"]:
                        assert answer.headers.get("Cache-Control") == asked["cache"]
                    assert "Access-Control-Allow-Origin" not in answer.headers

    run(test)


def test_on_uvloop() -> None:
    """Nodes run on it where it is installed."""
    uvloop = pytest.importorskip("uvloop")

    async def test() -> None:
        async with served(RecordedView(2)) as port:
            assert b'"result":{}' in await raw(port, posted(call("health").encode()))
            async with talking_to(port) as socket:
                await socket.send_str(call("health", 2))
                assert (await socket.receive_json())["id"] == 2

    uvloop.run(asyncio.wait_for(test(), 60))


def test_arguments_in_a_form() -> None:
    async def test() -> None:
        async with served(RecordedView()) as port, aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}/block?height="
            async with session.post(url, data={"height": "3", "x": "y"}) as answer:
                assert (await answer.json())["result"]["block"]["header"]["height"] == "3"

    run(test)


def test_a_subscriber_hears_of_what_is_decided() -> None:
    async def test() -> None:
        view = RecordedView(2)
        async with served(view) as port, aiohttp.ClientSession() as session:
            async with session.ws_connect(f"http://127.0.0.1:{port}/websocket") as socket:
                await socket.send_str(call("subscribe", "mine", query="tm.event='Tx' AND app.key='k1'"))
                await socket.send_str(call("subscribe", 2, query="tm.event='NewBlockHeader'"))
                assert await socket.receive_json() == {"jsonrpc": "2.0", "id": "mine", "result": {}}
                assert (await socket.receive_json())["id"] == 2
                view.decide()
                first, second = await socket.receive_json(), await socket.receive_json()
                assert (first["id"], first["result"]["data"]["type"]) == (2, "tendermint/event/NewBlockHeader")
                assert (second["id"], second["result"]["events"]["tx.height"]) == ("mine", ["3"])
                await socket.send_str(call("unsubscribe", 3, query="tm.event =  'NewBlockHeader'"))
                await socket.receive_json()
                view.decide()
                await socket.send_str(call("health", 4))
                assert (await socket.receive_json())["id"] == 4  # nothing came between
            assert len(view.hearers) == 1
        assert not view.hearers

    run(test)


def without_words_of_go(answer: dict[str, Any]) -> dict[str, Any]:
    """What follows "error converting ...: " or "error unmarshaling ...: " is cut off."""
    error = answer.get("error", {})
    if error.get("data", "").startswith("error "):
        return {**answer, "error": {**error, "data": error["data"].partition(": ")[0]}}
    return answer


def test_what_is_said_on_a_websocket() -> None:
    """Answer by answer as it was recorded. Where JSON is wrong, the words are Go's."""

    async def test() -> None:
        async with served(RecordedView(2)) as port, talking_to(port) as socket:
            for i, query in enumerate(record_rpc.QUERIES):
                await socket.send_str(call("subscribe", i, query=query))
            for said in record_rpc.SAID:
                await socket.send_str(said)
            for theirs in [line for line in lines("heard") if "query" not in line.get("result", {})]:
                assert without_words_of_go(await socket.receive_json()) == without_words_of_go(theirs)

    run(test)


async def committed(session: Any, port: int, tx: str) -> Any:
    async with session.get(f"http://127.0.0.1:{port}/broadcast_tx_commit?tx=%22{tx}%22") as answer:
        return await answer.json()


def test_a_transaction_that_is_waited_for() -> None:
    async def test() -> None:
        view = RecordedView(2)
        async with served(view) as port, aiohttp.ClientSession() as session:
            asking = asyncio.create_task(committed(session, port, "k1=v1"))
            await until(lambda: b"k1=v1" in view.seen)
            view.decide()
            decided = (await asking)["result"]
            assert (decided["height"], decided["tx_result"]["code"]) == ("3", 0)
            assert decided["tx_result"]["events"]
            assert (await committed(session, port, "bad"))["result"]["check_tx"]["code"] == 2

    run(test)


def test_a_transaction_that_is_not_decided_in_time() -> None:
    async def test() -> None:
        limits = RPCLimits(commit_timeout_s=0.1)
        async with served(RecordedView(2), limits) as port, aiohttp.ClientSession() as session:
            late = (await committed(session, port, "never=1"))["error"]
            assert late["data"] == "timed out waiting for tx to be included in a block"

    run(test)


def test_limits_of_subscriptions() -> None:
    async def test() -> None:
        limits = RPCLimits(clients_max=1, queries_of_client_max=2)
        async with served(RecordedView(2), limits) as port, aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}/websocket"
            async with session.ws_connect(url) as one, session.ws_connect(url) as other:

                async def said(socket: Any, query: str) -> Any:
                    await socket.send_str(call("subscribe", 1, query=query))
                    answer = await socket.receive_json()
                    return answer.get("error", {}).get("data", answer.get("result"))

                assert await said(one, "a = 1") == {}
                assert await said(one, "a  =  1") == "already subscribed"
                assert await said(other, "a = 1") == "max_subscription_clients 1 reached"
                assert await said(one, "b = 1") == {}
                assert await said(one, "c = 1") == "max_subscriptions_per_client 2 reached"
                await one.close()
                while (answer := await said(other, "a = 1")) != {}:  # until the server has seen it go
                    assert answer == "max_subscription_clients 1 reached"

    run(test)


@pytest.mark.parametrize("limits", [RPCLimits(waiting_messages_max=3), RPCLimits(waiting_bytes_of_all_max=9000)])
def test_a_reader_that_does_not_keep_up_is_cut_off(limits: RPCLimits, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "quorate.rpc")

    async def test() -> None:
        view = RecordedView(2)
        async with served(view, limits) as port, aiohttp.ClientSession() as session:
            async with session.ws_connect(f"http://127.0.0.1:{port}/websocket") as socket:
                await socket.send_str(call("subscribe", 1, query="tm.event EXISTS"))
                await socket.receive_json()
                while len(view.decided) < 8:  # without a moment in which anything could be sent
                    view.decide()
                heard = [message async for message in socket]
                assert len(heard) <= 4
                assert socket.closed
            assert len([one for one in caplog.records if "cut off" in one.message]) == 1, "nothing is made for it then"
            async with session.get(f"http://127.0.0.1:{port}/health") as answer:
                assert answer.status == 200

    run(test)


def test_a_page_of_another_origin_gets_no_socket() -> None:
    async def test() -> None:
        async with served(RecordedView(1)) as port, aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}/websocket"
            async with session.get(url) as answer:
                assert answer.status == 400
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(url, headers={"Origin": "http://elsewhere.example"})
            assert refused.value.status == 403
            async with session.ws_connect(url, headers={"Origin": f"http://127.0.0.1:{port}"}) as socket:
                await socket.send_str(call("health"))
                assert (await socket.receive_json())["result"] == {}

    run(test)


def test_a_body_that_is_too_large_is_refused_and_one_at_the_limit_is_not() -> None:
    async def test() -> None:
        async with served(RecordedView(1)) as port:
            fits = call("health").encode().ljust(1_000_000)
            assert (await raw(port, posted(fits))).startswith(b"HTTP/1.1 200")
            answer = await raw(port, posted(fits + b" "))
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"request body too large" in answer

    run(test)


HOSTILE = {
    "nothing of HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a header without an end": b"GET / HTTP/1.1\r\nHost: " + b"x" * 200_000,
    "many headers": b"GET /health HTTP/1.1\r\n" + b"".join(b"A%d: b\r\n" % i for i in range(1000)) + b"\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
    "a length that is none": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "deep": posted(b"[" * 500_000),
    "deep in params": posted(b'{"id":1,"method":"block","params":' + b'{"height":' * 50_000 + b"1" + b"}" * 50_001),
    "not UTF-8": posted(b'{"id":1,"method":"\xff"}'),
    "half a pair": posted(b'{"id":1,"method":"tx_search","params":{"query":"\\ud800"}}'),
    "a large number": posted(b'{"id":' + b"9" * 100_000 + b',"method":"health"}'),
    "zipped": posted(b"\x1f\x8b" + b"x" * 100, "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_http(name: str) -> None:
    """It is answered or hung up on, and the port serves on."""

    async def test() -> None:
        async with served(RecordedView(1), QUICK) as port:
            answer = await raw(port, HOSTILE[name])
            assert answer[:12] in (b"", b"HTTP/1.1 200", b"HTTP/1.0 400", b"HTTP/1.1 400", b"HTTP/1.1 500")
            assert b"HTTP/1.1 500" not in answer or b'"code":-32' in answer
            assert b"Traceback" not in answer
            assert b'"result":{}' in await raw(port, posted(call("health").encode()))

    run(test)


@pytest.mark.parametrize("data", [b"", b"GET /heal", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"])
def test_a_request_that_does_not_come_is_not_waited_for(data: bytes) -> None:
    async def test() -> None:
        async with served(RecordedView(1), QUICK) as port:
            await raw(port, data)  # raises TimeoutError if the server waits

    run(test)


def test_a_header_that_comes_byte_by_byte_is_not_waited_for() -> None:
    async def test() -> None:
        async with served(RecordedView(1), QUICK) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /health HTTP/1.1\r\nA: ")

            async def trickle() -> None:
                for _ in range(1000):
                    writer.write(b"a")
                    await asyncio.sleep(0.05)

            trickling = asyncio.create_task(trickle())
            with suppress(ConnectionError):  # what comes after it has hung up resets the connection
                async with asyncio.timeout(20):
                    await reader.read()
            trickling.cancel()
            writer.close()

    run(test)


def test_too_many_connections_are_hung_up_on() -> None:
    async def test() -> None:
        async with served(RecordedView(1), RPCLimits(connections_max=2)) as port:
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            assert await raw(port, posted(call("health").encode())) == b""
            for _, writer in held:
                writer.close()
            answer = await until_async(lambda: raw(port, posted(call("health").encode())))
            assert b'"result":{}' in answer

    run(test)


SOCKET_BYTES = {
    "a reserved bit": b"\xf1\x80\0\0\0\0",
    "an unknown kind": b"\x8b\x80\0\0\0\0",
    "a long ping": b"\x89\xfe\x01\x00\0\0\0\0" + b"x" * 256,
    "larger than the limit": b"\x81\xff\0\0\0\0\x00\x20\0\0\0\0\0\0" + b"x" * 2000,
    "a message that goes on before it began": b"\x80\x80\0\0\0\0",
}


@pytest.mark.parametrize("name", SOCKET_BYTES)
def test_hostile_websocket(name: str) -> None:
    async def test() -> None:
        async with served(RecordedView(1), QUICK) as port:
            head = (
                b"GET /websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
            )
            answer = await raw(port, head + SOCKET_BYTES[name])
            assert answer.startswith(b"HTTP/1.1 101")
            assert b'"result":{}' in await raw(port, posted(call("health").encode()))

    run(test)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setitem(sys.modules, "aiohttp", None)
        with pytest.raises(RPCUnavailable, match=r"pip install 'quorate\[comet\]'"):
            await serve_rpc(RecordedView(1), "127.0.0.1", 0)

    run(test)


def test_the_index_is_kept_up_and_begins_where_it_ended(tmp_path: Path) -> None:
    async def test() -> None:
        view = RecordedView(3)
        for most in (3, 6):
            indexer = ChainIndexer(tmp_path)
            keeper = IndexKeeper(view, indexer)
            await keeper.start()
            while len(view.decided) < most:
                view.decide()

            async def has_reached() -> bool:
                return await indexer.highest() >= most  # noqa: B023  # it is done with before the next

            await until_async(has_reached)
            await keeper.stop()

    run(test)
