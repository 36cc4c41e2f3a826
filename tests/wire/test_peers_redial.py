"""A peer that comes back is called at once, whatever the back-off has grown to."""

from __future__ import annotations

import asyncio
import socket

from quorate.runtime.peers import PeerLimits, Peers

PATIENT = PeerLimits(redial_s_min=60.0, redial_s_max=60.0)


def _bound() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


def test_a_call_from_a_peer_ends_the_wait_before_we_call_it() -> None:
    async def run() -> None:
        sockets = {1: _bound(), 2: _bound()}
        addresses = {node: sock.getsockname() for node, sock in sockets.items()}
        first, second = (
            Peers(node, "c", "p", addresses, lambda sender, frames: None, limits=PATIENT) for node in (1, 2)
        )
        await first.start(sockets[1])  # its call finds nobody listening, and the next is a minute away
        while not first.counters[2].dials:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await second.start(sockets[2])
        async with asyncio.timeout(20):
            while first.connected() != (2,) or second.connected() != (1,):
                await asyncio.sleep(0.01)
        await asyncio.gather(first.stop(), second.stop())

    asyncio.run(run())
