"""Chains with ABCI apps under faults and liars, each call through the grammar checker, and planted disorder seen."""

import re
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.blocks import Block
from quorate.ledger.comet.evidence import DuplicateVoteEvidence, EvidenceList, LightClientAttackEvidence, Misconduct
from quorate.ledger.comet.validators import CometValidatorSet
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.app_liars import APP_LIARS
from quorate.protocols.tendermint.app_messages import AskApp
from quorate.protocols.tendermint.chain_app import Finalized
from quorate.protocols.tendermint.core import STALLED
from quorate.protocols.tendermint.driven_app import DrivenApp
from quorate.protocols.tendermint.evidence_pool import EvidencePool, PastHeight
from quorate.sim.adversary import GENERIC

from tests.protocols.tendermint.app_trial import held, run

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


class TwoCommits(DrivenApp):
    """Asks to commit twice."""

    def commit(self, height: int, said: Finalized) -> None:
        super().commit(height, said)
        self._questions.ask(AskApp(requests.RequestCommit()), height)


class NoInitChain(DrivenApp):
    """Begins no chain."""

    def welcome(self, info: Any) -> None:
        self._info = info
        self._ready(None)


class Unrecorded(DrivenApp):
    """Has the app commit what it does not keep."""

    def restore(self, record: Any) -> None:
        pass


class Unremembered(EvidencePool):
    """Forgets what blocks had."""

    def decided(self, block: Block, validators: CometValidatorSet) -> None:
        super().decided(replace(block, evidence=EvidenceList()), validators)


class Believing(EvidencePool):
    """Takes all evidence for true."""

    def _verify_piece(self, piece: Misconduct, past: PastHeight, as_of: int) -> None:
        pass


@pytest.mark.parametrize(
    ("bug", "text"), [(Unremembered, "has what block .* has"), (Believing, "blames somebody for nothing")]
)
def test_planted_faults_of_evidence_are_seen(bug: type[EvidencePool], text: str) -> None:
    core = type("Planted", (AppChain,), {"evidence_class": bug})
    outcome = run(0, core=core, byzantine=1, adversary=("slandering", "splitting"), duration_s=2.0)
    assert not outcome.holds
    assert re.search(text, outcome.text), outcome.text


def planted(bug: type[DrivenApp]) -> type[AppChain]:
    return type("Planted", (AppChain,), {"app_class": bug})


@pytest.mark.parametrize(
    ("bug", "text"),
    [
        (TwoCommits, "Commit: comes after"),
        (NoInitChain, "InitChain must come before it"),
        (Unrecorded, "what the app did not make|the engine, which has no blocks|the engine's blocks end"),
    ],
)
def test_planted_disorder_is_seen(bug: type[DrivenApp], text: str) -> None:
    outcomes = [run(seed, core=planted(bug), duration_s=2.0) for seed in range(2)]
    texts = [outcome.text for outcome in outcomes if not outcome.holds]
    assert texts
    assert any(re.search(text, found) for found in texts), texts
