"""AppClient: a node's calls to an app over sockets, on four ordered connections.

How it works. ``start`` dials the app until it is there, as the app may be started after the node. What is asked in one
turn of the loop leaves in one write, with a flush at its end. Each connection has an ``EngineEnd``, which knows the
rules and the clocks; what it finds wrong with one connection ends all four. An app that is lost is not dialled again:
what it did last is not known, so the node must stop, and finds out by the handshake when it starts again (CometBFT 0.38
kills its process: ``killTMOnClientError``).

Departure: CometBFT dials for ever, and waits for answers for ever. Here both have a limit.

Source: CometBFT 0.38, ``proxy/multi_app_conn.go``, ``abci/client/socket_client.go``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from quorate.ledger.comet.abci.engine_end import AppBusy, AppFailed, AskLimits, EngineEnd
from quorate.ledger.comet.abci.request_messages import Request
from quorate.ledger.comet.abci.response_messages import Response
from quorate.runtime.byte_streams import ByteConnection
from quorate.runtime.endpoints import Endpoint, reach
from quorate.service.abci.app_calls import ROOMS, AppCalls, Room, log

R = TypeVar("R", bound=Response)

DIAL_INTERVAL_S: Final = 3.0
"""dialRetryIntervalSeconds"""
DIAL_TIMEOUT_S: Final = 10.0
APP_AWAITED_S: Final = 600.0
"""How long ``start`` waits for an app, if nobody says otherwise."""
STOPPED: Final = "this node stops"


class AppClient(AppCalls):
    """An app at an endpoint. ``failed`` is done when the app is lost or has broken a rule: stop the node then."""

    def __init__(self, endpoint: Endpoint, limits: AskLimits | None = None, awaited_s: float = APP_AWAITED_S) -> None:
        self.endpoint = endpoint
        self.limits = limits or AskLimits()
        self.awaited_s = awaited_s
        self.failed: asyncio.Future[AppFailed] = asyncio.get_running_loop().create_future()
        self._connections: dict[Room, _RoomConnection] = {}

    async def start(self) -> None:
        """Dial all connections. Raises AppFailed if the app is not there in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.awaited_s
        for room in Room:
            connection = self._connections[room] = await self._dial(room, deadline)
            if self.failed.done():  # another one was lost meanwhile
                connection.give_up(self.failed.result())
                raise self.failed.result().again()

    async def ask(self, request: Request, kind: type[R]) -> R:
        (response,) = await self.ask_all((request,), kind)
        return response

    async def ask_all(self, requests: Sequence[Request], kind: type[R]) -> Sequence[R]:
        if self.failed.done():
            raise self.failed.result().again()
        answers: list[asyncio.Future[Response]] = []
        try:
            for request in requests:
                answers.append(self._connections[ROOMS[type(request)]].ask(request))
        except AppBusy:
            for answer in answers:
                answer.cancel()
            raise
        responses = await asyncio.gather(*answers)
        assert all(isinstance(response, kind) for response in responses), "the connection checks it"
        return cast(list[R], responses)

    def stop(self) -> None:
        """Hang up. Calls that wait raise AppFailed."""
        self._fail(AppFailed(f"the app at {self.endpoint}: {STOPPED}"))

    async def _dial(self, room: Room, deadline: float) -> _RoomConnection:
        loop = asyncio.get_running_loop()
        name = f"the app at {self.endpoint}, {room.value} connection"
        while True:
            if self.failed.done():
                raise self.failed.result().again()
            try:
                return await reach(
                    self.endpoint, lambda: _RoomConnection(EngineEnd(name, self.limits), self._fail), DIAL_TIMEOUT_S
                )
            except OSError as error:
                left_s = deadline - loop.time()
                if left_s <= DIAL_INTERVAL_S:
                    failure = AppFailed(f"{name}: {error}. What to do: start the app, then the node")
                    self._fail(failure)
                    raise failure from None
                log.warning("%s: %s; it is tried again every %g s", name, error, DIAL_INTERVAL_S)
            await asyncio.sleep(DIAL_INTERVAL_S)

    def _fail(self, failure: AppFailed) -> None:
        if self.failed.done():
            return
        self.failed.set_result(failure)
        for connection in self._connections.values():
            connection.give_up(failure)


class _RoomConnection(ByteConnection):
    """One of the four."""

    dead_after_s = 3600.0  # an app that works for long reads nothing meanwhile; the end's clocks say how long

    def __init__(self, end: EngineEnd[asyncio.Future[Response]], fail: Callable[[AppFailed], None]) -> None:
        super().__init__()
        self.end = end
        self._fail = fail
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._flush_is_due = False

    def ask(self, request: Request) -> asyncio.Future[Response]:
        """The answer, or AppFailed. Raises AppBusy."""
        answer: asyncio.Future[Response] = self.loop.create_future()
        self.end.ask(request, answer, self.loop.time())
        if not self._flush_is_due:
            self._flush_is_due = True
            self.loop.call_soon(self._flush)
        return answer

    def give_up(self, failure: AppFailed) -> None:
        """Hang up; who waits raises this."""
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self.end.abandon():
            if not waiter.done():
                waiter.set_exception(failure.again())
        self.cut(str(failure))

    def on_bytes(self, data: bytes) -> None:
        for waiter, response in self.end.receive(data, self.loop.time()):
            if not waiter.done():  # whoever asked may have been cancelled
                waiter.set_result(response)
        self._settle()

    def on_lost(self, why: str) -> None:
        self.end.lost(why)
        self._settle()

    def _flush(self) -> None:
        self._flush_is_due = False
        self.write(self.end.take(self.loop.time()))
        self._settle()

    def _settle(self) -> None:
        """After each change: the end has failed, or its clocks stand otherwise."""
        if self.end.failure is not None:
            self._fail(self.end.failure)
            self.give_up(self.end.failure)
            return
        due_at = self.end.due_at()
        if due_at is not None and (self._timer is None or due_at < self._timer_at):
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = due_at
            self._timer = self.loop.call_at(due_at, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.end.on_time(self.loop.time())
        self._settle()
