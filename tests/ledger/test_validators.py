"""Whose turn it is: worked examples, and what must hold whatever the powers and however they change."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.ledger.validators import POWER_MAX, SPREAD_MAX, PowerChange, Validator, ValidatorSet

A, B, C = b"a", b"b", b"c"


def priorities(validators: ValidatorSet) -> dict[str, int]:
    return {v.address.decode(): v.priority for v in validators.validators}


# --- worked by hand ---


def test_the_first_proposer_is_the_most_powerful() -> None:
    """All begin alike; one step makes the proposer of the first height."""
    first = ValidatorSet.genesis({A: 1, B: 3})
    assert first.validators == (Validator(B, 3, 3 - 4), Validator(A, 1, 1))
    assert (first.proposer, first.power) == (B, 4)


def test_priorities_grow_by_power_and_the_proposer_pays_all_of_it() -> None:
    heights = [ValidatorSet.genesis({A: 1, B: 3})]
    for _ in range(4):
        heights.append(heights[-1].next())
    assert [priorities(h) for h in heights] == [
        {"b": -1, "a": 1},
        {"b": 2, "a": -2},  # 2 and 2: the lower address
        {"b": 1, "a": -1},  # 5 and -1
        {"b": 0, "a": 0},  # 4 and 0
        {"b": -1, "a": 1},  # and so on
    ]
    assert [h.proposer for h in heights] == [B, A, B, B, B]


def test_equal_powers_take_turns_by_address() -> None:
    validators = ValidatorSet.genesis({C: 7, A: 7, B: 7})
    turns = [validators.proposer]
    for _ in range(5):
        validators = validators.next()
        turns.append(validators.proposer)
    assert turns == [A, B, C, A, B, C]


def test_unequal_powers() -> None:
    """Four validators with these powers under CometBFT 0.38: the blocks of its first nineteen heights."""
    validators = ValidatorSet.genesis({b"1": 10, b"2": 5, b"3": 3, b"4": 1})
    turns = [validators.proposer]
    for _ in range(18):
        validators = validators.next()
        turns.append(validators.proposer)
    assert b"".join(turns) == b"1213121412131213121"
    assert Counter(turns) == {b"1": 10, b"2": 5, b"3": 3, b"4": 1}


def test_a_round_takes_a_step_and_leaves_the_set_as_it_is() -> None:
    validators = ValidatorSet.genesis({A: 1, B: 3})
    assert [validators.proposer_of(round) for round in range(5)] == [B, A, B, B, B]
    assert validators == ValidatorSet.genesis({A: 1, B: 3})
    assert validators.next().proposer_of(0) == A


def test_who_is_new_begins_below_all_others() -> None:
    """The penalty is 1.125 of all power, its own included: 8 + 1."""
    before = ValidatorSet.genesis({A: 1, B: 3})  # b -1, a 1
    after = before.next([PowerChange(C, 4)])
    # c -9, b -1, a 1 have the average -3: c -6, b 2, a 4; then the step: c -2, b 5, a 5, and a pays 8
    assert after.validators == (Validator(C, 4, -2), Validator(B, 3, 5), Validator(A, 1, -3))
    assert after.proposer == A


def test_the_penalty_counts_the_power_of_those_who_leave_at_the_same_time() -> None:
    before = ValidatorSet.genesis({A: 1, B: 3})
    after = before.next([PowerChange(B, 0), PowerChange(C, 4)])
    # -(8 + 1), not -(5 + 0): c -9, a 1; their spread 10 is no more than 2 * 5; average -4: c -5, a 5; c -1, a 6 - 5
    assert after.validators == (Validator(C, 4, -1), Validator(A, 1, 1))
    assert after.proposer == A


def long_run() -> ValidatorSet:
    """After a hundred turns of one that has nearly all power."""
    validators = ValidatorSet.genesis({A: 1000, B: 1, C: 3}).stepped(99)
    assert priorities(validators) == {"a": -400, "c": 300, "b": 100}
    return validators


def test_what_is_far_apart_is_scaled_down() -> None:
    after = long_run().next([PowerChange(A, 0)])
    # c 300, b 100: 200 apart, 8 allowed, so divided by 25: 12 and 4, centred 4 and -4; c 7 - 4, b -3
    assert after.validators == (Validator(C, 3, 3), Validator(B, 1, -3))


def test_scaling_rounds_towards_zero() -> None:
    after = long_run().next([PowerChange(A, 1)])
    # 700 apart, 10 allowed, so divided by 70: c 4, a -5 (not -6), b 1; sum 0; c 7 - 5, a -4, b 2
    assert after.validators == (Validator(C, 3, 2), Validator(A, 1, -4), Validator(B, 1, 2))


def test_centring_rounds_down() -> None:
    """A sum of -1 makes the average -1, not 0."""
    before = ValidatorSet([Validator(A, 1, -1), Validator(B, 1, 0)], A)
    # 0 and 1, then 1 and 2, and b pays 2
    assert before.stepped().validators == (Validator(A, 1, 1), Validator(B, 1, 0))


def test_whoever_changes_its_power_keeps_its_priority() -> None:
    before = ValidatorSet.genesis({A: 1, B: 3})  # b -1, a 1
    after = before.next([PowerChange(A, 2)])
    assert after.validators == (Validator(B, 3, 2), Validator(A, 2, 3 - 5))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ([PowerChange(A, 1), PowerChange(A, 2)], "two changes"),
        ([PowerChange(A, 2), PowerChange(A, 0)], "two changes"),
        ([PowerChange(A, -1)], "at least 0"),
        ([PowerChange(C, POWER_MAX + 1)], "at most"),
        ([PowerChange(C, POWER_MAX)], "together"),
        ([PowerChange(C, 0)], "not there"),
        ([PowerChange(A, 0), PowerChange(B, 0)], "no validator"),
    ],
)
def test_what_cannot_be(changes: Sequence[PowerChange], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ValidatorSet.genesis({A: 1, B: 3}).next(changes)


def test_all_may_be_replaced_at_once() -> None:
    after = ValidatorSet.genesis({A: 1, B: 3}).next([PowerChange(A, 0), PowerChange(B, 0), PowerChange(C, 5)])
    assert after.validators == (Validator(C, 5, 0),)


def test_power_may_move_to_another_at_the_limit() -> None:
    """What counts is the power when all changes are done."""
    after = ValidatorSet.genesis({A: POWER_MAX - 1, B: 1}).next([PowerChange(A, 0), PowerChange(C, POWER_MAX - 1)])
    assert after.power == POWER_MAX


@pytest.mark.parametrize(
    ("powers", "why"),
    [({}, "no validator"), ({A: 0}, "not there"), ({A: -1}, "at least 0"), ({A: POWER_MAX, B: 1}, "together")],
)
def test_no_chain_begins_so(powers: dict[bytes, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ValidatorSet.genesis(powers)


# --- as CometBFT computes them: cometbft_sets.go has written these down ---

RECORDED = Path(__file__).with_name("cometbft_sets.jsonl").read_text().splitlines()


@pytest.mark.parametrize("line", RECORDED, ids=[f"history {number}" for number in range(len(RECORDED))])
def test_as_cometbft(line: str) -> None:
    validators = None
    for its in json.loads(line):
        changes = [PowerChange(name.encode(), power) for name, power in its["changes"]]
        if validators is None:
            validators = ValidatorSet.genesis(dict(changes))
        else:
            validators = validators.next(changes)
            if its["times"] > 1:
                validators = validators.stepped(its["times"] - 1)
        assert [[v.address.decode(), v.power, v.priority] for v in validators.validators] == its["after"]
        assert validators.proposer.decode() == its["proposer"]


def test_the_record_has_what_matters() -> None:
    """Newcomers, leavers and changes of power among its sets."""
    changes = [c for line in RECORDED for its in json.loads(line)[1:] for c in its["changes"]]
    assert len(RECORDED) == 8
    assert sum(power == 0 for _, power in changes) > 20
    assert sum(power > 0 for _, power in changes) > 50


# --- whatever the powers ---

ADDRESSES = st.sampled_from([bytes([letter]) for letter in b"abcdefgh"])
POWERS = st.one_of(st.integers(1, 20), st.integers(1, 10**6), st.integers(1, POWER_MAX // 8))
SETS = st.dictionaries(ADDRESSES, POWERS, min_size=1).map(ValidatorSet.genesis)


@st.composite
def histories(draw: Any) -> list[ValidatorSet]:
    """The sets of a few heights, with changes that are allowed."""
    heights = [draw(SETS)]
    for _ in range(draw(st.integers(1, 12))):
        now = heights[-1]
        present = [v.address for v in now.validators]
        wanted = draw(st.dictionaries(ADDRESSES, st.one_of(st.just(0), POWERS), max_size=4))
        changes = [PowerChange(a, p) for a, p in wanted.items() if p or a in present]
        if {a for a, p in changes if not p} >= set(present) and not any(p for _, p in changes):
            changes = []
        heights.append(now.next(changes).stepped(draw(st.integers(1, 6))))
    return heights


@settings(max_examples=200, deadline=None)
@given(histories())
def test_priorities_stay_small_and_near_zero(heights: list[ValidatorSet]) -> None:
    for validators in heights:
        its = [v.priority for v in validators.validators]
        assert 0 <= sum(its) < len(its)
        # No further apart than the limit when a step begins, and a step moves nobody by more than all power.
        assert max(its) - min(its) <= (SPREAD_MAX + 1) * validators.power
        assert all(-(2**63) <= 4 * priority < 2**63 for priority in its), "others have 64 bits"


@settings(max_examples=200, deadline=None)
@given(histories())
def test_the_order_is_by_power_and_then_by_address(heights: list[ValidatorSet]) -> None:
    for validators in heights:
        assert list(validators.validators) == sorted(validators.validators, key=lambda v: (-v.power, v.address))
        assert validators.proposer in {v.address for v in validators.validators}


@settings(max_examples=100, deadline=None)
@given(SETS, st.integers(1, 300))
def test_everybody_proposes_as_often_as_its_power_says(validators: ValidatorSet, heights: int) -> None:
    turns = Counter([validators.proposer])
    now = validators
    for _ in range(heights - 1):
        now = now.next()
        turns[now.proposer] += 1
    for v in validators.validators:
        assert abs(turns[v.address] * validators.power - heights * v.power) < 2 * validators.power


@settings(max_examples=100, deadline=None)
@given(SETS, st.integers(1, 40))
def test_steps_may_be_taken_together(validators: ValidatorSet, times: int) -> None:
    """While powers stay as they are. Soon after they changed, priorities may be scaled down at each first step."""
    one_by_one = validators
    for _ in range(times):
        one_by_one = one_by_one.stepped()
    assert validators.stepped(times) == one_by_one
