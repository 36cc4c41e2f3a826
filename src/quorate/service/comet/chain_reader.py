"""ChainReader: what others ask of a node of a chain: its blocks with all that belongs to them, its mempool, its app.

What was decided is told once the store has it, so that whoever hears of a height can ask for it. What was pruned is
None, as is what is yet to come.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.ledger.comet.abci.engine_end import AppBusy, AppFailed
from quorate.ledger.comet.abci.request_messages import RequestCheckTx, RequestQuery
from quorate.ledger.comet.abci.response_messages import (
    ResponseCheckTx,
    ResponseFinalizeBlock,
    ResponseInfo,
    ResponseQuery,
)
from quorate.ledger.comet.commits import Commit
from quorate.ledger.comet.params import ConsensusParams
from quorate.ledger.comet.validators import CometValidator
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.driven_app import ENGINE
from quorate.service.comet.block_store import StoredBlock
from quorate.service.comet.chain_server import ChainServer


class ChainRefusal(Exception):
    """Why something cannot be had; the text is for whoever asked."""


class ChainReader:
    """Of one node that has started. What raises ChainRefusal says so; the others may raise BlockStoreFailed."""

    def __init__(self, server: ChainServer) -> None:
        self._server = server
        self._service = server.service

    @property
    def core(self) -> AppChain:
        """To be read between two steps."""
        core = self._server.node.host.root
        assert isinstance(core, AppChain)
        return core

    # --- blocks ---

    def earliest_height(self) -> int:
        """0: there is none."""
        return self._server.store.base

    def latest_height(self) -> int:
        """0: there is none."""
        return self._server.store.height

    async def stored(self, height: int) -> StoredBlock | None:
        """A block with all that is kept of it."""
        return await self._service.in_thread(self._server.store.get, height)

    async def height_of(self, block_hash: bytes) -> int | None:
        """Of the block with this hash."""
        return await self._service.in_thread(self._server.store.height_of, block_hash)

    async def results_of(self, height: int) -> ResponseFinalizeBlock | None:
        """What the app said of the block."""
        found = await self.stored(height)
        return None if found is None else found.answer

    async def commit_of(self, height: int) -> Commit | None:
        """The one in the next block, or the one that this node has if there is no next block."""
        after = await self.stored(height + 1)
        if after is not None:
            return after.block.last_commit if height >= self.earliest_height() else None
        found = await self.stored(height)
        return None if found is None else found.seen_commit

    async def validators_of(self, height: int) -> Sequence[CometValidator] | None:
        """Who votes on it, the height after the latest too."""
        if height == self.core.chain.state.next_height:
            return self.core.chain.state.validators.validators
        found = await self.stored(height)
        return None if found is None else found.validators.validators

    async def params_of(self, height: int) -> ConsensusParams | None:
        """The rules for it, the height after the latest too."""
        if height == self.core.chain.state.next_height:
            return self.core.chain.params.whole()
        found = await self.stored(height)
        return None if found is None else found.params

    # --- transactions and the app ---

    async def submit_tx(self, tx: bytes) -> ResponseCheckTx:
        """Have it checked, and wait for a block if the code is 0. Raises ChainRefusal if the app was not asked."""
        checked = await self._service.submit(tx)
        if checked.answer is None:
            raise ChainRefusal(checked.why)
        return checked.answer

    async def check_tx(self, tx: bytes) -> ResponseCheckTx:
        """Have it checked, and nothing else. Raises ChainRefusal."""
        try:
            return await self._server.doers.calls.ask(RequestCheckTx(tx), ResponseCheckTx)
        except (AppFailed, AppBusy) as error:
            raise ChainRefusal(str(error)) from None

    async def app_info(self) -> ResponseInfo:
        """What the app says of itself. Raises ChainRefusal."""
        try:
            return await self._server.doers.calls.ask(ENGINE, ResponseInfo)
        except (AppFailed, AppBusy) as error:
            raise ChainRefusal(str(error)) from None

    async def query_app(self, request: RequestQuery) -> ResponseQuery:
        """Read the app's state. Raises ChainRefusal."""
        try:
            return await self._server.doers.calls.ask(request, ResponseQuery)
        except (AppFailed, AppBusy) as error:
            raise ChainRefusal(str(error)) from None
