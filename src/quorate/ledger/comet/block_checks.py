"""Whether a block is the chain's next one: what every node checks before it votes for a block.

Who could propose in which round is not checked, as a header does not say its round; that is for the rules of consensus.
Evidence is checked by ``evidence_checks``, and what the transactions mean by the app.

Source: CometBFT 0.38, ``spec/core/data_structures.md``, ``validateBlock`` in ``state/validation.go``.
"""

from __future__ import annotations

import msgspec

from quorate.ledger.comet.block_ids import BlockID
from quorate.ledger.comet.blocks import Block
from quorate.ledger.comet.commits import Commit, block_time
from quorate.ledger.comet.evidence import EVIDENCE_LIST
from quorate.ledger.comet.headers import ConsensusVersion, Header
from quorate.ledger.comet.params import BlockParams, EvidenceParams, consensus_hash
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.comet.validators import CometValidatorSet
from quorate.ledger.comet.verification import verify_commit
from quorate.parts.crypto.zip215 import VerifySignature, verify_zip215


class ChainState(msgspec.Struct, frozen=True):
    """Where a chain stands after a block, or at its genesis: all that the next header depends on.

    ``last_height`` is 0 at the genesis, ``last_time`` the genesis time then, and there are no ``last_validators``.
    """

    chain_id: str
    initial_height: int
    version: ConsensusVersion
    last_height: int
    last_block_id: BlockID
    last_time: Timestamp
    last_validators: CometValidatorSet | None
    validators: CometValidatorSet
    next_validators: CometValidatorSet
    block_params: BlockParams
    evidence_params: EvidenceParams
    app_hash: bytes
    last_results_hash: bytes

    @property
    def next_height(self) -> int:
        """Of the block that follows."""
        return self.last_height + 1 if self.last_height else self.initial_height


def check_follows(block: Block, state: ChainState, verify: VerifySignature = verify_zip215) -> None:
    """Raises ValueError unless the block is in order by itself, and follows on this state."""
    block.check()
    _check_header(block.header, state)
    _check_last_commit(block, state, verify)
    size = len(EVIDENCE_LIST.encode(block.evidence))
    if size > state.evidence_params.max_bytes:
        raise ValueError(f"block: {size} bytes of evidence, at most {state.evidence_params.max_bytes}")


def _check_header(header: Header, state: ChainState) -> None:
    if header.version != state.version:
        raise ValueError(f"block: version {header.version.block}, {header.version.app}, and not the chain's")
    if header.chain_id != state.chain_id:
        raise ValueError(f"block: of chain {header.chain_id!r}, not {state.chain_id!r}")
    if header.height != state.next_height:
        raise ValueError(f"block: height {header.height}, not {state.next_height}")
    if header.last_block_id != state.last_block_id:
        raise ValueError("block: it follows on another block")
    for name, found, expected in (
        ("app_hash", header.app_hash, state.app_hash),
        ("consensus_hash", header.consensus_hash, consensus_hash(state.block_params)),
        ("last_results_hash", header.last_results_hash, state.last_results_hash),
        ("validators_hash", header.validators_hash, state.validators.hash()),
        ("next_validators_hash", header.next_validators_hash, state.next_validators.hash()),
    ):
        if found != expected:
            raise ValueError(f"block: {name} {found.hex()}, not {expected.hex()}")
    if header.proposer_address not in state.validators.by_address():
        raise ValueError(f"block: its proposer {header.proposer_address.hex()} is not a validator")


def _check_last_commit(block: Block, state: ChainState, verify: VerifySignature) -> None:
    """The commit of the block before, and the time that follows from it."""
    header, commit = block.header, block.last_commit
    assert commit is not None  # Block.check
    if not state.last_height:
        if commit != Commit():
            raise ValueError("block: the first one, with a commit of one before")
        if header.time != state.last_time:
            raise ValueError(f"block: the first one has the time of the genesis, {state.last_time.text()}")
        return
    assert state.last_validators is not None
    verify_commit(state.chain_id, state.last_validators, state.last_block_id, state.last_height, commit, verify)
    if header.time <= state.last_time:
        raise ValueError(f"block: time goes back, from {state.last_time.text()} to {header.time.text()}")
    median = block_time(commit, state.last_validators.by_address())
    if header.time != median:
        raise ValueError(f"block: time {header.time.text()}, not the median of its votes, {median.text()}")
