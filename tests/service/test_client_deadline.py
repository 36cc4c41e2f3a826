"""A call of the client that is over is over: what it asked for is not sent later, on a link that comes up then."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from quorate.runtime.handshake import LocalNode
from quorate.runtime.listener import ClientConnection, ClientListener
from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import Unreachable
from quorate.service.requests import AskStatus, Request, decode_request


async def polled(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60.0):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.001)


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_a_call_that_failed_leaves_nothing_to_send() -> None:
    async def main() -> None:
        async with AsyncClient([free_address()], timeout_s=0.1) as client:
            with pytest.raises(Unreachable):
                await client.put(b"k", b"v")
            assert not client.core.single.waiting

    asyncio.run(main())


def test_a_call_that_was_cancelled_is_not_sent_on_a_new_link() -> None:
    """The link comes up between the cancellation and the sweep that clears the table."""

    async def main() -> None:
        requests: list[Request] = []

        def on_frames(_: ClientConnection, frames: list[bytes]) -> None:
            requests.extend(map(decode_request, frames))

        address = free_address()
        host, port = address.split(":")
        me = LocalNode("c", "raft", 1, frozenset({1}))
        listener = ClientListener(host, int(port), me, lambda _: None, on_frames, lambda _, __: None)
        async with AsyncClient([address], timeout_s=5.0) as client:
            call = asyncio.ensure_future(client.query(b"not to be sent"))
            await polled(lambda: client.core.single.waiting)
            await listener.start()
            call.cancel()
            await polled(lambda: client.core.single.link is not None)
            assert not client.core.single.waiting
        await listener.stop()
        assert all(isinstance(request, AskStatus) for request in requests)

    asyncio.run(main())
