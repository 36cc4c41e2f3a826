"""Attacks on light clients: a node that is shown one puts it into a block, once, and others accept it if it holds."""

from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.abci.contents import misbehaviors
from quorate.ledger.comet.block_ids import BlockID, PartSetHeader
from quorate.ledger.comet.blocks import BLOCK
from quorate.ledger.comet.commits import COMMIT
from quorate.ledger.comet.divergence import attack_evidence
from quorate.ledger.comet.evidence import LightClientAttackEvidence
from quorate.ledger.comet.light_blocks import LightBlock, SignedHeader
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.evidence_pool import EvidencePool, Judgement
from quorate.protocols.tendermint.named_blocks import NamedBlock, name_block, name_of_id

from tests.protocols.tendermint.one_node import (
    ALL,
    ME,
    THREE,
    TWO,
    A,
    OneNode,
    P,
    block,
    chain_at,
    decision,
    proof_for,
    proposal_of,
    proposer_of,
    said,
)

HASH = bytes(range(32))
SIGNERS = (P[1], P[2], ME)
"""Of the attacks. Those of the chain are OTHERS."""
MINE = next(height for height in range(4, 12) if proposer_of(0, height) == ME)


def true(height: int) -> LightBlock:
    """The chain's, with the commit that is in the next block."""
    signed = SignedHeader(block(A, height).block.header, COMMIT.decode(decision(height).commit))
    return LightBlock(signed, chain_at(height).committee.validators)


def false(height: int, round: int = 0, **changes: Any) -> LightBlock:
    """Another, which SIGNERS decided."""
    its = block(A, height).block
    header = replace(its.header, **changes)
    named = NamedBlock(name_of_id(BlockID(header.hash(), PartSetHeader(1, HASH))), b"", replace(its, header=header))
    commit = COMMIT.decode(proof_for(Step.PRECOMMIT, round, named, SIGNERS, height))
    return LightBlock(SignedHeader(header, commit), chain_at(height).committee.validators)


@cache
def lunatic(common: int = 1, app_hash: bytes = HASH) -> LightClientAttackEvidence:
    return attack_evidence(false(2, app_hash=app_hash), true(2), true(common))


def equivocation() -> LightClientAttackEvidence:
    return attack_evidence(false(2, data_hash=HASH), true(2), true(1))


def amnesia() -> LightClientAttackEvidence:
    return attack_evidence(false(2, round=1, data_hash=HASH), true(2), true(1))


def at_height(height: int) -> OneNode:
    return OneNode([decision(below) for below in range(1, height)])


def accepts(*pieces: LightClientAttackEvidence, at: int = 4) -> bool:
    """Whether a node votes for a block with these at a height."""
    proposer = proposer_of(0, at)
    made = name_block(chain_at(at).draft(proposer, (THREE,), pieces))
    (vote,) = said(at_height(at).hears((proposer, proposal_of(made, height=at))))
    return bool(vote.value == made.name)


def test_evidence_of_each_kind_is_accepted() -> None:
    for piece in (lunatic(), equivocation(), amnesia()):
        assert accepts(piece)
    assert accepts(lunatic(), equivocation(), lunatic(app_hash=HASH[::-1])), "three attacks"


def test_whom_the_app_hears_of() -> None:
    committee = chain_at(1).committee
    for piece, liars in ((lunatic(), SIGNERS), (equivocation(), (P[1], P[2])), (amnesia(), ())):
        assert {found.validator.address for found in misbehaviors(piece)} == {committee.address(n) for n in liars}


@pytest.mark.parametrize(
    "piece",
    [
        replace(lunatic(), byzantine_validators=lunatic().byzantine_validators[1:]),
        replace(amnesia(), byzantine_validators=lunatic().byzantine_validators),
        replace(lunatic(), total_voting_power=5),
        replace(lunatic(), timestamp=true(2).header.time),
        replace(lunatic(), common_height=2),
        replace(lunatic(), conflicting_block=true(2)),
    ],
)
def test_evidence_that_does_not_hold_is_prevoted_nil(piece: LightClientAttackEvidence) -> None:
    assert not accepts(piece)


def test_signatures_are_checked() -> None:
    """By the keys of this chain."""
    block = lunatic().conflicting_block
    entries = tuple(replace(entry, signature=entry.signature and bytes(64)) for entry in block.commit.signatures)
    signed = replace(block.signed_header, commit=replace(block.commit, signatures=entries))
    assert not accepts(replace(lunatic(), conflicting_block=replace(block, signed_header=signed)))


