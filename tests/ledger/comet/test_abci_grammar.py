"""The grammar of ABCI calls: valid runs pass, and each planted mistake is named where it is.

An independent recogniser of the specification's own grammar agrees on any order of calls.
"""

import random
import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.ledger.comet.abci.grammar import GrammarBroken, GrammarChecker
from quorate.ledger.comet.abci.response_messages import ApplyResult, OfferResult, ProposalStatus

from tests.ledger.comet.abci_runs import (
    ANY_TIME,
    COMMIT,
    Call,
    Runs,
    chunk,
    extend,
    finalize,
    info,
    init_chain,
    offer,
    prepare,
    process,
    verify,
)

ACCEPT = OfferResult.ACCEPT


def first_broken(calls: Sequence[Call]) -> GrammarBroken | None:
    checker = GrammarChecker()
    try:
        for request, response in calls:
            checker.observe(request, response)
    except GrammarBroken as broken:
        return broken
    return None


@settings(max_examples=60)
@given(st.integers(0, 1 << 32), st.integers(0, 4))
def test_valid_runs(seed: int, heights: int) -> None:
    assert first_broken(Runs(seed).run(heights)) is None


def is_a(call: Call, name: str) -> bool:
    return type(call[0]).__name__ == f"Request{name}"


BEGUN = [info(0), init_chain(1), finalize(1), COMMIT]
SYNCED = [init_chain(1), offer(70, 2, ACCEPT), chunk(0), chunk(1)]


@pytest.mark.parametrize(
    ("before", "wrong", "says"),
    [
        ([], finalize(1), "comes first: Info or InitChain"),
        ([], prepare(1), "comes first: Info or InitChain"),
        ([], COMMIT, "comes after the start, not after FinalizeBlock"),
        ([], chunk(0), "comes after the start, not after OfferSnapshot"),
        ([info(0)], finalize(1), "told of height 0: InitChain must come"),
        ([info(7)], init_chain(1), "told of height 7: its chain has begun"),
        ([info(7)], offer(9, 1, ACCEPT), "told of height 7: only one without state"),
        ([info(7)], finalize(7), "is of height 7; the app has committed height 7"),
        ([info(7)], finalize(9), "is of height 9; the app has committed height 7"),
        ([init_chain(40)], finalize(1), "is of height 1; the app has committed height 39"),
        ([init_chain(1)], init_chain(1), "comes after InitChain: a chain begins once"),
        (BEGUN, init_chain(1), "a chain begins once"),
        (BEGUN, COMMIT, "comes after Commit, .*, not after FinalizeBlock"),
        (BEGUN, offer(9, 1, ACCEPT), "state sync is at the start"),
        (BEGUN, prepare(1), "is of height 1; the app has committed height 1"),
        (BEGUN, process(3, b"b"), "is of height 3"),
        (BEGUN, verify(1), "is of height 1"),
        (BEGUN, extend(2, b"b"), "which ProcessProposal did not accept at this height"),
        ([*BEGUN, process(2, b"b", ProposalStatus.REJECT)], extend(2, b"b"), "did not accept"),
        ([*BEGUN, process(2, b"b"), finalize(2), COMMIT], extend(3, b"b"), "did not accept"),
        ([*BEGUN, process(2, b"b")], extend(2, b"c"), "did not accept"),
        ([*BEGUN, process(2, b"b")], extend(3, b"b"), "is of height 3"),
        ([*BEGUN, finalize(2)], finalize(2), "comes after FinalizeBlock of height 2: Commit must come"),
        ([*BEGUN, finalize(2)], finalize(3), "comes after FinalizeBlock of height 2"),
        ([*BEGUN, finalize(2)], process(3, b"b"), "comes after FinalizeBlock of height 2"),
        ([*BEGUN, finalize(2)], verify(2), "comes after FinalizeBlock of height 2"),
        (SYNCED, finalize(71), "state sync has not ended"),
        (SYNCED[:-1], finalize(71), "state sync has not ended"),
        ([*SYNCED[:-1], info(70)], finalize(71), "state sync has not ended"),
        ([*SYNCED, info(69)], finalize(71), "state sync has not ended"),
        ([*SYNCED, chunk(0, refetch=(1,)), info(70)], finalize(71), "state sync has not ended"),
        ([*SYNCED, info(70)], finalize(70), "is of height 70; the app has committed height 70"),
        ([*SYNCED, info(70)], chunk(0), "not after OfferSnapshot"),
        ([*SYNCED, info(70)], offer(80, 1, ACCEPT), "state sync is at the start"),
        (SYNCED, chunk(2), "chunk 2 of a snapshot that has 2"),
        ([init_chain(1), offer(70, 2, OfferResult.REJECT)], chunk(0), "has accepted no snapshot"),
        ([init_chain(1), offer(70, 2, OfferResult.REJECT)], verify(1), "state sync has not ended"),
        ([*SYNCED, chunk(0, ApplyResult.REJECT_SNAPSHOT)], chunk(1), "has accepted no snapshot"),
    ],
)
def test_a_call_that_may_not_come(before: list[Call], wrong: Call, says: str) -> None:
    assert first_broken(before) is None
    broken = first_broken([*before, wrong, *before])
    assert broken is not None
    assert re.search(f"^call {len(before)}, .*{says}", str(broken))
    assert (broken.index, is_a(wrong, broken.call)) == (len(before), True)


