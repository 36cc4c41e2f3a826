"""server_of: the Server that a configuration asks for, where the node drives no ABCI app."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from quorate.machines.state_machine import StateMachine
from quorate.runtime.folder import Beginning
from quorate.service.config import NodeConfig
from quorate.service.server import Server


def server_of(
    config: NodeConfig,
    machine: Callable[[Path], StateMachine] | None = None,
    beginning: Beginning = Beginning.EITHER,
) -> Server:
    """With CometBFT's RPC, if the configuration says where. Raises ConfigError as a Server does."""
    if config.listen_rpc() is None:
        return Server(config, machine, beginning)
    from quorate.service.comet.request_server import RequestServer  # which loads all of the chain's formats

    return RequestServer(config, machine, beginning)
