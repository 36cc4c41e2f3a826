"""A peer that comes back is called at once, whatever the back-off has grown to."""

from __future__ import annotations

import asyncio

from quorate.runtime.peer_links import PeerLimits
from quorate.runtime.peers import Peers

from tests.wire.harness import listening_socket, until

PATIENT = PeerLimits(redial_s_min=60.0, redial_s_max=60.0)


def test_a_call_from_a_peer_ends_the_wait_before_we_call_it(run) -> None:
    async def main() -> None:
        sockets = {1: listening_socket(), 2: listening_socket()}
        addresses = {node: sock.getsockname() for node, sock in sockets.items()}
        first, second = (
            Peers(node, "c", "p", addresses, lambda sender, frames: None, limits=PATIENT) for node in (1, 2)
        )
        await first.start(sockets[1])  # its call finds nobody listening, and the next is a minute away
        await until(lambda: first.counters[2].dials > 0)
        await asyncio.sleep(0.1)
        await second.start(sockets[2])
        await until(lambda: first.connected() == (2,) and second.connected() == (1,))
        await asyncio.gather(first.stop(), second.stop())

    run(main())
