"""NodeView: what the RPC and others ask of a node of a chain: its blocks with all that belongs to them, mempool, app.

It is a ChainView. What was decided is told once the store has it, so that a listener can ask for the height at once.
What was pruned is None, as is what is yet to come. The core is read on the loop, so between two of its steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from quorate.kernel import mask_of
from quorate.ledger.comet.abci.request_messages import RequestInitChain, RequestQuery
from quorate.ledger.comet.abci.response_messages import (
    ResponseCheckTx,
    ResponseFinalizeBlock,
    ResponseInfo,
    ResponseQuery,
)
from quorate.ledger.comet.commits import Commit
from quorate.ledger.comet.evidence import Misconduct
from quorate.ledger.comet.json_shapes import to_json
from quorate.ledger.comet.params import CONSENSUS_PARAMS, ConsensusParams
from quorate.ledger.comet.rpc.view import (
    ChainBlock,
    CometNodeInfo,
    CometPeer,
    ConsensusMoment,
    DecidedHeight,
    WaitingTxs,
)
from quorate.ledger.comet.validators import PUBLIC_KEY, CometValidator, ValidatorKey, key_address
from quorate.parts.crypto.keys import Keys
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.height import Height
from quorate.protocols.tendermint.named_blocks import id_of
from quorate.runtime.node import Node
from quorate.service.comet.app_side import AppSide
from quorate.service.comet.block_store import AppliedBlock, StoredBlock, stored_of
from quorate.service.comet.chain_blocks import ChainBlocks
from quorate.service.config import NodeConfig
from quorate.service.node_names import name_of

NEW_HEIGHT: Final = 1
COMMIT: Final = 8
STEPS: Final = {Step.PROPOSE: 3, Step.PREVOTE: 4, Step.PRECOMMIT: 6}
"""CometBFT's numbers (``consensus/types/round_state.go``)."""