def test_what_may_come_at_any_time() -> None:
    calls = [*SYNCED, info(70), process(71, b"b"), extend(71, b"b"), finalize(71), COMMIT]
    for place in range(1, len(calls) + 1):
        for extra in (*ANY_TIME, info(3)):
            assert first_broken([*calls[:place], extra, *calls[place:]]) is None


def test_the_first_height_of_a_run_may_go_on_where_the_last_run_ended() -> None:
    calls = [info(7), verify(8), extend(8, b"accepted before the crash"), finalize(8), COMMIT]
    assert first_broken(calls) is None
    assert first_broken([*calls, verify(9), extend(9, b"not accepted")]) is not None


@settings(max_examples=60)
@given(st.integers(0, 1 << 32))
def test_planted_mistakes_are_named_where_they_are(seed: int) -> None:
    """A call is left out, comes twice, or changes places with the next one of the consensus connection."""
    chance = random.Random(seed)
    calls = Runs(seed).run(4)
    commits = [place for place, call in enumerate(calls) if is_a(call, "Commit")]
    place = chance.choice(commits)
    decided = max(i for i in range(place) if is_a(calls[i], "FinalizeBlock"))
    twice = first_broken([*calls[: place + 1], COMMIT, *calls[place + 1 :]])
    assert twice is not None
    assert (twice.index, twice.call) == (place + 1, "Commit")
    swapped = first_broken([*calls[:decided], COMMIT, *calls[decided:]])
    assert swapped is not None
    assert (swapped.index, swapped.call) == (decided, "Commit")
    skipped = first_broken([*calls[:decided], *calls[decided + 1 :]])
    assert skipped is not None
    assert skipped.call == "Commit"
    if place != commits[-1]:
        left_out = first_broken(calls[:place] + calls[place + 1 :])
        assert left_out is not None
        assert left_out.index >= place
        assert "Commit must come" in str(left_out)
        again = first_broken([*calls[: place + 1], calls[decided], *calls[place + 1 :]])
        assert again is not None
        assert (again.index, again.call) == (place + 1, "FinalizeBlock")


# The specification's grammar, as it stands there: a terminal is a letter; the rest is in order, a choice, or repeated.
# Derivatives (Brzozowski) recognise the beginnings of what it makes.
Rule: TypeAlias = "str | tuple[Rule, ...]"


