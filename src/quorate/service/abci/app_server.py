"""AppServer: an app in Python that any engine of ABCI 0.38 can drive, over TCP or a Unix socket.

How it works. Engines have several connections, and the app has one call at a time: the connections take turns, with a
few requests each. Answers leave at the end of a turn; nobody has to wait for a flush. A connection with requests that
wait, or that does not take its answers, is not read from.

An app that raises has its error sent as ABCI's exception, and the connection ends: an engine stops then. What is not a
request gets the same. The server goes on, and so does the app: an engine that returns asks where it stands.

Source: CometBFT 0.38, ``abci/server/socket_server.go``.
"""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from typing import Final

from quorate.ledger.comet.abci.app_end import AppEnd, ServeLimits
from quorate.ledger.comet.abci.request_messages import Request
from quorate.ledger.comet.abci.response_messages import ResponseException
from quorate.machines.abci.application import ABCIApp
from quorate.runtime.byte_streams import ByteConnection
from quorate.runtime.endpoints import Endpoint, Offered, offer, parse_endpoint
from quorate.runtime.greeting import Told
from quorate.runtime.stranger_limits import UnfinishedFrames
from quorate.service.abci.app_calls import log, log_failure

ADDRESS: Final = "tcp://127.0.0.1:26658"
"""Where CometBFT looks for its app."""
TURN_REQUESTS_MAX: Final = 64
TURN_BYTES_MAX: Final = 1 << 20
"""Of answers; one may come on top."""
CLOSE_GRACE_S: Final = 1.0
WHY_CHARACTERS_MAX: Final = 2000


class AppServer:
    """An app's port. ``start`` it, and ``stop`` it at the end."""

    def __init__(self, app: ABCIApp, endpoint: Endpoint, limits: ServeLimits | None = None) -> None:
        self.app = app
        self.endpoint = endpoint
        """The real one, once it has started."""
        self.limits = limits or ServeLimits()
        self.unfinished = UnfinishedFrames(self.limits.unfinished_bytes_max)
        self.connections: set[EngineConnection] = set()
        self.tell = Told(log)
        self._offered: Offered | None = None

    async def start(self) -> None:
        """Take engines. Raises OSError."""
        self._offered = await offer(self.endpoint, lambda: EngineConnection(self))
        self.endpoint = self._offered.endpoint

    async def stop(self) -> None:
        """Take no more, let answers leave for a short time, hang up."""
        if self._offered is not None:
            self._offered.close()
        connections = list(self.connections)
        for connection in connections:
            connection.close("the app stops")
        if connections:
            await asyncio.wait([connection.lost for connection in connections], timeout=CLOSE_GRACE_S)
        for connection in connections:
            connection.cut("the app stops")


class EngineConnection(ByteConnection):
    """One connection of an engine."""

    dead_after_s = 3600.0
    host = ""

    def __init__(self, server: AppServer) -> None:
        super().__init__()
        self.lost: asyncio.Future[None] = self.loop.create_future()
        self._server = server
        self._app_end = AppEnd(server.limits)
        self._requests: deque[Request] = deque()
        self._work_is_due = False
        self._full_since = 0.0
        """When it became unwritable, where it is."""
        self._timer: asyncio.TimerHandle | None = None

    def on_open(self) -> None:
        server = self._server
        server.connections.add(self)
        if len(server.connections) > server.limits.connections_max:
            server.tell(f"ABCI: {self.remote} hung up on: {server.limits.connections_max} connections are there")
            self.cut("too many connections")

    def on_bytes(self, data: bytes) -> None:
        try:
            requests = self._app_end.receive(data, self.loop.time())
        except ValueError as error:
            self._refuse(f"what came is not a request of ABCI 0.38: {error}")
            return
        self._server.unfinished.hold(self, self._app_end.unfinished_bytes, bool(requests))
        if requests:
            self._requests.extend(requests)
            self.pause()
            self._go_on()
        self._watch()

    def on_writable(self) -> None:
        self._full_since = self.loop.time()
        self._go_on()
        self._watch()

    def on_lost(self, why: str) -> None:
        self._server.connections.discard(self)
        self._server.unfinished.hold(self, 0, False)
        self._requests.clear()
        self._watch()
        if not self.lost.done():
            self.lost.set_result(None)

    def _go_on(self) -> None:
        """Answer what waits, or read on if nothing does; nothing, while answers are not taken."""
        if not self.is_writable:
            return
        if not self._requests:
            self.resume()
        elif not self._work_is_due:
            self._work_is_due = True
            self.loop.call_soon(self._work)

    def _work(self) -> None:
        """One turn."""
        self._work_is_due = False
        answers: list[bytes] = []
        size = 0
        while self._requests and len(answers) < TURN_REQUESTS_MAX and size < TURN_BYTES_MAX and self.is_open:
            request = self._requests.popleft()
            try:
                answers.append(self._app_end.answer([self._server.app.answer(request)]))
            except Exception as error:  # somebody else's code: the engine is told, whatever it raised
                why = log_failure(self._server.app, request, error)
                self.write(b"".join(answers))
                self._refuse(f"{type(self._server.app).__name__}: {why}")
                return
            size += len(answers[-1])
        self.write(b"".join(answers))
        self._go_on()

    def _refuse(self, why: str) -> None:
        """Say why, and hang up."""
        why = why[:WHY_CHARACTERS_MAX]
        self._server.tell(f"ABCI: {self.remote}: {why}")
        self.write(self._app_end.answer([ResponseException(why)]))
        self.close(why)
        self._watch()

    def _watch(self) -> None:
        """Have a clock run while a request is not whole, or answers are not taken."""
        due_at = None
        if self.is_open and not self.is_writable:
            due_at = self._full_since + self._server.limits.whole_timeout_s
        elif self.is_open:
            due_at = self._app_end.due_at()
        elif self.unsent_bytes:
            due_at = self.loop.time() + CLOSE_GRACE_S
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if due_at is None else self.loop.call_at(due_at, self._on_time)

    def _on_time(self) -> None:
        what = "a request is not whole" if self.is_writable else "answers are not taken"
        why = f"{what} after {self._server.limits.whole_timeout_s:g} s"
        self._server.tell(f"ABCI: {self.remote} hung up on: {why}")
        self.cut(why)


async def serve_until_stopped(app: ABCIApp, address: str = ADDRESS) -> None:
    """Serve an app until the process is told to end (SIGINT, SIGTERM). Raises OSError, ValueError for the address."""
    server = AppServer(app, parse_endpoint(address))
    await server.start()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    log.info("%s listens on %s", type(app).__name__, server.endpoint)
    await stopped.wait()
    await server.stop()


def serve(app: ABCIApp, address: str = ADDRESS) -> None:
    """Serve an app at ``tcp://host:port`` or ``unix:///path`` until the process is told to end.

    Raises OSError, and ValueError for an address that is none.
    """
    asyncio.run(serve_until_stopped(app, address))
