"""Commits: more than two thirds of the power, and each way to fall short of it, in its own words."""

from collections.abc import Callable
from fractions import Fraction

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.block_ids import BlockID, PartSetHeader
from quorate.ledger.comet.commits import Commit, CommitSig
from quorate.ledger.comet.verification import (
    NotEnoughTrust,
    verify_commit,
    verify_commit_light,
    verify_commit_trusting,
)

from tests.ledger.comet import chain, making

SET = making.validators({1: 10, 2: 5, 3: 3, 4: 1})
BLOCK = BlockID(making.HASH, PartSetHeader(1, making.HASH))
OTHER = BlockID(making.HASH[::-1], PartSetHeader(1, making.HASH))
HEIGHT = 7
GOOD = making.commit(BLOCK, HEIGHT, SET.validators)
THIRD = Fraction(1, 3)


def changed(commit: Commit, i: int, **changes: object) -> Commit:
    signatures = list(commit.signatures)
    signatures[i] = replace(signatures[i], **changes)
    return replace(commit, signatures=tuple(signatures))


def test_a_commit_of_all() -> None:
    verify_commit(making.CHAIN, SET, BLOCK, HEIGHT, GOOD)
    verify_commit_light(making.CHAIN, SET, BLOCK, HEIGHT, GOOD)
    verify_commit_trusting(making.CHAIN, SET, GOOD, Fraction(1, 3))


@pytest.mark.parametrize(
    ("powers", "absent", "decides"),
    [
        ({1: 10, 2: 5, 3: 3, 4: 1}, {2, 3}, True),  # 15 of 19; it takes 13
        ({1: 10, 2: 5, 3: 3, 4: 1}, {1, 3}, True),  # 13 of 19
        ({1: 10, 2: 5, 3: 3, 4: 1}, {1, 2}, False),  # 11 of 19
        ({1: 1, 2: 1, 3: 1}, {2}, False),  # exactly two thirds are too few
        ({1: 1, 2: 1, 3: 1, 4: 1}, {2}, True),
        ({1: 2**59, 2: 2**59, 3: 2**59}, {2}, False),  # no rounding
        ({1: 2**59, 2: 2**59 + 1, 3: 2**59 - 1}, {2}, True),
    ],
)
def test_it_takes_more_than_two_thirds(powers: dict[int, int], absent: set[int], decides: bool) -> None:
    members = making.validators(powers)
    for kinds in ({"absent": absent}, {"nil": absent}):
        commit = making.commit(BLOCK, HEIGHT, members.validators, **kinds)
        for verify in (verify_commit, verify_commit_light):
            if decides:
                verify(making.CHAIN, members, BLOCK, HEIGHT, commit)
            else:
                with pytest.raises(ValueError, match="it takes more than 2/3"):
                    verify(making.CHAIN, members, BLOCK, HEIGHT, commit)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: replace(c, height=8), "of height 8, not 7"),
        (lambda c: replace(c, block_id=OTHER), "for block 1f1e"),
        (
            lambda c: replace(c, block_id=replace(BLOCK, part_set_header=PartSetHeader(2, making.HASH))),
            "or other parts",
        ),
        (lambda c: replace(c, signatures=c.signatures[:3]), "3 entries for 4 validators"),
        (lambda c: replace(c, signatures=c.signatures[1::-1] + c.signatures[2:]), "entry 0 is of .*, not of validator"),
        (lambda c: replace(c, signatures=(c.signatures[0],) * 4), "entry 1 is of"),
        (lambda c: replace(c, round=1), "entry 0, is wrong"),
        (lambda c: changed(c, 3, timestamp=making.at(9)), "entry 3, is wrong"),
        (lambda c: changed(c, 2, signature=c.signatures[0].signature), "entry 2, is wrong"),
        (lambda c: changed(c, 2, signature=bytes(64)), "entry 2, is wrong"),
    ],
)
def test_a_commit_that_is_not_this_one(change: Callable[[Commit], Commit], says: str) -> None:
    for verify in (verify_commit, verify_commit_light):
        with pytest.raises(ValueError, match=says):
            verify(making.CHAIN, SET, BLOCK, HEIGHT, change(GOOD))


