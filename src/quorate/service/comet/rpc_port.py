"""serve_rpc: open the port of CometBFT's RPC on a node. What it needs beside the rest of Quorate is looked for here.

``rpc_server`` does the serving; it imports aiohttp, which only those install who want this port.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from quorate.ledger.comet.rpc.view import ChainIndex, ChainView
from quorate.service.comet.rpc_limits import RPCLimits

NEEDS: Final = "aiohttp"
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
    try:
        importlib.import_module(NEEDS)
    except ModuleNotFoundError:
        raise RPCUnavailable(f"CometBFT's RPC needs {NEEDS}: pip install 'quorate[comet]'") from None
    from quorate.service.comet.rpc_server import RPCServer

    server = RPCServer(view, chain_index, limits or RPCLimits())
    listening = await asyncio.get_running_loop().create_server(server.listener, host, port)
    deafen = view.listen(server.decided)

    async def close() -> None:
        deafen()
        listening.close()
        await server.listener.shutdown(CLOSING_S)

    return RPCPort(listening.sockets[0].getsockname()[1], close)
