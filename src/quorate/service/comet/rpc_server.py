"""CometBFT's RPC over HTTP and WebSocket, on one port of a node.

How it works. aiohttp has the sockets and the two protocols; what is asked goes to an RPCCore, and each height that is
decided goes to who subscribed and to who waits for a transaction. POST to ``/`` is JSON-RPC, ``/ROUTE?name=value`` is a
call by URL, ``/websocket`` is a WebSocket.

All limits are CometBFT's defaults where it has them: bytes of a body, of a header, connections, subscriptions, the time
that a request may take. A reader of a WebSocket that does not keep up is cut off, as what waits for it has a limit too.
CORS is off: no answer lets a page of another origin read it, and a WebSocket from such a page is refused.

aiohttp is an optional dependency, so this module is imported by ``rpc_port`` when it is used.
"""

from __future__ import annotations

import asyncio
import logging
import reprlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast
from urllib.parse import unquote_plus, urlsplit

import msgspec
from aiohttp import WSMsgType, web
from aiohttp.http_exceptions import HttpProcessingError

from quorate.ledger.comet.abci.response_messages import ResponseCheckTx
from quorate.ledger.comet.rpc.chain_events import decided_txs, events_of
from quorate.ledger.comet.rpc.jsonrpc import INVALID_REQUEST, HTTPAnswer, RPCCore, error_body
from quorate.ledger.comet.rpc.subscriptions import RequestID, Subscriptions
from quorate.ledger.comet.rpc.view import ChainIndex, ChainView, DecidedHeight, IndexedTx, RPCRefusal
from quorate.service.comet.rpc_limits import RPCLimits

log = logging.getLogger("quorate.rpc")

DAY_S: Final = 86_400
PATH_OF_SOCKETS: Final = "/websocket"
FORM: Final = "application/x-www-form-urlencoded"
FIELDS_MAX: Final = 100
"""Of a form. Those after it do not count."""


class TxWaits:
    """Who waits for which transaction to be decided."""

    def __init__(self, count_max: int, timeout_s: float) -> None:
        self.count_max = count_max
        self.timeout_s = timeout_s
        self._waiting: dict[bytes, set[asyncio.Future[IndexedTx]]] = {}
        self._count = 0

    async def until_decided(
        self, tx: bytes, submit: Callable[[], Awaitable[ResponseCheckTx]]
    ) -> tuple[ResponseCheckTx, IndexedTx | None]:
        """As RPCCaller has it. It begins to wait before it hands the transaction in."""
        if self._count >= self.count_max:
            raise RPCRefusal(f"max_subscription_clients {self.count_max} reached")
        future: asyncio.Future[IndexedTx] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tx, set()).add(future)
        self._count += 1
        try:
            checked = await submit()
            if checked.code:
                return checked, None
            async with asyncio.timeout(self.timeout_s):
                return checked, await future
        except TimeoutError:
            raise RPCRefusal("timed out waiting for tx to be included in a block") from None
        finally:
            self._count -= 1
            self._waiting[tx].discard(future)
            if not self._waiting[tx]:
                del self._waiting[tx]

    def decided(self, decided: DecidedHeight) -> None:
        """Tell those who wait for a transaction of this height."""
        if self._waiting:
            for found in decided_txs(decided):
                for future in list(self._waiting.get(found.tx, ())):
                    if not future.done():
                        future.set_result(found)


class _Outgoing:
    """How much waits to be sent to all WebSockets."""

    bytes = 0


class _Socket:
    """One WebSocket: what waits to be sent to it. ``end`` ends its connection at once."""

    def __init__(self, limits: RPCLimits, all_of_them: _Outgoing, end: Callable[[], None]) -> None:
        self._limits = limits
        self._all = all_of_them
        self._end = end
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()
        self._waiting_bytes = 0
        self._is_cut = False

    def send(self, message: bytes) -> None:
        """Behind what waits. If that is too much, its reader does not keep up, and it is cut off."""
        if self._is_full(len(message)):
            self.cut()
        elif not self._is_cut:
            self._add_bytes(len(message))
            self._messages.put_nowait(message)

    def _is_full(self, more: int) -> bool:
        limits, waiting = self._limits, self._waiting_bytes
        return (
            self._messages.qsize() >= limits.waiting_messages_max
            or waiting > limits.waiting_bytes_max
            or (waiting > 0 and self._all.bytes + more > limits.waiting_bytes_of_all_max)
        )

    def _add_bytes(self, count: int) -> None:
        self._waiting_bytes += count
        self._all.bytes += count

    def cut(self) -> None:
        """End it. A second time is no error."""
        if not self._is_cut:
            self._is_cut = True
            log.info("a WebSocket is cut off: its reader does not keep up")
            self._end()

    def forget(self) -> None:
        """It has ended: nothing waits for it any more."""
        self._is_cut = True
        self._add_bytes(-self._waiting_bytes)

    async def next(self) -> bytes:
        """The next message to send."""
        message = await self._messages.get()
        self._add_bytes(-len(message))
        return message


