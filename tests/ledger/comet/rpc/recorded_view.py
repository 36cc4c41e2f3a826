"""A ChainView of the chain in recorded/rpc.jsonl, with our kvstore behind it."""

import json
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from quorate.ledger.comet.abci.contents import CommitInfo, ValidatorUpdate
from quorate.ledger.comet.abci.request_messages import (
    CheckTxType,
    RequestCheckTx,
    RequestCommit,
    RequestFinalizeBlock,
    RequestInfo,
    RequestInitChain,
    RequestQuery,
)
from quorate.ledger.comet.abci.response_messages import (
    ResponseCheckTx,
    ResponseFinalizeBlock,
    ResponseInfo,
    ResponseQuery,
)
from quorate.ledger.comet.block_ids import BLOCK_ID
from quorate.ledger.comet.blocks import BLOCK, Block
from quorate.ledger.comet.commits import COMMIT, Commit
from quorate.ledger.comet.evidence import Misconduct
from quorate.ledger.comet.json_shapes import of_json
from quorate.ledger.comet.params import CONSENSUS_PARAMS, ConsensusParams
from quorate.ledger.comet.rpc.view import (
    ChainBlock,
    CometNodeInfo,
    CometPeer,
    ConsensusMoment,
    DecidedHeight,
    IndexedTx,
    RPCRefusal,
    WaitingTxs,
)
from quorate.ledger.comet.validators import PUBLIC_KEY, VALIDATOR, CometValidator, ValidatorKey
from quorate.machines.abci.kvstore import KVStoreApp

RECORDED = Path(__file__).parents[1] / "recorded" / "rpc.jsonl"


@cache
def lines(kind: str) -> list[Any]:
    """What was recorded of one kind: chain, talk, heard, asked."""
    found = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    return [line[kind] for line in found if kind in line]


def finalized(app: KVStoreApp, block: Block) -> ResponseFinalizeBlock:
    """What the app makes of a block, which is what CometBFT's kvstore made of it."""
    header = block.header
    answer = app.answer(
        RequestFinalizeBlock(block.data.txs, CommitInfo(), (), header.hash(), header.height, header.time)
    )
    assert isinstance(answer, ResponseFinalizeBlock)
    app.answer(RequestCommit())
    return answer


