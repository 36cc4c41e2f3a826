"""Commits, of the votes that are known: CometBFT's form, one entry a validator. Prevotes are shown in the same form.

BFT time. The next block's time is the median of the times in a commit, and must be later than this block's. So a vote
for a block says a later time than the block's, or it is no vote for it (``OpenHeight``). A vote for nil may say any
time: those are left out if the median would not be later with them.

CometBFT does not check the times of votes. With f liars and f + 1 others in a commit its median may then be a liar's
time, no matter how early, and no block can follow on that commit.
"""

from __future__ import annotations

from collections.abc import Iterable

from quorate.ledger.comet.commits import COMMIT, FOR_BLOCK, FOR_NIL, NO_SIG, Commit, CommitSig, block_time
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.comet.verification import verify_commit, verify_prevotes
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.effects import SignedVote
from quorate.protocols.tendermint.named_blocks import NamedBlock, check_parts, decode_block, id_of


def prevotes_of(committee: Committee, height: int, round: int, value: bytes, votes: Iterable[SignedVote]) -> Commit:
    """Those for the value, all of this round."""
    return _commit(committee, height, round, value, [vote for vote in votes if vote.value == value])


def commit_of(committee: Committee, height: int, round: int, block: NamedBlock, votes: Iterable[SignedVote]) -> Commit:
    """The precommits of this round that decided the block, and those for nil."""
    known = list(votes)
    made = _commit(committee, height, round, block.name, known)
    return made if is_later(made, block, committee) else prevotes_of(committee, height, round, block.name, known)


def _commit(committee: Committee, height: int, round: int, value: bytes, votes: Iterable[SignedVote]) -> Commit:
    by_node = {vote.node: vote for vote in votes}
    entries = []
    for node, validator in zip(committee.nodes, committee.validators.validators, strict=True):
        vote = by_node.get(node)
        if vote is None or vote.value not in (value, None):
            entries.append(NO_SIG)
        else:
            flag = FOR_NIL if vote.value is None else FOR_BLOCK
            entries.append(CommitSig(flag, validator.address, Timestamp.of_ns(vote.time_ns), vote.signature))
    return Commit(height, round, id_of(value), tuple(entries))


def is_later(commit: Commit, block: NamedBlock, committee: Committee) -> bool:
    """Whether a block can follow on this commit of the block. Raises ValueError for entries of no validators."""
    return block_time(commit, committee.validators.by_address()) > block.block.header.time


def decided_block(chain: Chain, data: bytes, commit_data: bytes) -> NamedBlock:
    """The block that this commit decides at the open height. Raises ValueError if there is none in these bytes, and if
    none can follow on the commit.

    Anybody may send this, and often. So what is cheap comes first: whether the commit is one for these bytes, by their
    hash; then its signatures. Bytes that nobody decided are not decoded.
    """
    commit = COMMIT.decode_exact(commit_data)
    check_parts(data, commit.block_id)
    verify_commit(chain.id, chain.committee.validators, commit.block_id, chain.state.next_height, commit, chain.verify)
    block = decode_block(data)
    if block.id != commit.block_id:
        raise ValueError("commit: for another header")
    if not is_later(commit, block, chain.committee):
        raise ValueError("commit: its votes are not later than the block")
    return block


def check_prevotes(chain: Chain, round: int, block: NamedBlock, data: bytes) -> None:
    """Raises ValueError unless these are prevotes of a quorum for the block in this round, all later than it."""
    prevotes = COMMIT.decode_exact(data)
    if prevotes.round != round:
        raise ValueError(f"prevotes of round {prevotes.round}, not {round}")
    if any(sig != NO_SIG and sig.timestamp <= block.block.header.time for sig in prevotes.signatures):
        raise ValueError("prevotes that are not later than the block")
    verify_prevotes(chain.id, chain.committee.validators, block.id, chain.state.next_height, prevotes, chain.verify)
