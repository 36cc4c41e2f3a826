"""Chains with ABCI apps under faults and liars, each call through the grammar checker, and planted disorder seen."""

import re
from typing import Any

import pytest

from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.evidence import DuplicateVoteEvidence, LightClientAttackEvidence
from quorate.protocols.tendermint.app_liars import APP_LIARS
from quorate.protocols.tendermint.current_height import STALLED
from quorate.sim.adversary import GENERIC

from tests.protocols.tendermint.app_trial import core_of, held, run

LIES = tuple(liar.name for liar in (*GENERIC, *APP_LIARS))


def test_apps_have_one_history_under_faults() -> None:
    subjects = held(range(4))
    assert sum(len(subject.history.txs) for subject in subjects) > 50
    lives = [asked for subject in subjects for made in subject.apps.values() for asked in made[1:]]
    assert any(isinstance(call, requests.RequestInitChain) for asked in lives for call in asked.calls), (
        "one begins anew"
    )


def test_and_where_a_node_lies() -> None:
    held(range(1), byzantine=1, adversary=LIES)


def test_evidence_that_one_node_was_shown_reaches_a_block_and_slander_does_not() -> None:
    (subject,) = held(range(1, 2), byzantine=1, adversary=("slandering", "splitting"), attacked=True, duration_s=2.0)
    assert subject.history.answers <= {"", STALLED}
    kinds = [type(piece) for piece in subject.history.pieces]
    assert kinds.count(LightClientAttackEvidence) == 1
    assert DuplicateVoteEvidence in kinds, "what the liar signed is true"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "options"),
    [
        (range(4, 44), {}),
        (range(1, 21), {"byzantine": 1, "adversary": LIES}),
        (range(3), {"nodes": 7, "byzantine": 2, "adversary": LIES}),
        (range(6), {"attacked": True}),
        (range(4), {"byzantine": 1, "adversary": (*LIES[-1:], "splitting"), "attacked": True}),
    ],
    ids=["crashes", "a liar of four", "two liars of seven", "evidence", "evidence and a slanderer"],
)
def test_many_seeds(seeds: range, options: dict[str, Any]) -> None:
    held(seeds, **options)


# --- planted bugs ---


@pytest.mark.parametrize(
    ("mutant", "text"),
    [("forgets-evidence", "has what block .* has"), ("believes-evidence", "blames somebody for nothing")],
)
def test_planted_faults_of_evidence_are_seen(mutant: str, text: str) -> None:
    outcome = run(0, core=core_of(mutant), byzantine=1, adversary=("slandering", "splitting"), duration_s=2.0)
    assert not outcome.holds
    assert re.search(text, outcome.text), outcome.text


@pytest.mark.parametrize(
    ("mutant", "text"),
    [
        ("commits-twice", "Commit: comes after"),
        ("begins-no-chain", "InitChain must come before it"),
        ("forgets-outcomes", "what the app did not make|the engine, which has no blocks|the engine's blocks end"),
    ],
)
def test_planted_disorder_is_seen(mutant: str, text: str) -> None:
    outcomes = [run(seed, core=core_of(mutant), duration_s=2.0) for seed in range(2)]
    texts = [outcome.text for outcome in outcomes if not outcome.holds]
    assert texts
    assert any(re.search(text, found) for found in texts), texts
