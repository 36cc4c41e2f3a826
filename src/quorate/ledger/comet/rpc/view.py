"""ChainView: what the RPC asks of a node. And ChainIndex: what it asks of an index of transactions and blocks.

A node gives both; the routes know nothing else of it. Methods that may wait, for a disk or for the app, are coroutines.
What a node cannot do for a reason that the caller may hear raises RPCRefusal, whose text goes out as it is.

Heights that a method is asked for may lie outside of what the node has: the answer is None then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from quorate.ledger.comet.abci.request_messages import RequestQuery
from quorate.ledger.comet.abci.response_messages import (
    ResponseCheckTx,
    ResponseFinalizeBlock,
    ResponseInfo,
    ResponseQuery,
)
from quorate.ledger.comet.block_ids import BlockID
from quorate.ledger.comet.blocks import Block
from quorate.ledger.comet.commits import Commit
from quorate.ledger.comet.evidence import Misconduct
from quorate.ledger.comet.params import ConsensusParams
from quorate.ledger.comet.results import ExecTxResult
from quorate.ledger.comet.rpc.queries import EventQuery
from quorate.ledger.comet.validators import CometValidator, ValidatorKey

COMET_VERSION: Final = "0.38.26"
"""What node_info says: clients choose by it what they speak (CosmJS by its first two numbers)."""


class RPCRefusal(Exception):
    """Why something cannot be had, in words for the caller."""


class ChainBlock(msgspec.Struct, frozen=True):
    """A decided block, its name, and the size of its encoding in bytes."""

    block_id: BlockID
    block: Block
    size: int


class DecidedHeight(msgspec.Struct, frozen=True):
    """A block that was decided and run: what listeners and the index get, once for each height, in order."""

    block_id: BlockID
    block: Block
    results: ResponseFinalizeBlock


class CometNodeInfo(msgspec.Struct, frozen=True):
    """A node, as status and net_info show it. ``listen_addr``, ``rpc_address``: as tcp://127.0.0.1:26656."""

    id: str
    """40 digits in hexadecimal: the address of the key that the node proves itself with."""
    listen_addr: str
    network: str
    """The id of the chain."""
    moniker: str
    rpc_address: str
    app_version: int = 0
    tx_index: bool = True


class CometPeer(msgspec.Struct, frozen=True):
    """Another node that this one is connected to."""

    node_info: CometNodeInfo
    remote_ip: str
    is_outbound: bool
    duration_ns: int
    """How long the connection has been up."""


class WaitingTxs(msgspec.Struct, frozen=True):
    """The first transactions of the mempool, and how many there are, in all, with their bytes."""

    txs: Sequence[bytes]
    total: int
    total_bytes: int


class ConsensusMoment(msgspec.Struct, frozen=True):
    """Where consensus stands.

    ``step`` is CometBFT's number: 1 new height, 3 propose, 4 prevote, 6 precommit, 8 commit.
    """

    height: int
    round: int
    step: int
    start_time: str
    proposal_block_hash: bytes = b""
    locked_block_hash: bytes = b""
    valid_block_hash: bytes = b""
    proposer: CometValidator | None = None
    proposer_index: int = 0
    votes: Sequence[Mapping[str, Any]] = ()
    """As ``height_vote_set`` has them."""


class ChainView(Protocol):
    """A node of a chain, for reading and for handing in transactions."""

    def earliest_height(self) -> int:
        """The lowest height whose block is kept; 0 before the first block."""

    def latest_height(self) -> int:
        """The highest height that is decided and whose block was run; 0 before the first."""

    def is_catching_up(self) -> bool:
        """Whether the node is behind, and fetches blocks rather than voting."""

    async def block_of(self, height: int) -> ChainBlock | None: ...

    async def height_of(self, block_hash: bytes) -> int | None:
        """The height of the block with this hash."""

    async def commit_of(self, height: int) -> Commit | None:
        """What decided the height: the commit in the next block, or the one that this node saw, if there is no next."""

    async def results_of(self, height: int) -> ResponseFinalizeBlock | None: ...

    async def validators_of(self, height: int) -> Sequence[CometValidator] | None:
        """Who votes on a height, in the order of the set: from the earliest to the one after the latest."""

    async def params_of(self, height: int) -> ConsensusParams | None:
        """The rules for a height: from the earliest to the one after the latest."""

    def genesis_document(self) -> Mapping[str, Any]:
        """The genesis as JSON has it. It does not change."""

    def node_info(self) -> CometNodeInfo: ...

    def peers(self) -> Sequence[CometPeer]: ...

    def validator_key(self) -> ValidatorKey:
        """The key that this node votes with, or would."""

    def consensus_moment(self) -> ConsensusMoment: ...

    def waiting_txs(self, count_max: int) -> WaitingTxs: ...

    async def submit_tx(self, tx: bytes) -> ResponseCheckTx:
        """Have the app check a transaction, and take it into the mempool if the code is 0.

        Raises RPCRefusal before the app is asked: the mempool is full, the transaction too large, or it was seen before
        ("tx already exists in cache").
        """

    async def check_tx(self, tx: bytes) -> ResponseCheckTx:
        """Have the app check a transaction and do nothing else with it."""

    async def app_info(self) -> ResponseInfo: ...

    async def query_app(self, request: RequestQuery) -> ResponseQuery: ...

    async def add_evidence(self, piece: Misconduct) -> None:
        """Take evidence in, to be put into a block. Raises RPCRefusal if it does not hold."""

    def listen(self, hear: Callable[[DecidedHeight], None]) -> Callable[[], None]:
        """Have each height told once it was run, on the loop's thread; the call that is returned ends that."""


class IndexedTx(msgspec.Struct, frozen=True, array_like=True):
    """A transaction that was run: where it stands in the chain, and what came of it."""

    height: int
    index: int
    tx: bytes
    result: ExecTxResult


class SearchPage(msgspec.Struct, frozen=True):
    """How many were found in all, and in the order that was asked for those after ``skip``, at most ``count``."""

    total: int
    heights: Sequence[int] = ()
    txs: Sequence[IndexedTx] = ()


class ChainIndex(Protocol):
    """Where transactions and blocks are found again."""

    async def find_tx(self, tx_hash: bytes) -> IndexedTx | None: ...

    async def search_txs(self, query: EventQuery, *, descending: bool, skip: int, count: int) -> SearchPage:
        """By height and place in the block. Raises RPCRefusal for a query that costs too much."""

    async def search_blocks(self, query: EventQuery, *, descending: bool, skip: int, count: int) -> SearchPage:
        """By height. Raises RPCRefusal for a query that costs too much."""