def test_another_chain_signs_other_bytes() -> None:
    with pytest.raises(ValueError, match="entry 0, is wrong"):
        verify_commit("another", SET, BLOCK, HEIGHT, GOOD)


def test_only_nodes_check_the_votes_for_nil() -> None:
    commit = making.commit(BLOCK, HEIGHT, SET.validators, nil={3})
    verify_commit(making.CHAIN, SET, BLOCK, HEIGHT, commit)
    forged = changed(commit, 3, signature=bytes(64))
    verify_commit_light(making.CHAIN, SET, BLOCK, HEIGHT, forged)
    with pytest.raises(ValueError, match="entry 3, is wrong"):
        verify_commit(making.CHAIN, SET, BLOCK, HEIGHT, forged)


def test_trust_is_by_address_and_more_than_a_third() -> None:
    """Of the trusted 19, 7 are needed: 10 of an old validator are enough, 6 of two small ones are not."""
    enough = making.validators({1: 1, 50: 40, 51: 40})
    verify_commit_trusting(making.CHAIN, SET, making.commit(BLOCK, HEIGHT, enough.validators), THIRD)
    few = making.validators({3: 30, 4: 30, 50: 40})
    commit = making.commit(BLOCK, HEIGHT, few.validators)
    with pytest.raises(NotEnoughTrust, match="a power of 4 signed for the block, of 19: it takes more than 1/3"):
        verify_commit_trusting(making.CHAIN, SET, commit, THIRD)
    enough = making.validators({1: 1, 50: 40})
    who = [v.address for v in enough.validators].index(making.validator(1, 1).address)
    with pytest.raises(NotEnoughTrust, match="a power of 0 signed for the block"):  # but for nil
        verify_commit_trusting(making.CHAIN, SET, making.commit(BLOCK, HEIGHT, enough.validators, nil={who}), THIRD)
    exact = making.validators({1: 1, 2: 1, 3: 1})
    commit = making.commit(BLOCK, HEIGHT, exact.validators, absent={1, 2})
    with pytest.raises(NotEnoughTrust):
        verify_commit_trusting(making.CHAIN, exact, commit, THIRD)


def test_a_validator_counts_once() -> None:
    """The weakest one of four, who signs in the place of all."""
    weakest = SET.validators[3]
    twice: tuple[CommitSig, ...] = tuple(making.commit(BLOCK, HEIGHT, [weakest] * 4).signatures)
    with pytest.raises(ValueError, match="is in it twice, at 0 and 1"):
        verify_commit_trusting(making.CHAIN, SET, replace(GOOD, signatures=twice), THIRD)


def test_a_forged_signature_of_a_trusted_one() -> None:
    with pytest.raises(ValueError, match="entry 1, is wrong"):
        verify_commit_trusting(making.CHAIN, SET, changed(GOOD, 1, signature=bytes(64)), THIRD)


@pytest.mark.parametrize("at", range(1, chain.HEIGHTS + 1))
def test_commits_of_the_recorded_chain(at: int) -> None:
    height, commit = chain.height(at), chain.commit(at)
    verify_commit(chain.chain_id(), height.validator_set, height.block_id, at, commit)
    for i, signature in enumerate(commit.signatures):
        if signature.signature:
            bit = at * 8 + i
            flipped = int.from_bytes(signature.signature, "big") ^ 1 << bit
            forged = changed(commit, i, signature=flipped.to_bytes(64, "big"))
            with pytest.raises(ValueError, match=f"entry {i}, is wrong"):
                verify_commit(chain.chain_id(), height.validator_set, height.block_id, at, forged)
