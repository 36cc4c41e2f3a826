"""AppSide: what a NodeView asks of what stands behind a node's blocks; and the one of a node that drives an ABCI app.

The other one is that of a node whose transactions are clients' requests (``requests_side.py``). What is refused for a
reason that the caller may hear raises RPCRefusal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from quorate.ledger.comet.abci.engine_end import AppBusy, AppFailed
from quorate.ledger.comet.abci.request_messages import Request, RequestCheckTx, RequestInitChain, RequestQuery
from quorate.ledger.comet.abci.response_messages import Response, ResponseCheckTx, ResponseInfo, ResponseQuery
from quorate.ledger.comet.evidence import MISCONDUCT, Misconduct
from quorate.ledger.comet.rpc.view import RPCRefusal
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.driven_app import ENGINE
from quorate.runtime.node import Node
from quorate.service.comet.app_doers import AppDoers
from quorate.service.comet.chain_service import ChainService

R = TypeVar("R", bound=Response)


class AppSide(Protocol):
    """Of one node that has started."""

    def genesis(self) -> RequestInitChain:
        """What an app is told of the genesis."""

    def waiting_txs(self) -> Sequence[bytes]:
        """Those that were checked and are in no block."""

    async def submit_tx(self, tx: bytes) -> ResponseCheckTx:
        """Have it checked, and wait for a block if the code is 0. Raises RPCRefusal if nobody was asked."""

    async def check_tx(self, tx: bytes) -> ResponseCheckTx:
        """Have it checked, and nothing else. Raises RPCRefusal."""

    async def app_info(self) -> ResponseInfo:
        """What there is to say of the app. Raises RPCRefusal."""

    async def query_app(self, request: RequestQuery) -> ResponseQuery:
        """Read the app's state. Raises RPCRefusal."""

    async def add_evidence(self, piece: Misconduct) -> None:
        """It is durable, and told to the other nodes. Raises RPCRefusal."""


class DrivenSide:
    """An ABCI app has its say."""

    def __init__(self, node: Node, service: ChainService, doers: AppDoers) -> None:
        self._node = node
        self._service = service
        self._doers = doers

    @property
    def _core(self) -> AppChain:
        core = self._node.host.root
        assert isinstance(core, AppChain)
        return core

    def genesis(self) -> RequestInitChain:
        return self._core.app.genesis

    def waiting_txs(self) -> Sequence[bytes]:
        return self._core.app.mempool.txs

    async def submit_tx(self, tx: bytes) -> ResponseCheckTx:
        """As of an AppSide."""
        checked = await self._service.submit(tx)
        if checked.answer is None:
            raise RPCRefusal(checked.why)
        return checked.answer

    async def check_tx(self, tx: bytes) -> ResponseCheckTx:
        """As of an AppSide."""
        return await self._ask(RequestCheckTx(tx), ResponseCheckTx)

    async def app_info(self) -> ResponseInfo:
        return await self._ask(ENGINE, ResponseInfo)

    async def query_app(self, request: RequestQuery) -> ResponseQuery:
        """As of an AppSide."""
        return await self._ask(request, ResponseQuery)

    async def _ask(self, request: Request, kind: type[R]) -> R:
        try:
            return await self._doers.calls.ask(request, kind)
        except (AppFailed, AppBusy) as error:
            raise RPCRefusal(str(error)) from None

    async def add_evidence(self, piece: Misconduct) -> None:
        """As of an AppSide."""
        if why := await self._service.show(MISCONDUCT.encode(piece), self._node.tell):
            raise RPCRefusal(why)
