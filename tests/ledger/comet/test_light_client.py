"""The light client: what it believes of a recorded chain and of chains that liars sign; refusals by their words."""

from collections.abc import Callable
from fractions import Fraction

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.light_blocks import LIGHT_BLOCK, LightBlock, SignedHeader
from quorate.ledger.comet.light_client import (
    TrustOptions,
    bisection,
    has_expired,
    verify_adjacent,
    verify_backwards,
    verify_light_block,
    verify_skipping,
)
from quorate.ledger.comet.times import NS_PER_S
from quorate.ledger.comet.validators import CometValidatorSet
from quorate.ledger.comet.verification import NotEnoughTrust, verify_commit

from tests.ledger.comet import chain, making

WEEK = TrustOptions(7 * 86_400 * NS_PER_S)
SET = making.validators({1: 10, 2: 5, 3: 3, 4: 1})
OTHERS = making.validators({11: 10, 12: 5, 13: 3})
TRUSTED = making.block(10, SET)
NOW = making.at(100)


def of(light: LightBlock, **changes: object) -> LightBlock:
    """The same signatures under another header."""
    return replace(light, signed_header=replace(light.signed_header, header=replace(light.header, **changes)))


def with_commit(light: LightBlock, **changes: object) -> LightBlock:
    signed: SignedHeader = replace(light.signed_header, commit=replace(light.commit, **changes))
    return replace(light, signed_header=signed)


def test_the_next_block_and_a_later_one() -> None:
    verify_light_block(TRUSTED, making.block(11, SET), WEEK, NOW)
    verify_light_block(TRUSTED, making.block(60, SET, OTHERS), WEEK, NOW)


REFUSED: list[tuple[LightBlock, str]] = [
    (making.block(11, SET, chain_id="other"), "a header of chain 'other', not 'a-test'"),
    (making.block(10, SET), "height 10 is not above 10"),
    (making.block(9, SET), "height 9 is not above 10"),
    (making.block(11, SET, time=making.at(10)), "time goes back"),
    (making.block(12, SET, time=making.at(3)), "time goes back"),
    (making.block(12, SET, time=making.at(110)), "is in the future"),
    (making.block(11, SET, validators_hash=making.HASH), "the validators are not those of the header"),
    (replace(making.block(11, SET), validator_set=OTHERS), "the validators are not those of the header"),
    (making.block(11, OTHERS), "its validators are not those that the trusted header names"),
    (making.block(11, SET, absent={0}), "a power of 9 signed for the block, of 19: it takes more than 2/3"),
    (making.block(12, SET, nil={0}), "a power of 9 signed"),
    (of(making.block(11, SET), app_hash=b"forged"), "the commit is for another header"),
    (of(making.block(12, SET), app_hash=b"forged"), "the commit is for another header"),
    (with_commit(making.block(11, SET), height=12), "the commit is of height 12, the header of 11"),
    (with_commit(making.block(11, SET), round=1), "the signature of validator .*, entry 0, is wrong"),
    (with_commit(making.block(12, SET), round=1), "the signature of validator .*, entry 0, is wrong"),
    (making.block(11, SET, version=replace(TRUSTED.header.version, block=12)), "block protocol 12, not 11"),
]


