"""Two chains are shown to a light client: where they part, and evidence that holds on the one and not on the other."""

from collections.abc import Generator, Mapping
from typing import TypeVar

import pytest

from quorate.ledger.comet.divergence import Divergence, attack_evidence, find_divergence
from quorate.ledger.comet.evidence import LightClientAttackEvidence
from quorate.ledger.comet.evidence_checks import verify_light_client_attack
from quorate.ledger.comet.light_blocks import LightBlock
from quorate.ledger.comet.light_client import TrustOptions
from quorate.ledger.comet.times import NS_PER_S
from quorate.ledger.comet.validators import CometValidator

from tests.ledger.comet import making

WEEK = TrustOptions(7 * 86_400 * NS_PER_S)
NOW = making.at(100)
SET = making.validators({1: 10, 2: 5, 3: 3, 4: 1})
OTHERS = making.validators({11: 10, 12: 5})
Result = TypeVar("Result")
Chain = Mapping[int, LightBlock]

TRUE = {height: making.block(height, SET) for height in range(1, 13)}
LUNATIC = making.block(9, SET, app_hash=b"lunatic", absent={3})
EQUIVOCATION = making.block(9, SET, data_hash=making.HASH[::-1], nil={2})
AMNESIA = making.block(9, SET, data_hash=making.HASH[::-1], round_=1)
AHEAD = making.block(12, SET, app_hash=b"lunatic", time=making.at(8))


def answered(steps: Generator[int, LightBlock, Result], source: Chain) -> tuple[Result, list[int]]:
    """What a source's blocks lead to, and which were asked for."""
    asked: list[int] = []
    try:
        height = next(steps)
        while True:
            asked.append(height)
            height = steps.send(source[height])
    except StopIteration as end:
        return end.value, asked


def found(trace: list[LightBlock], witness: Chain = TRUE, shown: LightBlock | None = None) -> Divergence:
    shown = shown or witness[trace[-1].header.height]
    return answered(find_divergence(trace, shown, WEEK, NOW), witness)[0]


def verify(piece: LightClientAttackEvidence, chain: Chain = TRUE, last: int = 12) -> None:
    """As the nodes of a chain do."""
    common, height = chain[piece.common_height], piece.conflicting_block.header.height
    trusted = chain[min(height, last)].signed_header
    verify_light_client_attack(piece, common.header, common.validator_set, trusted)


@pytest.mark.parametrize(
    ("lie", "common", "liars"),
    [(LUNATIC, 5, SET.validators[:3]), (EQUIVOCATION, 9, (*SET.validators[:2], SET.validators[3])), (AMNESIA, 9, ())],
)
def test_evidence_of_each_kind(lie: LightBlock, common: int, liars: tuple[CometValidator, ...]) -> None:
    seen = found([TRUE[5], lie])
    assert seen == Divergence((TRUE[5], TRUE[9]), lie)
    piece = seen.evidence()
    assert piece == LightClientAttackEvidence(lie, common, liars, 19, making.at(common))
    verify(piece)


def test_the_first_block_that_differs_is_the_one_that_conflicts() -> None:
    """Of the trace; what is between two of its blocks nobody asked for."""
    lies = {height: making.block(height, SET, app_hash=b"lunatic") for height in (7, 9)}
    seen, asked = answered(find_divergence([TRUE[3], TRUE[5], lies[7], lies[9]], TRUE[9], WEEK, NOW), TRUE)
    assert (seen, asked) == (Divergence((TRUE[5], TRUE[7]), lies[7]), [3, 5, 7])
    verify(seen.evidence())


def test_with_the_two_exchanged_it_is_evidence_against_the_witness() -> None:
    liars = {**TRUE, 9: LUNATIC}
    against_primary = found([TRUE[5], TRUE[9]], liars)
    against_witness, _ = answered(find_divergence(against_primary.trace, against_primary.conflicting, WEEK, NOW), TRUE)
    verify(against_witness.evidence())
    with pytest.raises(ValueError, match="the block is the chain's own"):
        verify(against_primary.evidence())
    verify(against_primary.evidence(), liars)


def test_validators_that_changed_are_followed_to_the_block_that_conflicts() -> None:
    """The witness's trace begins at the last common block, whose validators are blamed."""
    chain = {
        **{height: making.block(height, SET) for height in range(1, 7)},
        7: making.block(7, SET, OTHERS),
        **{height: making.block(height, OTHERS) for height in range(8, 13)},
    }
    lie = making.block(9, SET, absent={3})
    seen, asked = answered(find_divergence([chain[5], lie], chain[9], WEEK, NOW), chain)
    assert ([block.header.height for block in seen.trace], asked) == ([5, 7, 8, 9], [5, 7, 8])
    piece = seen.evidence()
    assert (piece.common_height, piece.byzantine_validators) == (5, SET.validators[:3])
    verify(piece, chain)


def test_a_block_ahead_of_the_chain_that_is_not_later() -> None:
    """The witness has height 9, and the primary signed height 12 with a time before that of 9."""
    seen = found([TRUE[5], AHEAD], shown=TRUE[9])
    assert seen == Divergence((TRUE[5], TRUE[9]), AHEAD)
    verify(seen.evidence(), last=9)
    at_once = found([TRUE[9], making.block(12, SET, app_hash=b"lunatic", time=making.at(9))], shown=TRUE[9])
    assert at_once.trace == (TRUE[9],)


@pytest.mark.parametrize(
    ("trace", "witness", "shown", "says"),
    [
        ([TRUE[5], TRUE[9]], TRUE, TRUE[9], "the same blocks"),
        ([TRUE[5], making.block(12, SET)], TRUE, TRUE[9], "the witness is behind"),
        ([TRUE[5], LUNATIC], TRUE, TRUE[4], "height 4, below the trusted 5"),
        ([TRUE[5], LUNATIC], TRUE, TRUE[10], "above the trace"),
        ([], TRUE, TRUE[9], "above the trace"),
        ([TRUE[5], LUNATIC], {5: making.block(5, SET, app_hash=b"x")}, TRUE[9], "another block than the trusted"),
        ([TRUE[5], LUNATIC], {5: TRUE[6]}, TRUE[9], "asked for height 5, got 6"),
        ([TRUE[5], TRUE[7], LUNATIC], {**TRUE, 7: TRUE[8]}, TRUE[9], "asked for height 7, got 8"),
        ([TRUE[5], TRUE[9]], TRUE, making.block(9, SET, absent={0}), "it takes more than"),
    ],
)
def test_a_witness_that_shows_nothing(trace: list[LightBlock], witness: Chain, shown: LightBlock, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        found(trace, witness, shown)


def test_a_witness_whose_block_its_validators_did_not_sign() -> None:
    """Another set of validators, whom the common block does not name."""
    strangers = {5: TRUE[5], 7: making.block(7, OTHERS), 6: making.block(6, OTHERS), 9: making.block(9, OTHERS)}
    with pytest.raises(ValueError, match="not those that the trusted header names"):
        found([TRUE[5], TRUE[9]], strangers)


def test_the_common_height_is_that_of_the_block_unless_it_follows_on_no_state() -> None:
    for lie, common in ((LUNATIC, 5), (EQUIVOCATION, 9), (AMNESIA, 9)):
        assert attack_evidence(lie, TRUE[9], TRUE[5]).common_height == common
