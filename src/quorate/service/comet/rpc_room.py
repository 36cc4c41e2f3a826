"""RPCRoom: CometBFT's RPC on a node that has started, if its configuration says where: the port, and the index behind.

Without aiohttp a node goes on without the port, and says so. Without its index, which can be made anew, too.
"""

from __future__ import annotations

import logging
import sqlite3

from quorate.ledger.comet.rpc.view import ChainView
from quorate.runtime.address import format_address
from quorate.service.comet.index_keeper import IndexKeeper
from quorate.service.comet.indexer import ChainIndexer
from quorate.service.comet.rpc_needs import why_unavailable
from quorate.service.comet.rpc_port import RPCPort, serve_rpc
from quorate.service.config import NodeConfig

log = logging.getLogger("quorate.rpc")


class RPCRoom:
    """Of one node."""

    def __init__(self, config: NodeConfig, view: ChainView) -> None:
        self._address = config.listen_rpc()
        self._folder = config.data
        self._view = view
        self._indexer: ChainIndexer | None = None
        self._keeper: IndexKeeper | None = None
        self._port: RPCPort | None = None

    async def open(self) -> None:
        """Raises OSError if the port is not to be had."""
        if self._address is None:
            return
        if why := why_unavailable():
            log.info("%s; this node goes on without", why)
            return
        host, port = self._address
        await self._keep_index()
        self._port = await serve_rpc(self._view, host, port, chain_index=self._indexer)
        log.info("CometBFT's RPC is served at %s", format_address(host, self._port.port))

    async def _keep_index(self) -> None:
        indexer = ChainIndexer(self._folder)
        keeper = IndexKeeper(self._view, indexer)
        try:
            await keeper.start()
        except (sqlite3.Error, OSError) as error:
            cure = "stop the node, remove the file, and start it again: it is made anew from the blocks"
            log.error("nothing is indexed, so nothing is found: %s: %s. %s", indexer.path, error, cure)
            await keeper.stop()
        else:
            self._indexer, self._keeper = indexer, keeper

    async def close(self) -> None:
        """The port first. A second time is no error. Raises WorkLeft if the index does not close."""
        port, self._port = self._port, None
        keeper, self._keeper = self._keeper, None
        if port is not None:
            await port.close()
        if keeper is not None:
            await keeper.stop()