def seq(*rules: Rule) -> Rule:
    """In order; those that are sequences themselves are part of this one."""
    flat: list[Rule] = []
    for rule in rules:
        flat += rule[1:] if rule[0] == "seq" else [rule]
    return ("seq", *flat)


def any_of(*rules: Rule) -> Rule:
    return ("any", *rules)


def many(rule: Rule) -> Rule:
    return ("many", rule)


def maybe(rule: Rule) -> Rule:
    return any_of(rule, seq())


VOTES = many("v")
EXTEND = seq(VOTES, "e", VOTES)
PROPOSER = seq(VOTES, maybe(seq("p", maybe("s"))), maybe(EXTEND))
OTHER = seq(VOTES, maybe("s"), maybe(EXTEND))
CONSENSUS = many(seq(many(any_of(PROPOSER, OTHER)), "f", "c"))
SYNC = seq(many(seq("o", many("a"))), "o", "a", many("a"), "i")
START = any_of(seq("I", maybe(SYNC), CONSENSUS), seq("i", CONSENSUS))


@cache
def nullable(rule: Rule) -> bool:
    kind, *rules = rule
    if kind == "many":
        return True
    if kind in ("seq", "any"):
        return (all if kind == "seq" else any)(map(nullable, rules))
    return False


@cache
def derived(rule: Rule, letter: str) -> frozenset[Rule]:
    """What may follow the letter: any of these."""
    kind, *rules = rule
    if kind == "many":
        return frozenset(seq(rest, rule) for rest in derived(rules[0], letter))
    if kind == "any":
        return frozenset(rest for each in rules for rest in derived(each, letter))
    if kind != "seq":
        return frozenset({seq()}) if rule == letter else frozenset()
    found: set[Rule] = set()
    for at, each in enumerate(rules, start=1):
        found |= {seq(rest, *rules[at:]) for rest in derived(each, letter)}
        if not nullable(each):
            break
    return frozenset(found)


def beginning(word: str) -> int:
    """How many letters of it begin a run of the grammar."""
    states: frozenset[Rule] = frozenset({START})
    for at, letter in enumerate(word):
        states = frozenset(rest for state in states for rest in derived(state, letter))
        if not states:
            return at
    return len(word)


def spoken(word: str) -> list[Call]:
    """Calls of these names that say what fits, so that names alone decide."""
    has_begun, height, calls = False, 1, []
    for at, letter in enumerate(word):
        if letter == "i":
            calls.append(info(0 if has_begun else 4))
            height = height if has_begun else 5
            if at and word[at - 1] == "a":
                calls[-1], height = info(70), 71
        else:
            calls.append(
                {
                    "I": init_chain(1),
                    "o": offer(70, 1, ACCEPT),
                    "a": chunk(0),
                    "p": prepare(height),
                    "s": process(height, b"b"),
                    "e": extend(height, b"b"),
                    "v": verify(height),
                    "f": finalize(height),
                    "c": COMMIT,
                }[letter]
            )
        height += letter == "c"
        has_begun = True
    return calls


@settings(max_examples=300)
@given(
    st.one_of(
        st.text("Iioapsevfc", max_size=9),
        st.builds(
            "".join,
            st.lists(
                st.sampled_from(["I", "i", "oa", "oai", "o", "fc", "sfc", "psevfc", "vse", "f", "c", "e"]), max_size=7
            ),
        ),
    )
)
def test_the_checker_and_the_grammar_agree(word: str) -> None:
    """But for what the checker knows better.

    Info may come at any time, state sync without InitChain, and a vote is extended for a block that was accepted.
    """
    word = word[:1] + "".join(letter for before, letter in pairwise(word) if letter != "i" or before == "a")
    if "e" in word:
        word = word.replace("e", "se")
    if word.startswith("o"):
        word = "I" + word
    broken = first_broken(spoken(word))
    expected = beginning(word)
    assert (len(word) if broken is None else broken.index) == expected, (word, broken)