class _Caller:
    """Who calls a route: by HTTP, without a socket, or by a WebSocket, under the id of the call."""

    def __init__(self, server: RPCServer, socket: _Socket | None, request: RequestID) -> None:
        self._server = server
        self._socket = socket
        self._request = request

    def subscribe(self, query: str) -> None:
        assert self._socket is not None, "the route is for WebSockets"
        self._server.subscriptions.add(self._socket, self._request, query)

    def unsubscribe(self, query: str) -> None:
        assert self._socket is not None, "the route is for WebSockets"
        self._server.subscriptions.remove(self._socket, query)

    def unsubscribe_all(self) -> None:
        assert self._socket is not None, "the route is for WebSockets"
        self._server.subscriptions.remove_all(self._socket)

    async def until_decided(
        self, tx: bytes, submit: Callable[[], Awaitable[ResponseCheckTx]]
    ) -> tuple[ResponseCheckTx, IndexedTx | None]:
        return await self._server.waits.until_decided(tx, submit)


class _Connection(web.RequestHandler):
    """aiohttp's connection, which is one of so many. aiohttp ends it if it brings no request in time."""

    __slots__ = ("_bytes_to", "_limits", "_open")

    def __init__(self, listener: RPCListener, limits: RPCLimits) -> None:
        super().__init__(
            listener,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # as aiohttp's documentation has it
            keepalive_timeout=limits.request_timeout_s,
            max_line_size=limits.header_bytes_max,
            max_field_size=limits.header_bytes_max,
            lingering_time=0,
            auto_decompress=False,
        )
        self._open = listener.open
        self._limits = limits
        self._bytes_to: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._bytes_to = cast(asyncio.Transport, transport)  # uvloop's are of no such class
        super().connection_made(self._bytes_to)
        self._open.add(self)
        if len(self._open) > self._limits.connections_max:
            self.cut()

    def cut(self) -> None:
        """End it at once, whatever waits to be sent."""
        if self._bytes_to is not None:
            self._bytes_to.abort()

    def log_exception(self, *args: Any, **options: Any) -> None:
        """What is not HTTP, or does not come in time, is no error of ours. Anybody can send it: it fills no log."""
        error = options.get("exc_info", _OURS)
        if error is None or isinstance(error, HttpProcessingError):  # None: a time that is over
            log.debug("hung up on a caller: %s", _short(error))
        else:
            super().log_exception(*args, **options)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._open.discard(self)
        super().connection_lost(exc)


