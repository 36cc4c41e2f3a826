"""Evidence of double votes on the chain of ``one_node.py``, and blocks that have it."""

from msgspec.structs import replace

from quorate.ledger.comet.evidence import DuplicateVoteEvidence, Misconduct, duplicate_votes
from quorate.ledger.comet.votes import Vote
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import Decision, Prevote, step_of
from quorate.protocols.tendermint.named_blocks import name_block
from quorate.protocols.tendermint.signed_bytes import comet_vote

from tests.protocols.tendermint.one_node import (
    ME,
    THREE,
    A,
    B,
    P,
    block,
    chain_at,
    prevote,
    proof_for,
    proposer_of,
)

MINE = next(height for height in range(2, 9) if proposer_of(0, height) == ME)
"""A height at which the node under test proposes first."""


def as_comet(vote: Prevote, index: int = 0) -> Vote:
    made = comet_vote(step_of(vote), vote.height, vote.round, vote.value, vote.time_ns)
    address = chain_at(vote.height).committee.address(vote.node)
    return replace(made, validator_address=address, validator_index=index, signature=vote.signature)


def evidence(node: int = P[1], height: int = 1, round: int = 0, index: int = 0) -> DuplicateVoteEvidence:
    """That a node prevoted two blocks."""
    votes = [as_comet(prevote(node, round, values, height), index) for values in (A, B)]
    time = block(A, height).block.header.time
    return duplicate_votes(*votes, chain_at(height).committee.validators.validators, time)


def decision_with(height: int, *pieces: Misconduct) -> Decision:
    """Of a block that has these, in round 0."""
    its = name_block(chain_at(height).draft(proposer_of(0, height), (THREE,), pieces))
    return Decision(height, its.data, proof_for(Step.PRECOMMIT, 0, its, height=height))
