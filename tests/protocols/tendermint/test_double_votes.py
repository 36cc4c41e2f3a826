"""Double votes become evidence in a block, once; and what is no evidence keeps a block from being voted for."""

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.blocks import BLOCK
from quorate.ledger.comet.evidence import DuplicateVoteEvidence, Misconduct, duplicate_votes
from quorate.ledger.comet.params import Duration, EvidenceParams
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.comet.validators import CometValidatorSet
from quorate.protocols.tendermint.contradictions import Contradiction
from quorate.protocols.tendermint.evidence_pool import EvidencePool
from quorate.protocols.tendermint.messages import Prevote
from quorate.protocols.tendermint.named_blocks import name_block

from tests.protocols.tendermint.double_votes import MINE, as_comet, evidence
from tests.protocols.tendermint.one_node import (
    CHAIN_ID,
    KEYRING,
    ME,
    NIL,
    ONE,
    THREE,
    TWO,
    A,
    B,
    OneNode,
    P,
    block,
    chain_at,
    decision,
    precommit,
    prevote,
    proposal_of,
    proposer_of,
    said,
)

VERIFY = KEYRING.verify_canonical


def seeing() -> OneNode:
    """It saw a double vote at height 1, and all heights below MINE are decided."""
    node = OneNode()
    node.hears((P[1], prevote(P[1], 0, B)), (P[1], prevote(P[1], 0, A)))
    assert node.core.evidence.waiting == {}, "its time is that of the block, which is not decided yet"
    node.hears(*[(P[0], decision(height)) for height in range(1, MINE)])
    return node


def test_a_double_vote_that_was_seen_goes_into_the_next_block_that_this_node_proposes() -> None:
    node = seeing()
    (piece,) = node.core.evidence.waiting.values()
    index = chain_at(1).committee.nodes.index(P[1])
    assert piece == evidence(index=index)
    (mine, *_) = said(node.submits(TWO))
    made = BLOCK.decode(mine.block)
    assert (made.evidence.evidence, made.data.txs) == ((piece,), (TWO,))
    other = OneNode([decision(height) for height in range(1, MINE)], node=P[0])
    assert [type(m) for m in said(other.hears((ME, mine)))] == [Prevote]
    assert said(other.hears((ME, mine))) == []
    assert said(OneNode(other.recovered, node=P[0]).hears((ME, mine)))[0].value == name_block(made).name


def test_it_waits_for_requests() -> None:
    node = seeing()
    assert said(node.fires("beat")) == []
    assert not node.core.current.open.rules.is_started


def accepts(*pieces: Misconduct, at: int = 3) -> bool:
    """Whether a node votes for a block with these at a height."""
    node = OneNode([decision(height) for height in range(1, at)])
    proposer = proposer_of(0, at)
    made = name_block(chain_at(at).draft(proposer, (THREE,), pieces))
    (vote,) = said(node.hears((proposer, proposal_of(made, height=at))))
    return bool(vote.value == made.name)


def test_evidence_that_holds_is_accepted() -> None:
    assert accepts()
    assert accepts(evidence())
    assert accepts(evidence(), evidence(P[2]), evidence(height=2), evidence(round=1))
    nil = [as_comet(vote) for vote in (precommit(P[1], 0, NIL), precommit(P[1], 0, A))]
    time, validators = block(A).block.header.time, chain_at(1).committee.validators.validators
    assert accepts(duplicate_votes(*nil, validators, time))


@pytest.mark.parametrize(
    "piece",
    [
        evidence(height=3),
        replace(evidence(), vote_a=replace(evidence().vote_a, signature=bytes(64))),
        replace(evidence(), vote_b=replace(evidence().vote_b, signature=bytes(64))),
        replace(evidence(), vote_b=replace(evidence(round=1).vote_b)),
        replace(evidence(), validator_power=2),
        replace(evidence(), total_voting_power=5),
        replace(evidence(), timestamp=evidence().timestamp.plus_ns(1)),
        replace(evidence(), vote_a=evidence(P[2]).vote_a),
    ],
)
def test_evidence_that_does_not_hold_is_prevoted_nil(piece: DuplicateVoteEvidence) -> None:
    assert not accepts(piece)