@pytest.mark.parametrize(("light", "says"), REFUSED)
def test_refusals(light: LightBlock, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        verify_light_block(TRUSTED, light, WEEK, NOW)


def test_validators_that_are_in_the_set_twice() -> None:
    twice = CometValidatorSet((SET.validators[0],) * 2, SET.validators[0])
    with pytest.raises(ValueError, match="a validator is in it twice"):
        verify_light_block(making.block(10, SET, twice), making.block(11, twice), WEEK, NOW)


def test_skipping_needs_a_third_of_the_trusted_power() -> None:
    mixed = making.validators({3: 30, 4: 30, 12: 20})
    with pytest.raises(NotEnoughTrust, match="a power of 4 signed for the block, of 19"):
        verify_skipping(TRUSTED, making.block(20, mixed), WEEK, NOW)
    with pytest.raises(NotEnoughTrust):
        verify_skipping(TRUSTED, making.block(20, OTHERS), WEEK, NOW)
    enough = making.validators({1: 1, 12: 20})
    verify_skipping(TRUSTED, making.block(20, enough), WEEK, NOW)
    half = TrustOptions(WEEK.period_ns, trust_level=Fraction(2, 3))
    with pytest.raises(NotEnoughTrust, match="more than 2/3"):
        verify_skipping(TRUSTED, making.block(20, enough), half, NOW)


def test_a_third_that_is_trusted_does_not_decide_alone() -> None:
    mixed = making.validators({1: 1, 12: 20})
    who = [v.address for v in mixed.validators].index(making.validator(12, 20).address)
    with pytest.raises(ValueError, match="a power of 1 signed for the block, of 21: it takes more than 2/3"):
        verify_skipping(TRUSTED, making.block(20, mixed, absent={who}), WEEK, NOW)


def test_adjacent_and_skipping_are_not_taken_for_each_other() -> None:
    with pytest.raises(ValueError, match="does not follow on 10"):
        verify_adjacent(TRUSTED, making.block(12, SET), WEEK, NOW)
    with pytest.raises(ValueError, match="nothing to skip"):
        verify_skipping(TRUSTED, making.block(11, SET), WEEK, NOW)


def test_trust_ends() -> None:
    short = TrustOptions(90 * NS_PER_S)
    block = making.block(11, SET)
    verify_light_block(TRUSTED, block, short, making.at(99))
    assert not has_expired(TRUSTED.header, short, making.at(99))
    with pytest.raises(ValueError, match="too old to trust"):
        verify_light_block(TRUSTED, block, short, making.at(100))


def test_the_clock_may_drift() -> None:
    block = making.block(60, SET)
    verify_light_block(TRUSTED, block, WEEK, making.at(50).plus_ns(1))
    with pytest.raises(ValueError, match="in the future"):
        verify_light_block(TRUSTED, block, WEEK, making.at(50))


def test_backwards() -> None:
    older = making.header(9, SET, SET)
    trusted = making.header(10, SET, SET, last_block_id=replace(TRUSTED.commit.block_id, hash=older.hash()))
    verify_backwards(trusted, older)
    refused: list[tuple[dict[str, object], str]] = [
        ({"chain_id": "x"}, "chain 'x'"),
        ({"time": making.at(10)}, "is not before"),
        ({"app_hash": b"forged"}, "not the block before"),
        ({"height": 0}, "height 0"),
    ]
    for changes, says in refused:
        with pytest.raises(ValueError, match=says):
            verify_backwards(trusted, replace(older, **changes))


@pytest.mark.parametrize(
    "options", [(0, 0, Fraction(1, 3)), (1, -1, Fraction(1, 3)), (1, 0, Fraction(1, 4)), (1, 0, 2)]
)
def test_options_that_are_none(options: tuple[int, int, Fraction]) -> None:
    with pytest.raises(ValueError, match="trust"):
        TrustOptions(*options)


def run(trusted: LightBlock, target: LightBlock, source: Callable[[int], LightBlock]) -> tuple[list[int], list[int]]:
    """The heights that bisection asked for, and those that it verified."""
    asked = []
    steps = bisection(trusted, target, WEEK, NOW)
    try:
        height = next(steps)
        while True:
            asked.append(height)
            height = steps.send(source(height))
    except StopIteration as end:
        return asked, [light.header.height for light in end.value]


def rotating(height: int) -> LightBlock:
    """One of four equal validators leaves every 8 heights, and another comes."""

    def members(at: int) -> CometValidatorSet:
        return making.validators({at // 8 + i: 1 for i in range(1, 5)})

    return making.block(height, members(height), members(height + 1))


def test_bisection_asks_for_what_is_between() -> None:
    asked, verified = run(rotating(1), rotating(60), rotating)
    assert asked == [30, 15, 45]
    assert verified == [15, 30, 45, 60]


def test_bisection_ends_where_somebody_lies() -> None:
    """All validators change at once: one height after another, down to the block that follows, where it shows."""

    def forked(height: int) -> LightBlock:
        return making.block(height, SET if height < 14 else OTHERS)

    with pytest.raises(ValueError, match="its validators are not those that the trusted header names"):
        run(TRUSTED, forked(60), forked)
    with pytest.raises(ValueError, match="asked for height 35, got 34"):
        run(TRUSTED, forked(60), lambda height: forked(height - 1))


def test_the_recorded_chain_is_believed_from_its_first_block() -> None:
    now = chain.light_block(chain.HEIGHTS).header.time
    for at in range(2, chain.HEIGHTS + 1):
        verify_adjacent(chain.light_block(at - 1), chain.light_block(at), WEEK, now)
        verify_light_block(chain.light_block(1), chain.light_block(at), WEEK, now)
        verify_backwards(chain.light_block(at).header, chain.light_block(at - 1).header)


@pytest.mark.parametrize("at", [12, 20, 33])
def test_no_bit_of_a_light_block_can_be_flipped(at: int) -> None:
    """Of what was signed, nothing. What nobody signs are claims to propose, the proposer, and the total of powers.

    A light client does not look at votes for nil, which a vote for the block becomes with one bit; a node does.
    """
    trusted, light = chain.light_block(at - 1), chain.light_block(at)
    data = LIGHT_BLOCK.encode(light)
    now = light.header.time
    accepted = []
    for bit in range(at % 3, len(data) * 8, 3):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = LIGHT_BLOCK.decode_exact(bytes(flipped))
            verify_adjacent(trusted, found, WEEK, now)
            verify_commit(chain.chain_id(), found.validator_set, chain.height(at).block_id, at, found.commit)
        except ValueError:
            continue
        accepted.append(found)
    members = tuple(replace(validator, proposer_priority=0) for validator in light.validator_set.validators)
    for found in accepted:
        assert found.signed_header == light.signed_header
        assert tuple(replace(v, proposer_priority=0) for v in found.validator_set.validators) == members
    assert len(accepted) < 200
