"""Nodes in this process that serve CometBFT's RPC, each at a port of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.runtime.folder import Beginning
from quorate.service.comet.node_view import NodeView
from quorate.service.comet.request_server import RequestServer
from quorate.service.serving import server_of

from tests.ports import free_ports
from tests.runtime.servers import Servers, until, until_async
from tests.service.chain_servers import QUICK, ChainServers

aiohttp = pytest.importorskip("aiohttp", reason="the RPC needs aiohttp: pip install 'quorate[comet]'")
GENESIS_S = 1_700_000_000


class AsksRPC(Servers):
    """How to ask them."""

    def add_ports(self) -> None:
        ports = free_ports(len(self.ids))
        members = {node: replace(self.members[node], rpc=f"127.0.0.1:{ports[node - 1]}") for node in self.ids}
        self.config = replace(self.config, nodes=members, options=replace(self.config.options, genesis_s=GENESIS_S))

    def url(self, node: int, route: str) -> str:
        return f"http://{self.config.nodes[node].rpc}/{route}"

    async def ask(self, route: str, node: int = 1) -> Any:
        """The answer, which may be an error."""
        async with aiohttp.ClientSession() as session, session.get(self.url(node, route)) as answer:
            return await answer.json()

    async def get(self, route: str, node: int = 1) -> Any:
        """The result; an error raises."""
        body = await self.ask(route, node)
        assert "error" not in body, body
        return body["result"]

    async def found(self, route: str, node: int = 1) -> Any:
        """The same when it is there: what is indexed comes a moment later."""

        async def ask() -> Any:
            return (await self.ask(route, node)).get("result")

        return await until_async(ask)


class RPCServers(AsksRPC, ChainServers):
    """Of nodes that drive an app."""

    def __init__(self, folder: Path, nodes: int, app: str, **options: Any) -> None:
        super().__init__(folder, nodes, app, **options)
        self.add_ports()


class RequestServers(AsksRPC):
    """Of nodes that serve clients."""

    running: dict[int, Any]

    def __init__(self, folder: Path, nodes: int, options: Any = QUICK, **more: Any) -> None:
        super().__init__(folder, nodes, options, protocol="tendermint", **more)
        self.add_ports()

    def make(self, node: int, beginning: Beginning = Beginning.EITHER, **changes: Any) -> Any:
        config = replace(self.config, node=node, data=self.folder / f"n{node}")
        made = server_of(replace(config, **changes), self.machine, beginning)
        assert isinstance(made, RequestServer)
        return made

    def reader(self, node: int) -> NodeView:
        view: NodeView = self.running[node].view
        return view

    async def brought(self, tx: bytes, node: int = 1) -> int:
        """Have a transaction committed; the height."""
        done = await self.get(f"broadcast_tx_commit?tx=0x{tx.hex()}", node)
        assert (done["check_tx"]["code"], done["tx_result"]["code"]) == (0, 0), done
        return int(done["height"])

    async def stored(self, height: int) -> None:
        """All running nodes have stored this height."""
        await until(lambda: min(server.store.height for server in self.running.values()) >= height)
