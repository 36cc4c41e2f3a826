"""RequestsSide: an AppSide of a node whose transactions are requests that clients signed, over a store or over objects.

A transaction that is no such request, or that can have no effect any more, is refused by code, as an app's CheckTx
refuses one. Any other is taken as from a client. The core tells the other nodes of it (``passing.py``), since it came
to this one alone. What comes of its commands is for its client to ask: the RPC shows that a block has it.

Evidence that somebody shows to this node is taken in by the core, as behind an ABCI app (``accusing.py``). What a block
blames a node for has no effect here: the validators never change.

``abci_query`` reads the key-value store, as this node has applied it. Nothing that a header says proves the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from quorate.ledger.comet.abci.request_messages import RequestInitChain, RequestQuery
from quorate.ledger.comet.abci.response_messages import ResponseCheckTx, ResponseInfo, ResponseQuery
from quorate.ledger.comet.evidence import MISCONDUCT, Misconduct
from quorate.ledger.comet.rpc.view import RPCRefusal
from quorate.machines.kv import commands as kv
from quorate.machines.kv.machine import KvMachine
from quorate.parts import requests
from quorate.parts.crypto.keys import Keyring
from quorate.protocols.tendermint.app_messages import TX_BYTES_MAX, EvidenceTaken, Transactions, TxChecked
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.mempool import EMPTY
from quorate.protocols.tendermint.messages import Accusation
from quorate.protocols.tendermint.requests_app import RequestsApp
from quorate.release import release
from quorate.runtime.node import Node
from quorate.service.comet.chain_blocks import ChainBlocks
from quorate.service.comet.log_blocks import LogBlocks
from quorate.service.comet.waiters import Waiters
from quorate.service.signed import SignedReplica

CODESPACE: Final = "quorate"
NOT_SIGNED, NO_COMMANDS, WRONG_SIGNATURE, SPENT = 1, 2, 3, 4
"""Why a transaction is refused."""
NO_SUCH_QUERY: Final = 1
STORE_PATH: Final = "/store"


class RequestsSide:
    """Of one node that has started."""

    def __init__(
        self, node: Node, replica: SignedReplica, keyring: Keyring, log: LogBlocks, blocks: ChainBlocks
    ) -> None:
        self._node = node
        self._replica = replica
        self._keyring = keyring
        self._log = log
        self._blocks = blocks
        self._asking: Waiters[TxChecked] = Waiters()
        self._showing: Waiters[str] = Waiters()

    @property
    def _app(self) -> RequestsApp:
        core = self._node.host.root
        assert isinstance(core, Tendermint)
        assert isinstance(core.app, RequestsApp)
        return core.app

    def genesis(self) -> RequestInitChain:
        return self._log.genesis()

    # --- transactions ---

    def waiting_txs(self) -> Sequence[bytes]:
        return tuple(self._app.pending.waiting.values())

    async def check_tx(self, tx: bytes) -> ResponseCheckTx:
        """The codes are this module's."""
        request = requests.decode_signed_request(tx)
        if request is None:
            return _refused(NOT_SIGNED, "a transaction of this chain is a request that a client of Quorate signed")
        if not self._replica.takes(request):
            return _refused(NO_COMMANDS, "what the request asks for is no command of this cluster")
        if not requests.is_signed(tx, self._keyring):
            return _refused(WRONG_SIGNATURE, "the client did not sign this request")
        if self._replica.is_spent(tx):
            return _refused(SPENT, "all that the request asks for was done, or can never be: it is not ordered again")
        return ResponseCheckTx()

    async def submit_tx(self, tx: bytes) -> ResponseCheckTx:
        """As of an AppSide."""
        if not tx:
            raise RPCRefusal(EMPTY)
        if len(tx) > TX_BYTES_MAX:
            raise RPCRefusal(f"a transaction of {len(tx)} bytes, at most {TX_BYTES_MAX}")
        checked = await self.check_tx(tx)
        if checked.code:
            return checked
        answer, is_first = self._asking.wait(tx)
        if is_first:
            self._node.tell(Transactions((tx,)))
        taken = await answer
        if taken.answer is None:
            raise RPCRefusal(taken.why)
        return taken.answer

    def output(self, value: Any) -> None:
        """Of the core, for the call that waits for it."""
        if isinstance(value, TxChecked):
            self._asking.tell(value.tx, value)
        elif isinstance(value, EvidenceTaken):
            self._showing.tell(value.piece, value.why)

    def stop(self) -> None:
        """Nobody is answered any more."""
        self._asking.cancel()
        self._showing.cancel()

    # --- the state ---

    async def app_info(self) -> ResponseInfo:
        store = self._blocks.store
        last = await self._blocks.in_thread(store.get, store.height)
        height, app_hash = (0, b"") if last is None else (last.block.header.height, last.answer.app_hash)
        return ResponseInfo("quorate", release(), 0, height, app_hash)

    async def query_app(self, request: RequestQuery) -> ResponseQuery:
        """The value of a key in the state as it is."""
        if why := self._why_not(request):
            return ResponseQuery(NO_SUCH_QUERY, why, height=self._log.height, codespace=CODESPACE)
        if self._node.is_loading:
            raise RPCRefusal("a snapshot is being loaded")
        try:
            found = kv.decode_result(self._replica.read(kv.encode(kv.Range(request.data))))
        except OSError as error:  # the store writes before it reads
            raise RPCRefusal(str(error)) from None
        height = self._log.height
        if isinstance(found, kv.Error):
            return ResponseQuery(NO_SUCH_QUERY, found.message, height=height, codespace=CODESPACE)
        assert isinstance(found, kv.RangeResult), "what a query of a range answers"
        if not found.kvs:
            return ResponseQuery(0, "does not exist", key=request.data, height=height)
        return ResponseQuery(0, "exists", key=request.data, value=found.kvs[0].value, height=height)

    def _why_not(self, request: RequestQuery) -> str:
        if not isinstance(self._replica.machine, KvMachine):
            return "this node replicates objects, and has no keys: ask the object, by its handle"
        if request.path not in ("", STORE_PATH):
            return f"no such path: {STORE_PATH}, with the key as data"
        if request.height:
            return "the state of past heights is not kept: leave height out"
        if request.prove:
            return "a header has no hash of the store, so nothing proves a value: leave prove out, or ask f + 1 nodes"
        return ""

    async def add_evidence(self, piece: Misconduct) -> None:
        """As of an AppSide."""
        data = MISCONDUCT.encode(piece)
        answer, is_first = self._showing.wait(data)
        if is_first:
            self._node.tell(Accusation(1, data))
        if why := await answer:
            raise RPCRefusal(why)


def _refused(code: int, why: str) -> ResponseCheckTx:
    return ResponseCheckTx(code, log=why, codespace=CODESPACE)