class RecordedView:
    """The node that was recorded, with the blocks up to ``height``. A transaction that is handed in waits for ever."""

    def __init__(self, height: int | None = None) -> None:
        self.chain = lines("chain")[0]
        self.app = KVStoreApp()
        genesis = self.chain["genesis"]
        voters = [ValidatorUpdate(of_json(PUBLIC_KEY, v["pub_key"]), int(v["power"])) for v in genesis["validators"]]
        self.app.answer(RequestInitChain(chain_id=genesis["chain_id"], validators=tuple(voters), initial_height=1))
        self.decided: list[DecidedHeight] = []
        self.seen: set[bytes] = set()
        self.waiting: list[bytes] = []
        self.evidence: list[Misconduct] = []
        self.hearers: list[Callable[[DecidedHeight], None]] = []
        for _ in range(len(self.chain["blocks"]) if height is None else height):
            self.decide()

    def decide(self) -> DecidedHeight:
        """The next block of the recording is decided and run."""
        raw = self.chain["blocks"][len(self.decided)]
        block = of_json(BLOCK, raw["block"])
        found = DecidedHeight(of_json(BLOCK_ID, raw["block_id"]), block, finalized(self.app, block))
        self.decided.append(found)
        for hear in list(self.hearers):
            hear(found)
        return found

    def earliest_height(self) -> int:
        return 1 if self.decided else 0

    def latest_height(self) -> int:
        return len(self.decided)

    def is_catching_up(self) -> bool:
        return False

    def _at(self, height: int) -> DecidedHeight | None:
        return self.decided[height - 1] if 0 < height <= len(self.decided) else None

    async def block_of(self, height: int) -> ChainBlock | None:
        found = self._at(height)
        return None if found is None else ChainBlock(found.block_id, found.block, len(BLOCK.encode(found.block)))

    async def height_of(self, block_hash: bytes) -> int | None:
        heights = [found.block.header.height for found in self.decided if found.block_id.hash == block_hash]
        return heights[0] if heights else None

    async def commit_of(self, height: int) -> Commit | None:
        if height == len(self.chain["blocks"]):
            return of_json(COMMIT, self.chain["commit"]["signed_header"]["commit"])
        return of_json(BLOCK, self.chain["blocks"][height]["block"]).last_commit

    async def results_of(self, height: int) -> ResponseFinalizeBlock | None:
        found = self._at(height)
        return None if found is None else found.results

    async def validators_of(self, height: int) -> Sequence[CometValidator] | None:
        if not 0 < height <= len(self.chain["validators"]):
            return None
        return [of_json(VALIDATOR, item) for item in self.chain["validators"][height - 1]["validators"]]

    async def params_of(self, height: int) -> ConsensusParams | None:
        return of_json(CONSENSUS_PARAMS, self.chain["params"][height - 1]["consensus_params"])

    def genesis_document(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.chain["genesis"]
        return found

    def node_info(self) -> CometNodeInfo:
        info = self.chain["status"]["node_info"]
        rpc = info["other"]["rpc_address"]
        return CometNodeInfo(info["id"], info["listen_addr"], info["network"], info["moniker"], rpc, 1)

    def peers(self) -> Sequence[CometPeer]:
        return ()

    def validator_key(self) -> ValidatorKey:
        return ValidatorKey(b64decode(self.chain["status"]["validator_info"]["pub_key"]["value"]))

    def consensus_moment(self) -> ConsensusMoment:
        return ConsensusMoment(len(self.decided) + 1, 0, 1, "2026-11-30T13:30:00Z")

    def waiting_txs(self, count_max: int) -> WaitingTxs:
        return WaitingTxs(self.waiting[:count_max], len(self.waiting), sum(map(len, self.waiting)))

    async def submit_tx(self, tx: bytes) -> ResponseCheckTx:
        if tx in self.seen:
            raise RPCRefusal("tx already exists in cache")
        checked = await self.check_tx(tx)
        if not checked.code:
            self.seen.add(tx)
        return checked

    async def check_tx(self, tx: bytes) -> ResponseCheckTx:
        answer = self.app.answer(RequestCheckTx(tx, CheckTxType.NEW))
        assert isinstance(answer, ResponseCheckTx)
        return answer

    async def app_info(self) -> ResponseInfo:
        answer = self.app.answer(RequestInfo())
        assert isinstance(answer, ResponseInfo)
        return answer

    async def query_app(self, request: RequestQuery) -> ResponseQuery:
        answer = self.app.answer(request)
        assert isinstance(answer, ResponseQuery)
        return answer

    async def add_evidence(self, piece: Misconduct) -> None:
        self.evidence.append(piece)

    def listen(self, hear: Callable[[DecidedHeight], None]) -> Callable[[], None]:
        self.hearers.append(hear)
        return lambda: self.hearers.remove(hear)


class Nobody:
    """A caller that waits for no block: each transaction is decided in the recorded one that has it."""

    def __init__(self, view: RecordedView) -> None:
        self.view = view

    def subscribe(self, query: str) -> None:
        raise AssertionError("only for WebSockets")

    unsubscribe = subscribe

    def unsubscribe_all(self) -> None:
        raise AssertionError("only for WebSockets")

    async def until_decided(
        self, tx: bytes, submit: Callable[[], Awaitable[ResponseCheckTx]]
    ) -> tuple[ResponseCheckTx, IndexedTx | None]:
        checked = await submit()
        if checked.code:
            return checked, None
        found = next(d for d in self.view.decided if tx in d.block.data.txs)
        at = found.block.data.txs.index(tx)
        return checked, IndexedTx(found.block.header.height, at, tx, found.results.tx_results[at])