def test_a_height_without_a_commit_in_a_block_is_waited_for() -> None:
    """Nodes may have decided it by other precommits; whose fault it was must be the same for all."""
    assert not accepts(equivocation(), at=3)
    assert accepts(equivocation(), at=4)


def test_one_attack_is_blamed_once_whatever_the_common_height() -> None:
    assert not accepts(lunatic(), lunatic())
    late = attack_evidence(false(3, app_hash=HASH), true(3), true(2))
    early = attack_evidence(false(3, app_hash=HASH), true(3), true(1))
    assert accepts(late, at=5)
    assert accepts(early, at=5)
    assert not accepts(late, early, at=5)
    pool = at_height(5).core.evidence
    made = chain_at(5).draft(P[0], (TWO,), [late])
    pool.decided(made, chain_at(5).committee.validators)
    assert pool.refusal([early], 6, made.header.time) is not None
    assert pool.refusal([lunatic()], 6, made.header.time) is None


def test_what_was_judged_goes_into_the_next_block_that_the_node_proposes() -> None:
    node = at_height(MINE)
    pool: EvidencePool = node.core.evidence
    assert not pool.is_known(lunatic())
    assert pool.judge(lunatic(), pool.last) == Judgement()
    pool.add(lunatic())
    (mine, *_) = said(node.submits(TWO))
    made = BLOCK.decode(mine.block)
    assert made.evidence.evidence == (lunatic(),)
    other = OneNode([decision(height) for height in range(1, MINE)], node=P[0])
    assert said(other.hears((ME, mine)))[0].value == name_block(made).name
    pool.decided(made, chain_at(MINE).committee.validators)
    assert pool.waiting == {}
    assert pool.is_known(lunatic())


def test_what_does_not_hold_is_a_lie_and_what_is_not_known_here_is_none() -> None:
    pool: EvidencePool = at_height(5).core.evidence
    assert pool.judge(lunatic(), 3) == pool.judge(lunatic(), 4) == Judgement()
    for as_of in (3, 4):
        verdict = pool.judge(replace(lunatic(), total_voting_power=5), as_of)
        assert verdict.is_lie
        assert "a total power of 5" in verdict.why
    assert pool.judge(lunatic(), 2).is_lie, "height 2 had no commit in a block then"
    for piece, as_of in ((replace(lunatic(), common_height=9), 4), (lunatic(), 5), (lunatic(), 1), (lunatic(), 99)):
        verdict = pool.judge(piece, as_of)
        assert not verdict.is_lie
        assert "too old, or yet to come" in verdict.why
    empty: EvidencePool = at_height(1).core.evidence
    assert (empty.last, empty.judge(lunatic(), 1).is_lie) == (0, False)


def ahead() -> LightClientAttackEvidence:
    """Height 7 was signed with the time of height 2 when the chain was at height 4."""
    header = replace(true(2).header, height=7)
    its = replace(block(A, 2).block, header=header)
    named = NamedBlock(name_of_id(BlockID(header.hash(), PartSetHeader(1, HASH))), b"", its)
    commit = COMMIT.decode(proof_for(Step.PRECOMMIT, 0, named, ALL, 7))
    return attack_evidence(LightBlock(SignedHeader(header, commit), true(2).validator_set), true(2), true(1))


def test_what_was_ahead_of_the_chain_is_judged_again_when_the_chain_has_come_there() -> None:
    """Beside the last block it was equivocation of those who signed both; beside its own height's, a lunacy of all.

    A block with it would be refused, and so would this node's proposals.
    """
    node = at_height(4)
    pool, time = node.core.evidence, true(3).header.time
    assert pool.judge(ahead(), 3) == Judgement()
    pool.add(ahead())
    assert pool.to_propose(4, time) == (ahead(),)
    node.hears(*[(P[0], decision(height)) for height in range(4, 10)])
    assert list(pool.waiting.values()) == [ahead()]
    assert pool.to_propose(10, true(9).header.time) == ()
    verdict = pool.judge(ahead(), 3)
    assert "it blames" in verdict.why
    assert not verdict.is_lie, "who was behind was right"
    assert pool.judge(ahead(), 9).is_lie
