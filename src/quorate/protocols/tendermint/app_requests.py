"""What an ABCI app is asked about a block, in the words of ABCI 0.38.

Source: CometBFT 0.38, ``state/execution.go`` (CreateProposalBlock, ProcessProposal, applyBlock, buildLastCommitInfo).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import NamedTuple

from quorate.ledger.comet.abci.contents import (
    CommitInfo,
    ExtendedCommitInfo,
    ExtendedVoteInfo,
    Misbehavior,
    ValidatorUpdate,
    VoteInfo,
    VotingValidator,
    misbehaviors,
)
from quorate.ledger.comet.abci.request_messages import (
    RequestExtendVote,
    RequestFinalizeBlock,
    RequestInitChain,
    RequestPrepareProposal,
    RequestProcessProposal,
    RequestVerifyVoteExtension,
)
from quorate.ledger.comet.commits import Commit
from quorate.ledger.comet.evidence import Misconduct
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.comet.validators import CometValidatorSet
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.chain_app import Draft
from quorate.protocols.tendermint.effects import SignedVote
from quorate.protocols.tendermint.extensions import Extensions
from quorate.protocols.tendermint.messages import SignedExtension
from quorate.protocols.tendermint.named_blocks import NamedBlock, id_of


def init_chain(chain: Chain) -> RequestInitChain:
    """Before the first block: the genesis as the nodes' configuration has it."""
    state = chain.state
    updates = tuple([ValidatorUpdate(v.pub_key, v.voting_power) for v in state.validators.validators])
    return RequestInitChain(
        state.last_time, chain.id, chain.params.whole(), updates, initial_height=state.initial_height
    )


def prepare_proposal(
    draft: Draft, txs: tuple[bytes, ...], bytes_max: int, last: CometValidatorSet | None, extensions: Extensions = ()
) -> RequestPrepareProposal:
    """``last``: the validators of the height before; None: it is the first. ``extensions``: of the last commit's
    votes; empty: there are none."""
    votes = tuple([_extended(*both) for both in zip_longest(_votes(draft.last_commit, last), extensions)])
    return RequestPrepareProposal(
        max_tx_bytes=bytes_max,
        txs=txs,
        local_last_commit=ExtendedCommitInfo(draft.last_commit.round, votes),
        misbehavior=_misbehavior(draft.evidence),
        height=draft.height,
        time=draft.time,
        next_validators_hash=draft.next_validators_hash,
        proposer_address=draft.proposer_address,
    )


def process_proposal(block: NamedBlock, last: CometValidatorSet | None) -> RequestProcessProposal:
    """As above."""
    return RequestProcessProposal(*_about(block, last))


def finalize_block(block: NamedBlock, last: CometValidatorSet | None) -> RequestFinalizeBlock:
    """As above."""
    return RequestFinalizeBlock(*_about(block, last))


def extend_vote(block: NamedBlock, last: CometValidatorSet | None) -> RequestExtendVote:
    """As above."""
    about = _about(block, last)
    return RequestExtendVote(
        hash=about.hash,
        height=about.height,
        time=about.time,
        txs=about.txs,
        proposed_last_commit=about.last_commit,
        misbehavior=about.misbehavior,
        next_validators_hash=about.next_validators_hash,
        proposer_address=about.proposer_address,
    )


def verify_vote_extension(height: int, vote: SignedVote, address: bytes) -> RequestVerifyVoteExtension:
    """Of a precommit for a block; ``address``: its validator's."""
    assert vote.value is not None, "it is for a block"
    return RequestVerifyVoteExtension(id_of(vote.value).hash, address, height, vote.extension)


class _About(NamedTuple):
    """What all say of a block, in the order of the fields of two of them."""

    txs: tuple[bytes, ...]
    last_commit: CommitInfo
    misbehavior: tuple[Misbehavior, ...]
    hash: bytes
    height: int
    time: Timestamp
    next_validators_hash: bytes
    proposer_address: bytes


def _about(block: NamedBlock, last: CometValidatorSet | None) -> _About:
    header = block.block.header
    return _About(
        txs=block.block.data.txs,
        last_commit=_last_commit(block, last),
        misbehavior=_misbehavior(block.block.evidence.evidence),
        hash=block.id.hash,
        height=header.height,
        time=header.time,
        next_validators_hash=header.next_validators_hash,
        proposer_address=header.proposer_address,
    )


def _last_commit(block: NamedBlock, last: CometValidatorSet | None) -> CommitInfo:
    commit = block.block.last_commit
    assert commit is not None, "a decoded block has one"
    return CommitInfo(commit.round, tuple(_votes(commit, last)))


def _votes(commit: Commit, last: CometValidatorSet | None) -> Iterator[VoteInfo]:
    """Nobody's before the second block."""
    if last is not None:
        for validator, entry in zip(last.validators, commit.signatures, strict=True):
            yield VoteInfo(VotingValidator(validator.address, validator.voting_power), entry.block_id_flag)


def _extended(vote: VoteInfo, said: SignedExtension | None) -> ExtendedVoteInfo:
    its = (b"", b"") if said is None else (said.extension, said.signature)
    return ExtendedVoteInfo(vote.validator, *its, vote.block_id_flag)


def _misbehavior(pieces: Iterable[Misconduct]) -> tuple[Misbehavior, ...]:
    return tuple([found for piece in pieces for found in misbehaviors(piece)])
