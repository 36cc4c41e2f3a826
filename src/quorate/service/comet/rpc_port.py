"""serve_rpc: open the port of CometBFT's RPC on a node.

``rpc_server`` does the serving; it imports aiohttp, which only those install who want this port.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from quorate.ledger.comet.rpc.view import ChainIndex, ChainView
from quorate.runtime.listening import listen
from quorate.service.comet.rpc_limits import RPCLimits
from quorate.service.comet.rpc_needs import why_unavailable

CLOSING_S: Final = 1.0
"""For answers that are under way."""


class RPCUnavailable(Exception):
    """The port cannot be opened, for want of what the text says."""


class RPCPort(NamedTuple):
    """A port that is open. ``close`` ends it, with all its connections."""

    port: int
    close: Callable[[], Awaitable[None]]


async def serve_rpc(
    view: ChainView,
    host: str,
    port: int,
    *,
    chain_index: ChainIndex | None = None,
    limits: RPCLimits | None = None,
) -> RPCPort:
    """Open the port; 0 is any. Without an index, tx and the searches are refused.

    Raises RPCUnavailable if aiohttp is not installed, OSError if the port is not to be had.
    """
    if why := why_unavailable():
        raise RPCUnavailable(why)
    from quorate.service.comet.rpc_server import RPCServer

    server = RPCServer(view, chain_index, limits or RPCLimits())
    listening = await listen(server.listener, host, port)
    deafen = view.listen(server.decided)

    async def close() -> None:
        deafen()
        listening.close()
        await server.listener.shutdown(CLOSING_S)

    return RPCPort(listening.port, close)