def test_nobody_is_blamed_twice() -> None:
    """Also where bytes differ that nobody signed."""
    assert not accepts(evidence(), evidence())
    assert not accepts(evidence(), evidence(index=1))
    node = OneNode([decision(1)])
    made = name_block(chain_at(2).draft(P[0], (ONE,), [evidence()]))
    node.core.evidence.decided(made.block, chain_at(2).committee.validators)
    time = made.block.header.time.plus_ns(1)
    assert node.core.evidence.refusal([evidence(index=1)], 3, time) is not None
    assert node.core.evidence.refusal([evidence(P[2])], 3, time) is None


def test_evidence_in_a_block_need_not_be_proposed_here() -> None:
    pool = EvidencePool(CHAIN_ID, EvidenceParams(10, Duration(1), 1 << 16), VERIFY)
    first, validators = block(A).block, chain_at(1).committee.validators
    pool.saw(evidence().vote_a, evidence().vote_b)
    pool.decided(first, validators)
    assert list(pool.waiting.values()) == [evidence()]
    pool.decided(chain_at(2).draft(P[0], (ONE,), [evidence(index=3)]), validators)
    assert pool.waiting == {}


def aged(heights: int, seconds: int) -> tuple[EvidencePool, int, Timestamp]:
    """A pool that knows so many heights, of so many seconds in all; with evidence of height 1."""
    pool = EvidencePool(CHAIN_ID, EvidenceParams(4, Duration(10), 1 << 16), VERIFY)
    validators, first = chain_at(1).committee.validators, block(A).block
    pool.saw(evidence().vote_a, evidence().vote_b)
    time = first.header.time
    for height in range(1, heights + 1):
        time = first.header.time.plus_ns((height - 1) * seconds * 10**9 // max(1, heights - 1))
        pool.decided(replace(first, header=replace(first.header, height=height, time=time)), validators)
    return pool, heights, time


def test_what_is_too_old_in_heights_and_in_time_counts_no_more() -> None:
    for heights, seconds, counts in ((5, 11, True), (6, 10, True), (20, 10, True), (6, 11, False)):
        pool, height, time = aged(heights, seconds)
        refused = pool.refusal([evidence()], height, time)
        assert (refused is None) == counts, (heights, seconds)
        assert bool(pool.to_propose(height, time)) == counts
        assert bool(pool.waiting) == counts
    pool, height, time = aged(5, 10)
    assert pool.to_propose(height + 1, time) == (evidence(),)
    assert pool.to_propose(height + 1, time.plus_ns(1)) == (), "in this block it would be too old"
    assert pool.refusal([evidence()], height + 1, time) is None
    assert pool.refusal([evidence()], height + 1, time.plus_ns(1)) is not None


def test_a_contradiction_is_of_two_that_one_node_signed() -> None:
    one, other = evidence().vote_a, evidence().vote_b
    node = next(node for node in P if evidence(node).vote_a.validator_address == one.validator_address)
    assert Contradiction(node, one, other).holds(CHAIN_ID, KEYRING) is None
    assert Contradiction(node, one, one).holds(CHAIN_ID, KEYRING) == "they say the same"
    later = evidence(round=1).vote_b
    assert Contradiction(node, one, later).holds(CHAIN_ID, KEYRING) == "they are of two steps"
    unsigned = replace(other, signature=bytes(64))
    assert Contradiction(node, one, unsigned).holds(CHAIN_ID, KEYRING) == "the second signature is not the node's"
    assert Contradiction(ME, one, other).holds(CHAIN_ID, KEYRING) == "the first signature is not the node's"


def test_a_block_takes_as_much_evidence_as_it_may() -> None:
    pool = EvidencePool(CHAIN_ID, EvidenceParams(10, Duration(1), 1000), VERIFY)
    validators: CometValidatorSet = chain_at(1).committee.validators
    for node in (*P[:3], ME):
        pool.saw(evidence(node).vote_a, evidence(node).vote_b)
    pool.decided(block(A).block, validators)
    pieces = pool.to_propose(2, block(A).block.header.time)
    assert 1 <= len(pieces) < len(pool.waiting) == 4
    assert list(pieces) == list(pool.waiting.values())[: len(pieces)], "the oldest"
