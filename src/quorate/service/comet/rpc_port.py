"""serve_rpc: open the port of CometBFT's RPC on a node. What it needs beside the rest of Quorate is looked for here.

``rpc_server`` does the serving; it imports aiohttp, which only those install who want this port.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import msgspec

from quorate.ledger.comet.rpc.subscriptions import CLIENTS_MAX, QUERIES_OF_CLIENT_MAX
from quorate.ledger.comet.rpc.view import ChainIndex, ChainView

NEEDS: Final = "aiohttp"
CLOSING_S: Final = 1.0
"""For answers that are under way."""


class RPCUnavailable(Exception):
    """The port cannot be opened, for want of what the text says."""


class RPCLimits(msgspec.Struct, frozen=True):
    """How much a port serves: CometBFT's defaults. What waits for one WebSocket is bounded by limits of ours."""

    body_bytes_max: int = 1_000_000
    header_bytes_max: int = 1 << 16
    """Of the first line, and of each header, of which there are 128 at most."""
    connections_max: int = 900
    clients_max: int = CLIENTS_MAX
    queries_of_client_max: int = QUERIES_OF_CLIENT_MAX
    request_timeout_s: float = 10.0
    """To send a request, and to take its answer."""
    commit_timeout_s: float = 10.0
    """For broadcast_tx_commit."""
    ping_s: float = 27.0
    waiting_messages_max: int = 200
    waiting_bytes_max: int = 4 << 20
    """Before one more message, however large."""


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
