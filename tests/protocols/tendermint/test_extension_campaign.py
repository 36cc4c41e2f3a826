"""Chains whose apps extend votes, under faults and liars, each call through the grammar checker; and planted bugs."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.protocols.tendermint.app_invariants import EXTENDED, GIVEN, ONE_EXTENSION
from quorate.protocols.tendermint.extension_liars import EXTENSION_LIARS
from quorate.sim.adversary import GENERIC
from quorate.sim.run import RunOutcome
from quorate.trials.abci.extending import ExtendingSubject
from quorate.trials.abci.subject import AppSubject

from tests.protocols.tendermint import app_trial
from tests.protocols.tendermint.app_trial import core_of, held
from tests.protocols.tendermint.extended_node import EXTEND, VERIFY

LIES = tuple(liar.name for liar in (*GENERIC, *EXTENSION_LIARS))
OURS = ("misextending", "twoextensions", "stripping")


def run(seed: int, subject: AppSubject | None = None, **options: Any) -> RunOutcome:
    return app_trial.run(seed, subject or ExtendingSubject(), liars=EXTENSION_LIARS, **options)


def hold(seeds: range, enabled: int = 1, told_at: int = 0, **options: Any) -> list[ExtendingSubject]:
    return held(seeds, lambda: ExtendingSubject(enabled, told_at), run, **options)


def test_votes_are_extended_under_faults() -> None:
    (subject,) = hold(range(1))
    calls = [call for made in subject.apps.values() for asked in made for call in asked.calls]
    assert len([call for call in calls if isinstance(call, EXTEND)]) > 20
    assert len([call for call in calls if isinstance(call, VERIFY)]) > 40


def test_and_from_a_later_height_on_where_a_node_lies() -> None:
    hold(range(1), enabled=6, told_at=3, byzantine=1, adversary=LIES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "options"),
    [
        (range(1, 13), {}),
        (range(1, 13), {"byzantine": 1, "adversary": LIES}),
        (range(15), {"byzantine": 1, "adversary": OURS}),
        (range(1, 9), {"byzantine": 1, "adversary": OURS, "enabled": 6, "told_at": 3}),
        (range(2), {"nodes": 7, "byzantine": 2, "adversary": OURS}),
    ],
    ids=["crashes", "any liar", "liars about extensions", "from height 6 on", "two liars of seven"],
)
def test_many_seeds(seeds: range, options: dict[str, Any]) -> None:
    hold(seeds, **options)


# --- planted bugs ---


@pytest.mark.parametrize(
    ("mutant", "first", "lies", "violated"),
    [
        ("extends-again", 27, False, {ONE_EXTENSION}),  # a crash between two messages: one seed of ten
        ("believes-extensions", 2, True, {GIVEN}),
        ("verifies-none", 2, True, {GIVEN}),
        ("counts-rejected", 2, True, {GIVEN}),
        ("extends-nil", 2, False, {EXTENDED}),
        ("believes-proofs", 4, True, {GIVEN, EXTENDED}),
        ("keeps-no-extensions", 0, False, {EXTENDED}),
        ("gives-no-extensions", 0, False, {GIVEN}),
    ],
)
def test_planted_bugs_are_seen(mutant: str, first: int, lies: bool, violated: set[str]) -> None:
    liars: dict[str, Any] = {"byzantine": 1, "adversary": OURS} if lies else {}
    for seed in range(first, first + 4):
        outcome = run(seed, core=core_of(mutant), **liars)
        if not outcome.holds:
            assert outcome.violated in violated, outcome.text
            return
    raise AssertionError("none of four seeds shows it")
