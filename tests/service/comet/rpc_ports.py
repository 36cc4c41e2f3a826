"""The port of CometBFT's RPC before the recorded chain, and how tests speak to it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from quorate.service.comet.rpc_limits import RPCLimits
from quorate.service.comet.rpc_port import serve_rpc

from tests.ledger.comet.rpc.recorded_view import RecordedView

aiohttp = pytest.importorskip("aiohttp", reason="the RPC needs aiohttp: pip install 'quorate[comet]'")

QUICK = RPCLimits(request_timeout_s=1.5)
"""Long enough for a machine that does much else."""


@asynccontextmanager
async def served(view: RecordedView, limits: RPCLimits | None = None) -> AsyncIterator[int]:
    opened = await serve_rpc(view, "127.0.0.1", 0, limits=limits)
    try:
        yield opened.port
    finally:
        await opened.close()


@asynccontextmanager
async def talking_to(port: int) -> AsyncIterator[Any]:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{port}/websocket") as socket:
        yield socket


async def raw(port: int, data: bytes, *, wait_s: float = 20) -> bytes:
    """All that comes back to these bytes until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(wait_s):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def posted(body: bytes, *headers: str) -> bytes:
    head = ["POST / HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def call(method: str, ident: Any = 1, **params: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": ident, "method": method, "params": params})
