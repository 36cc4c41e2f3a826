"""Nodes of a chain with ABCI apps on one event loop, with real sockets and files; see ``tests/runtime/servers.py``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from quorate.machines.abci.application import ABCIApp
from quorate.machines.abci.kvstore import KVStoreApp
from quorate.protocols.tendermint.messages import TendermintConfig
from quorate.runtime.folder import Beginning
from quorate.service.comet.chain_server import ChainServer
from quorate.service.comet.node_view import NodeView

from tests.runtime.servers import Servers, until

M = TypeVar("M", bound="ChainServers")
QUICK = TendermintConfig(propose_s=0.5, prevote_s=0.2, precommit_s=0.2, further_s=0.2, beat_s=0.1)


class ChainServers(Servers):
    """``apps``: those in the nodes' process, by node; a node that starts again has a new one."""

    running: dict[int, Any]

    def __init__(self, folder: Path, nodes: int, app: str, make_app: Callable[[], ABCIApp] = KVStoreApp) -> None:
        super().__init__(folder, nodes, QUICK, protocol="tendermint")
        self.config = msgspec.structs.replace(self.config, app=app)
        self._make_app = make_app
        self.apps: dict[int, ABCIApp] = {}

    def make(self, node: int, beginning: Beginning = Beginning.EITHER, **changes: Any) -> Any:
        config = msgspec.structs.replace(self.config, node=node, data=self.folder / f"n{node}")
        self.apps[node] = self._make_app()
        return ChainServer(msgspec.structs.replace(config, **changes), self.apps[node], beginning)

    def reader(self, node: int) -> NodeView:
        view: NodeView = self.running[node].view
        return view

    async def level(self, height: int) -> None:
        """All running nodes have stored this height at least, and all the same."""

        def are_level() -> bool:
            heights = {server.store.height for server in self.running.values()}
            return len(heights) == 1 and min(heights) >= height

        await until(are_level)


@asynccontextmanager
async def chain_servers(
    folder: Path,
    nodes: int = 4,
    app: str = "kvstore",
    kind: type[M] = ChainServers,
    **options: Any,  # type: ignore[assignment]
) -> AsyncIterator[M]:
    """A cluster that runs, and that nothing is left of."""
    made = kind(folder, nodes, app, **options)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