class RPCListener(web.Server):
    """What makes a connection of a socket."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], limits: RPCLimits) -> None:
        super().__init__(handler)
        self.limits = limits
        self.open: set[_Connection] = set()

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self.limits)


class RPCServer:
    """The RPC of one node. ``listener`` takes sockets."""

    def __init__(self, view: ChainView, chain_index: ChainIndex | None, limits: RPCLimits) -> None:
        self.core = RPCCore(view, chain_index)
        self.limits = limits
        self.subscriptions: Subscriptions[_Socket] = Subscriptions(limits.clients_max, limits.queries_of_client_max)
        self.waits = TxWaits(limits.clients_max, limits.commit_timeout_s)
        self.listener = RPCListener(self._on_request, limits)
        self._outgoing = _Outgoing()

    def decided(self, decided: DecidedHeight) -> None:
        """Tell of a height that was run."""
        self.waits.decided(decided)
        if not self.subscriptions.has_any():
            return
        for event in events_of(decided):
            data = tags = msgspec.Raw()  # encoded once, if anybody is to hear of it
            for socket, wanted in self.subscriptions.wanting(event.tags):
                if not data:
                    data, tags = (msgspec.Raw(msgspec.json.encode(part)) for part in (event.data(), event.tags))
                result = {"query": wanted.text, "data": data, "events": tags}
                socket.send(msgspec.json.encode({"jsonrpc": "2.0", "id": wanted.request, "result": result}))

    async def _on_request(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)
        if request.path == PATH_OF_SOCKETS:
            return await self._on_socket(request, connection)
        try:
            response = await self._response(request)
            async with asyncio.timeout(self.limits.request_timeout_s):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            connection.cut()
            raise
        return response

    async def _response(self, request: web.BaseRequest) -> web.Response:
        body = await self._body(request)
        if body is None:
            why = "error reading request body: http: request body too large"
            response = _json_response(HTTPAnswer(400, error_body(None, INVALID_REQUEST, why)))
            response.force_close()
            return response
        if request.path == "/":
            if not body:
                return web.Response(text=_START_PAGE, content_type="text/html")
            return _json_response(await self.core.answer_body(body, self._caller))
        query = {name: request.query[name] for name in request.query}  # the first value of each
        if request.content_type == FORM and body:
            query = {**_form(body), **{name: value for name, value in query.items() if value}}
        found = await self.core.answer_url(request.path.removeprefix("/"), query, self._caller)
        if found is None:
            return web.Response(status=404, text="404 page not found\n")
        return _json_response(found)

    async def _body(self, request: web.BaseRequest) -> bytes | None:
        """None: it is too large. Raises TimeoutError."""
        made = bytearray()
        async with asyncio.timeout(self.limits.request_timeout_s):
            async for piece in request.content.iter_any():
                made += piece
                if len(made) > self.limits.body_bytes_max:
                    return None
        return bytes(made)

    def _caller(self, request: RequestID) -> _Caller:
        return _Caller(self, None, request)

    async def _on_socket(self, request: web.BaseRequest, connection: _Connection) -> web.StreamResponse:
        if _is_foreign(request):
            return web.Response(status=403, text="a WebSocket from a page of another origin\n")
        response = web.WebSocketResponse(
            heartbeat=self.limits.ping_s, max_msg_size=self.limits.body_bytes_max, compress=False
        )
        if not _can_begin(response, request):
            return web.Response(status=400, text="Bad Request\n")
        await response.prepare(request)

        def end() -> None:
            self.subscriptions.forget(socket)  # so that nothing more is made for it
            connection.cut()

        socket = _Socket(self.limits, self._outgoing, end)
        writing = asyncio.create_task(self._write(response, socket))
        try:
            await self._read(response, socket)
        finally:
            writing.cancel()
            self.subscriptions.forget(socket)
            socket.forget()
        return response

    async def _read(self, response: web.WebSocketResponse, socket: _Socket) -> None:
        """One request after the other, as CometBFT does them."""

        def caller(request: RequestID) -> _Caller:
            return _Caller(self, socket, request)

        async for message in response:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            answer = await self.core.answer_message(message.data, caller)
            if answer is not None:
                socket.send(answer)

    async def _write(self, response: web.WebSocketResponse, socket: _Socket) -> None:
        while True:
            message = await socket.next()
            try:
                async with asyncio.timeout(self.limits.request_timeout_s):
                    await response.send_frame(message, WSMsgType.TEXT)
            except (TimeoutError, ConnectionError):
                socket.cut()
                return


_short: Final = reprlib.repr
_OURS: Final = "no exception"
"""In place of one, in what aiohttp logs of a mistake in this module."""


def _can_begin(response: web.WebSocketResponse, request: web.BaseRequest) -> bool:
    """Whether the request is one for a WebSocket."""
    try:
        return response.can_prepare(request).ok
    except ValueError:  # aiohttp takes a key and a version for text, whatever bytes they have
        return False


def _is_foreign(request: web.BaseRequest) -> bool:
    """Whether a page of another origin asks. Programs send no origin."""
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("Host", "")


def _form(body: bytes) -> dict[str, str]:
    """The first value of each name."""
    pairs = [part.partition("=") for part in body.decode(errors="replace").split("&", FIELDS_MAX)[:FIELDS_MAX]]
    return {unquote_plus(name): unquote_plus(value) for name, _, value in reversed(pairs)}


def _json_response(answer: HTTPAnswer) -> web.Response:
    headers = {"X-Server-Time": str(int(time.time()))}
    if answer.is_lasting:
        headers["Cache-Control"] = f"public, max-age={DAY_S}"
    if not answer.body:
        return web.Response(status=answer.status, headers=headers)
    return web.Response(status=answer.status, body=answer.body, headers={**headers, "Content-Type": "application/json"})


_START_PAGE: Final = "<html><body>POST JSON-RPC 2.0 here, or GET /ROUTE?name=value</body></html>"
