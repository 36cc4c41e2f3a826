"""RequestServer: a Server of a chain whose blocks CometBFT's RPC serves: its transactions are clients' requests.

Beside what a Server has, the node has a block store, which is filled from the core's log as the requests of each block
come to the Replica, and the port.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from quorate.kernel import ROOT
from quorate.kernel import Path as CorePath
from quorate.machines.state_machine import StateMachine
from quorate.parts.log.replicated import Decided
from quorate.protocols.tendermint.core import Tendermint
from quorate.runtime.folder import Beginning
from quorate.service.comet.block_store import BlockStore
from quorate.service.comet.chain_blocks import ChainBlocks
from quorate.service.comet.log_blocks import LogBlocks
from quorate.service.comet.node_view import NodeView
from quorate.service.comet.requests_side import RequestsSide
from quorate.service.comet.rpc_room import RPCRoom
from quorate.service.config import NodeConfig
from quorate.service.server import Server
from quorate.service.signed import SignedReplica


class ChainReplica(SignedReplica):
    """``on_height`` is called when the requests of a block were applied, with its height; with 0 when a snapshot was
    loaded. ``on_other`` is called with what the core says of transactions."""

    on_height: Callable[[int], None]
    on_other: Callable[[Any], None]

    def output(self, value: Any, path: CorePath = ROOT) -> None:
        super().output(value, path)
        if type(value) is Decided:
            self.on_height(value.entries[-1].term)
        else:
            self.on_other(value)

    def restore(self, file: BinaryIO, path: CorePath = ROOT) -> Callable[[], None]:
        adopt_rest = super().restore(file, path)

        def adopt() -> None:
            adopt_rest()
            self.on_height(0)

        return adopt


class RequestServer(Server):
    """One node. Its configuration says where the port is."""

    def __init__(
        self,
        config: NodeConfig,
        machine: Callable[[Path], StateMachine] | None = None,
        beginning: Beginning = Beginning.EITHER,
    ) -> None:
        """As of a Server."""
        self.store = BlockStore(config.data)
        self.blocks = ChainBlocks(self.store, lambda error: self.node.give_up(error))
        super().__init__(config, machine, beginning)
        keys, replica = self.keys, self.replica
        assert keys is not None, "the nodes of a chain sign"
        assert isinstance(replica, ChainReplica), "it is made below"
        self._log = LogBlocks(self._core)
        self._side = RequestsSide(self.node, replica, keys.keyring, self._log, self.blocks)
        replica.on_height = self._on_height
        replica.on_other = self._side.output
        self.view = NodeView(config, keys, self.node, self.blocks, self._side)
        self.rpc = RPCRoom(config, self.view)

    def _signed_replica(self) -> SignedReplica:
        return ChainReplica(self.machine)

    def _open_files(self) -> None:
        super()._open_files()
        self.store.open()

    def _core(self) -> Tendermint:
        core = self.node.host.root
        assert isinstance(core, Tendermint), "its entry has a core that drives apps"
        return core

    def _on_height(self, height: int) -> None:
        self.blocks.take(self._log.after(self.store.height, height))

    async def start(self) -> None:
        """As of a Server. Raises OSError too if the RPC's port is not to be had."""
        await super().start()
        try:
            await self.rpc.open()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """As of a Server."""
        try:
            await self.rpc.close()
        finally:
            self._side.stop()
            try:
                await super().stop()
            finally:
                await self.blocks.stop()