class NodeView:
    """Of one node that has started. What is refused raises RPCRefusal; what needs the store, BlockStoreFailed too."""

    def __init__(self, config: NodeConfig, keys: Keys, node: Node, blocks: ChainBlocks, side: AppSide) -> None:
        self._config = config
        self._keys = keys
        self._node = node
        self._blocks = blocks
        self._store = blocks.store
        self._side = side
        self._hearers: list[Callable[[DecidedHeight], None]] = []
        self._at_hand: tuple[int, StoredBlock] | None = None
        """The last block that was told, which most ask for, or read, of which they ask for all parts."""
        self._blocks.on_applied = self._applied

    @property
    def core(self) -> Tendermint:
        """To be read between two steps."""
        core = self._node.host.root
        assert isinstance(core, Tendermint)
        return core

    # --- blocks ---

    def earliest_height(self) -> int:
        """0: there is none."""
        return self._store.base

    def latest_height(self) -> int:
        """0: there is none."""
        return self._store.height

    def is_catching_up(self) -> bool:
        """Its app is told of old blocks; or it has not heard yet how far a quorum is; or one correct node at least is
        more than one height beyond it."""
        core = self.core
        if core.chain.state.last_height < self.latest_height():
            return True
        quorum, others = core.committee.quorum, core.log.others_next
        beyond = [node for node, height in others.items() if height > core.current.next + 1]
        return not quorum.is_quorum(mask_of([*others, core.env.id])) or quorum.is_blocking(mask_of(beyond))

    async def stored(self, height: int) -> StoredBlock | None:
        """A block with all that is kept of it."""
        if self._at_hand is not None and self._at_hand[0] == height >= self._store.base:
            return self._at_hand[1]
        found = await self._blocks.in_thread(self._store.get, height)
        if found is not None:
            self._at_hand = height, found
        return found

    async def block_of(self, height: int) -> ChainBlock | None:
        """With its name."""
        found = await self.stored(height)
        return None if found is None else ChainBlock(found.seen_commit.block_id, found.block, found.size_bytes)

    async def height_of(self, block_hash: bytes) -> int | None:
        """Of the block with this hash."""
        return await self._blocks.in_thread(self._store.height_of, block_hash)

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
        await self._until_stored(height)
        if height == self.core.chain.state.next_height:
            return self.core.chain.state.validators.validators
        found = await self.stored(height)
        return None if found is None else found.validators.validators

    async def params_of(self, height: int) -> ConsensusParams | None:
        """The rules for it, the height after the latest too."""
        await self._until_stored(height)
        if height == self.core.chain.state.next_height:
            return self.core.chain.params.whole()
        found = await self.stored(height)
        return None if found is None else found.params

    async def _until_stored(self, height: int) -> None:
        """The core is a moment ahead of the store. What its log does not have any more never comes."""
        core = self.core
        while max(self.latest_height(), core.log.base) < height <= core.chain.state.last_height:
            await self._blocks.until_more()

    def listen(self, hear: Callable[[DecidedHeight], None]) -> Callable[[], None]:
        """Each height that is new in the store is told; the call that is returned ends that."""
        self._hearers.append(hear)
        return lambda: self._hearers.remove(hear)

    def _applied(self, blocks: Sequence[AppliedBlock]) -> None:
        if self._hearers:
            for applied in blocks:
                found = stored_of(applied)
                self._at_hand = applied.height, found
                decided = DecidedHeight(found.seen_commit.block_id, found.block, found.answer)
                for hear in list(self._hearers):
                    hear(decided)

    # --- the node ---

    def genesis_document(self) -> Mapping[str, Any]:
        return genesis_of(self._side.genesis())

    def node_info(self) -> CometNodeInfo:
        return self._info(self._config.node)

    def _info(self, node: int) -> CometNodeInfo:
        member, core = self._config.nodes[node], self.core
        return CometNodeInfo(
            id=key_address(self._keys.keyring.public(node)).hex(),
            listen_addr=f"tcp://{member.listens_peer if node == self._config.node else member.peer}",
            network=core.chain.id,
            moniker=name_of(node),
            rpc_address=f"tcp://{member.rpc}" if member.rpc else "",
            app_version=core.chain.params.version.app,
        )

    def peers(self) -> Sequence[CometPeer]:
        up = self._node.peers.up_for(asyncio.get_running_loop().time())
        return [
            CometPeer(self._info(node), host, is_outbound=True, duration_ns=int(since_s * 1e9))
            for node, (host, since_s) in up.items()
        ]

    def validator_key(self) -> ValidatorKey:
        return ValidatorKey(self._keys.keyring.public(self._keys.node))

    def consensus_moment(self) -> ConsensusMoment:
        """Votes are not shown, and the start is the time of the block before."""
        core = self.core
        rules, state = core.current.open.rules, core.chain.state
        is_open = core.current.open.number == state.next_height
        by_address = list(state.validators.by_address())
        address = core.committee.address(core.committee.proposer(rules.round if is_open else 0))
        place = by_address.index(address)
        return ConsensusMoment(
            height=state.next_height,
            round=rules.round if is_open else 0,
            step=_step(rules) if is_open else NEW_HEIGHT,
            start_time=state.last_time.text(),
            locked_block_hash=_hash(rules.locked_value) if is_open else b"",
            valid_block_hash=_hash(rules.valid_value) if is_open else b"",
            proposer=state.validators.validators[place],
            proposer_index=place,
        )

    # --- transactions and the app ---

    def waiting_txs(self, count_max: int) -> WaitingTxs:
        """Those that were checked."""
        txs = self._side.waiting_txs()
        return WaitingTxs(txs[:count_max], len(txs), sum(map(len, txs)))

    async def submit_tx(self, tx: bytes) -> ResponseCheckTx:
        """As of an AppSide."""
        return await self._side.submit_tx(tx)

    async def check_tx(self, tx: bytes) -> ResponseCheckTx:
        """As of an AppSide."""
        return await self._side.check_tx(tx)

    async def app_info(self) -> ResponseInfo:
        return await self._side.app_info()

    async def query_app(self, request: RequestQuery) -> ResponseQuery:
        """As of an AppSide."""
        return await self._side.query_app(request)

    async def add_evidence(self, piece: Misconduct) -> None:
        """As of an AppSide."""
        await self._side.add_evidence(piece)


def genesis_of(begins: RequestInitChain) -> Mapping[str, Any]:
    """The genesis as CometBFT's ``genesis.json`` has it, of what an app is told of it. Validators have no names."""
    assert begins.consensus_params is not None, "a chain begins with all parameters"
    return {
        "genesis_time": begins.time.text(),
        "chain_id": begins.chain_id,
        "initial_height": str(begins.initial_height),
        "consensus_params": to_json(CONSENSUS_PARAMS, begins.consensus_params),
        "validators": [
            {
                "address": update.pub_key.address.hex().upper(),
                "pub_key": to_json(PUBLIC_KEY, update.pub_key),
                "power": str(update.power),
                "name": "",
            }
            for update in begins.validators
        ],
        "app_hash": "",
    }


def _step(rules: Height) -> int:
    if rules.decision is not None:
        return COMMIT
    return STEPS[rules.step] if rules.is_started else NEW_HEIGHT


def _hash(value: bytes | None) -> bytes:
    """Of the block of this name."""
    return b"" if value is None else id_of(value).hash
