"""What tests of ABCI over sockets run: apps behind servers, and streams of bytes that are no app and no engine."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from quorate.ledger.comet.abci.app_end import AppEnd, ServeLimits
from quorate.ledger.comet.abci.engine_end import AskLimits
from quorate.ledger.comet.abci.request_messages import Request
from quorate.ledger.comet.abci.response_messages import Response
from quorate.machines.abci.application import ABCIApp
from quorate.runtime.byte_streams import ByteConnection
from quorate.runtime.endpoints import Endpoint, offer, reach
from quorate.service.abci.app_client import AppClient
from quorate.service.abci.app_server import AppServer

KINDS = ("tcp", "unix")
TCP = Endpoint("127.0.0.1", 0)
START_S = 20.0


def endpoint_of(kind: str, folder: Path) -> Endpoint:
    return TCP if kind == "tcp" else Endpoint("", 0, str(folder / "app.sock"))


@asynccontextmanager
async def served(app: ABCIApp, endpoint: Endpoint = TCP, limits: ServeLimits | None = None) -> AsyncIterator[AppServer]:
    server = AppServer(app, endpoint, limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def client_of(endpoint: Endpoint, limits: AskLimits | None = None) -> AsyncIterator[AppClient]:
    client = AppClient(endpoint, limits, awaited_s=0.1)
    await client.start()
    try:
        yield client
    finally:
        client.stop()


class FalseApp(ByteConnection):
    """An app that says something else. ``reply`` makes bytes of what was asked; None: it hangs up."""

    def __init__(self, reply: Callable[[Request], bytes | None]) -> None:
        super().__init__()
        self.reply = reply
        self.app_end = AppEnd()

    def on_bytes(self, data: bytes) -> None:
        for request in self.app_end.receive(data, 0.0):
            said = self.reply(request)
            if said is None:
                self.cut("as it is false")
            else:
                self.write(said)


@asynccontextmanager
async def false_app(reply: Callable[[Request], bytes | None]) -> AsyncIterator[Endpoint]:
    offered = await offer(TCP, lambda: FalseApp(reply))
    try:
        yield offered.endpoint
    finally:
        offered.close()


def said(*responses: Response) -> bytes:
    return AppEnd().answer(responses)


class Line:
    """A raw connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def rest(self) -> bytes:
        """What comes until the other side hangs up."""
        read = b""
        try:
            while more := await asyncio.wait_for(self.reader.read(1 << 16), 10.0):
                read += more
        except ConnectionError:
            pass
        return read


@asynccontextmanager
async def line_to(server: AppServer) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection(server.endpoint.host, server.endpoint.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


async def until_listened_on(endpoint: Endpoint) -> None:
    """Until a process that was started takes connections."""
    async with asyncio.timeout(START_S):
        while True:
            try:
                (await reach(endpoint, Mute, START_S)).cut("it is there")
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return


class Mute(ByteConnection):
    def on_bytes(self, data: bytes) -> None:
        raise AssertionError(data)
