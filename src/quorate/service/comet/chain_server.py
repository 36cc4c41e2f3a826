"""ChainServer: one node of a chain with an ABCI app: a Node, the app's side, the block store, the client
port, and the one of CometBFT's RPC.

The client port answers questions about the node (``quorate status``), and nothing else: what the cluster is for, its
app says.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final

from quorate.kernel import AppEnded
from quorate.ledger.comet.abci.engine_end import AppFailed
from quorate.machines.abci.application import ABCIApp
from quorate.machines.abci.kv_snapshots import SyncedKVStoreApp
from quorate.runtime.address import format_address
from quorate.runtime.codec import Codec
from quorate.runtime.folder import Beginning
from quorate.runtime.handshake import LocalNode
from quorate.runtime.listener import ClientConnection, ClientListener
from quorate.runtime.node import Node
from quorate.runtime.watchdog import Watchdog
from quorate.service.abci.app_calls import LocalApp
from quorate.service.abci.app_client import AppClient
from quorate.service.app_addresses import app_of
from quorate.service.comet.app_doers import AppDoers
from quorate.service.comet.app_side import DrivenSide
from quorate.service.comet.block_store import BlockStore
from quorate.service.comet.chain_blocks import ChainBlocks
from quorate.service.comet.chain_service import NO_CLIENTS, ChainService
from quorate.service.comet.node_view import NodeView
from quorate.service.comet.rpc_room import RPCRoom
from quorate.service.config import ConfigError, NodeConfig, check_config
from quorate.service.reconfiguration import Membership
from quorate.service.requests import DECODE_ERRORS, AskStatus, Code, Failure, Status, decode_request
from quorate.service.server import Caller, bears_of, limits_of

log = logging.getLogger("quorate.comet")

SNAPSHOT_INTERVAL: Final = 256
"""Blocks, of the built-in kvstore."""


class ChainServer:
    """One node. ``app``: the one in this process, if the configuration names none elsewhere."""

    def __init__(self, config: NodeConfig, app: ABCIApp | None = None, beginning: Beginning = Beginning.EITHER) -> None:
        """Raises ConfigError if the configuration cannot be used, or the keys are not there or not this cluster's."""
        check_config(config)
        entry = config.entry
        core = entry.app_core
        if core is None:
            raise ConfigError(f"app: {entry.name} drives no apps; leave app out")
        self.config = config
        self._endpoint = app_of(config.app, config.node, config.nodes)
        self._local = app or SyncedKVStoreApp(SNAPSHOT_INTERVAL)
        keys = config.load_keys()
        self.membership = Membership(config)
        self.store = BlockStore(config.data)
        self.blocks = ChainBlocks(self.store, self._give_up)
        self.service = ChainService(self.blocks, self._give_up)
        self.doers = AppDoers()
        client_limits, peer_limits = limits_of(len(config.nodes), config.memory)
        self.node = Node(
            node=config.node,
            cluster=config.cluster,
            protocol=f"{entry.name}-app",  # nodes without an app decide other things: they refuse each other
            addresses=config.peer_addresses(),
            listen_at=config.listen_peer(),
            make=entry.make(config.options if config.options is not None else entry.config(), core, lambda _: keys),
            codec=Codec(core),
            app=self.service,
            data=config.data,
            keys=keys,
            doers=self.doers.doers,
            peer_limits=peer_limits,
            beginning=beginning,
            on_folder=self.store.open,
        )
        self.service.on_dropped = self.node.needs_less
        self.view = NodeView(config, keys, self.node, self.blocks, DrivenSide(self.node, self.service, self.doers))
        self.rpc = RPCRoom(config, self.view)
        self.watchdog = Watchdog()
        bears = bears_of(entry.traits, self.membership.faults, len(config.nodes))
        if bears is not None and not bears.liars:
            log.warning("%d nodes bear no lying node: it takes 4 to bear one", len(config.nodes))
        me = LocalNode(config.cluster, entry.name, config.node, frozenset(config.nodes), bears)
        host, port = config.listen_client()
        self._callers: dict[ClientConnection, Caller] = {}
        self.listener = ClientListener(
            host, port, me, self._on_connect, self._on_frames, self._on_close, client_limits, self._on_frames
        )
        self._client: AppClient | None = None
        self._is_stopping = False
        self.awaits = ""
        """What a start that may be cancelled waits for; empty: for nothing of the kind."""

    async def start(self) -> None:
        """Reach the app, recover, and go on. Raises StorageError, OSError; AppEnded if the app is not there in time."""
        try:
            await self._reach_app()
            await self.node.start()
            await self.listener.start()
            await self.rpc.open()
            self.watchdog.start()
        except BaseException:
            await self.stop()
            raise
        where = format_address(self.listener.host, self.listener.port)
        log.info("node %d serves clients at %s", self.config.node, where)

    async def _reach_app(self) -> None:
        if self._endpoint is None:
            self.doers.calls = LocalApp(self._local)
            return
        client = self._client = self.doers.calls = AppClient(self._endpoint)
        client.failed.add_done_callback(self._app_failed)
        self.awaits = f"the app at {self._endpoint}"
        try:
            await client.start()
        except AppFailed as error:
            raise AppEnded(str(error)) from None
        self.awaits = ""
        log.info("the app at %s is there", self._endpoint)

    def _app_failed(self, failed: asyncio.Future[AppFailed]) -> None:
        """Also while nobody asks it anything."""
        if not self._is_stopping and not failed.cancelled():
            self._give_up(AppEnded(str(failed.result())))

    def _give_up(self, error: BaseException) -> None:
        self.node.give_up(error)

    def _hang_up(self) -> None:
        self._is_stopping = True
        if self._client is not None:
            self._client.stop()

    async def wait(self) -> None:
        """Return when the server was stopped; raise what makes it unable to go on."""
        await self.node.wait()

    async def stop(self) -> None:
        """Make durable what is queued, leave the app, close the files. Raises StorageError as ``Node.stop`` does."""
        self.watchdog.stop()
        try:
            await self.rpc.close()
        finally:
            await self.listener.stop()
            self._hang_up()
            await self.node.stop()
            await self.service.stop()

    def status(self, request: int = 0) -> Status:
        """This node's view of itself. A height counts as a term, and transactions as entries."""
        core = self.node.host.root.standing()
        applied = core.commit_index or 0
        return Status(
            id=request,
            node=self.config.node,
            protocol=self.config.protocol,
            role=core.role,
            leader=core.leader,
            term=core.term,
            commit_index=applied,
            applied_index=applied,
            pid=os.getpid(),
            stalled=self.node.stalled_why,
            voters=self.membership.all,
            note=core.note,
        )

    # --- clients ---

    def _on_connect(self, connection: ClientConnection) -> None:
        self._callers[connection] = Caller(connection, lambda: False)

    def _on_close(self, connection: ClientConnection, _: str) -> None:
        self._callers.pop(connection, None)

    def _on_frames(self, connection: ClientConnection, frames: list[bytes]) -> None:
        caller = self._callers[connection]
        for frame in frames:
            try:
                request = decode_request(frame)
            except DECODE_ERRORS as error:
                connection.cut(f"sent no request: {error}")
                return
            if isinstance(request, AskStatus):
                caller.reply(self.status(request.id))
            else:
                caller.reply(Failure(request.id, Code.MALFORMED, NO_CLIENTS))
