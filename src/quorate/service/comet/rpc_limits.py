"""RPCLimits: how much the port of CometBFT's RPC serves."""

from __future__ import annotations

import msgspec

from quorate.ledger.comet.rpc.subscriptions import CLIENTS_MAX, QUERIES_OF_CLIENT_MAX


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
    waiting_bytes_of_all_max: int = 64 << 20
    """Of all WebSockets. Beyond it, the next for which something waits already is cut off."""
