"""Chain: where the chain stands after the last block, what the next one must say, and what is made of it.

The rules of blocks are CometBFT's (``ledger/comet/block_checks.py``). What the app said of a block (its hash, the
results of the transactions, changes of validators) is in the header of the next one, or later; so a height begins when
the app has the block before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from msgspec.structs import replace

from quorate.ledger.comet.block_checks import ChainState, check_follows
from quorate.ledger.comet.block_ids import NIL
from quorate.ledger.comet.blocks import Block, BlockData
from quorate.ledger.comet.commits import Commit, block_time
from quorate.ledger.comet.evidence import EvidenceList, Misconduct
from quorate.ledger.comet.headers import BLOCK_PROTOCOL, CHAIN_ID_BYTES_MAX, ConsensusVersion, Header
from quorate.ledger.comet.param_updates import ChainParams, updated_params
from quorate.ledger.comet.params import (
    BlockParams,
    ConsensusParams,
    Duration,
    EvidenceParams,
    VersionParams,
    consensus_hash,
)
from quorate.ledger.comet.results import last_results_hash
from quorate.ledger.comet.times import Timestamp
from quorate.parts.crypto.zip215 import VerifySignature
from quorate.protocols.tendermint.chain_app import Finalized
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.messages import ChainPoint
from quorate.protocols.tendermint.named_blocks import BLOCK_BYTES_MAX, NamedBlock, id_of, name_of_id

BLOCK_PARAMS: Final = BlockParams(BLOCK_BYTES_MAX, -1)
EVIDENCE_PARAMS: Final = EvidenceParams(10_000, Duration(60), 1 << 16)
"""Less than CometBFT's defaults: nodes remember the time of each such height, and each piece takes two signatures."""
VOTE_STEP_NS: Final = 1_000_000
"""By how much a vote is later than its block at least (CometBFT 0.38, ``spec/consensus/bft-time.md``)."""


def chain_id_of(cluster: str) -> str:
    """The cluster's name, where it is short enough for one; else a hash of it."""
    if 0 < len(cluster.encode()) <= CHAIN_ID_BYTES_MAX:
        return cluster
    return f"quorate-{sha256(cluster.encode()).hexdigest()[:40]}"


class Chain:
    """After the block before the open height. The attributes may be read; they change by ``advance``."""

    def __init__(self, chain_id: str, committee: Committee, genesis_s: int, verify: VerifySignature) -> None:
        self.id = chain_id
        self.committee = committee
        self.verify = verify
        self.params = ChainParams(BLOCK_PARAMS, EVIDENCE_PARAMS)
        """Of the next block."""
        self.last_commit = Commit()
        """Of the last block, for the next one."""
        self.state = ChainState(
            chain_id=chain_id,
            initial_height=1,
            version=ConsensusVersion(BLOCK_PROTOCOL, 0),
            last_height=0,
            last_block_id=NIL,
            last_time=Timestamp(genesis_s),
            last_validators=None,
            validators=committee.validators,
            next_validators=committee.next,
            block_params=BLOCK_PARAMS,
            evidence_params=EVIDENCE_PARAMS,
            app_hash=b"",
            last_results_hash=last_results_hash(()),
        )

    @property
    def next_time(self) -> Timestamp:
        """Of a block that this node makes: the median of the last commit's times, or that of the genesis."""
        state = self.state
        if state.last_validators is None:
            return state.last_time
        return block_time(self.last_commit, state.last_validators.by_address())

    def draft(self, node: int, txs: Sequence[bytes], evidence: Sequence[Misconduct] = ()) -> Block:
        """The next block, as this node proposes it."""
        state, data, pieces = self.state, BlockData(tuple(txs)), EvidenceList(tuple(evidence))
        header = Header(
            version=state.version,
            chain_id=state.chain_id,
            height=state.next_height,
            time=self.next_time,
            last_block_id=state.last_block_id,
            last_commit_hash=self.last_commit.hash(),
            data_hash=data.hash(),
            validators_hash=state.validators.hash(),
            next_validators_hash=state.next_validators.hash(),
            consensus_hash=consensus_hash(state.block_params),
            app_hash=state.app_hash,
            last_results_hash=state.last_results_hash,
            evidence_hash=pieces.hash(),
            proposer_address=self.committee.address(node),
        )
        return Block(header, data, pieces, self.last_commit)

    def extends(self, height: int) -> bool:
        """Whether precommits for a block of this height have extensions; of the next height, or of one before it."""
        enabled = self.params.abci.vote_extensions_enable_height
        return 0 < enabled <= height

    def refusal(self, block: Block) -> str | None:
        """Why this is not a next block; None: it is one, as far as the chain says."""
        try:
            check_follows(block, self.state, self.verify)
        except ValueError as error:
            return str(error)
        return None

    def vote_ns(self, wall_ns: int, block: Block | None) -> int:
        """The time of a vote for the block, or for none: now, and later than the block, or than the last one."""
        after = self.state.last_time if block is None else block.header.time
        return max(wall_ns, after.ns() + VOTE_STEP_NS)

    def point(self) -> ChainPoint:
        """Where the chain stands. There is a last block."""
        state, (last, now, after) = self.state, self.committee.sets()
        assert last is not None, "no block is decided yet"
        return ChainPoint(
            height=state.last_height,
            block=name_of_id(state.last_block_id),
            time_ns=state.last_time.ns(),
            app_hash=state.app_hash,
            results_hash=state.last_results_hash,
            last=last,
            now=now,
            after=after,
        )

    def stand_on(self, point: ChainPoint, commit: Commit) -> None:
        """The chain stands there; the commit is that of its last block."""
        self.committee.stand_on(point.last, point.now, point.after)
        self.last_commit = commit
        self.state = replace(
            self.state,
            last_height=point.height,
            last_block_id=id_of(point.block),
            last_time=Timestamp.of_ns(point.time_ns),
            last_validators=self.committee.last,
            validators=self.committee.validators,
            next_validators=self.committee.next,
            app_hash=point.app_hash,
            last_results_hash=point.results_hash,
        )

    def hold_by(self, params: ChainParams) -> None:
        """These are the parameters of the next block."""
        self.params = params
        self.state = replace(self.state, **self._of_params())

    def begin(
        self, app_version: int, app_hash: bytes, powers: Mapping[bytes, int], update: ConsensusParams | None
    ) -> None:
        """The app's say in the genesis, before the first block; ``powers`` by address, none: those there are.

        Raises ValueError for what no app may say.
        """
        version = VersionParams(app_version)
        self.params = updated_params(replace(self.params, version=version), update)
        if powers:
            self.committee.begin(powers)
        self.state = replace(
            self.state,
            app_hash=app_hash,
            validators=self.committee.validators,
            next_validators=self.committee.next,
            **self._of_params(),
        )

    def check(self, said: Finalized) -> None:
        """Raises ValueError for what no app may say."""
        self.committee.check(said.changes)
        updated_params(self.params, said.params, self.state.next_height)

    def _of_params(self) -> dict[str, Any]:
        """What the state has of the parameters."""
        return {
            "version": ConsensusVersion(BLOCK_PROTOCOL, self.params.version.app),
            "block_params": self.params.block,
            "evidence_params": self.params.evidence,
        }

    def advance(self, block: NamedBlock, commit: Commit, said: Finalized) -> None:
        """The block is decided, and the app has it. Raises ValueError for what no app may say."""
        self.committee.advance(said.changes)
        self.params = updated_params(self.params, said.params, block.block.header.height)
        self.last_commit = commit
        self.state = replace(
            self.state,
            last_height=block.block.header.height,
            last_block_id=block.id,
            last_time=block.block.header.time,
            last_validators=self.state.validators,
            validators=self.committee.validators,
            next_validators=self.committee.next,
            app_hash=said.app_hash,
            last_results_hash=last_results_hash(said.results),
            **self._of_params(),
        )
