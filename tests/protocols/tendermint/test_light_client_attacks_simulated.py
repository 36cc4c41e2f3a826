"""A light client that is lied to has the liars punished, whatever else fails; and where they are not, it is seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.evidence_pool import EvidencePool
from quorate.sim.run import RunOutcome

from tests.protocols.tendermint.app_trial import core_of, run
from tests.protocols.tendermint.light_attacks import AttackSubject

KINDS = {"lunatic": 2, "equivocation": 3}
"""With how many liars among four: f + 1, and a quorum."""


def attacked(seed: int, kind: str, core: type[AppChain] = AppChain, **options: Any) -> tuple[RunOutcome, AttackSubject]:
    subject = AttackSubject(seed, kind, KINDS[kind])
    return run(seed, subject, core=core, scheme=subject.scheme, duration_s=4.0, **options), subject


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(1, 15), marks=pytest.mark.slow)])
def test_the_liars_are_blamed_in_a_block_and_every_app_is_told(kind: str, seeds: range) -> None:
    for seed in seeds:
        outcome, subject = attacked(seed, kind)
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"
        assert len(subject.punished.committed) == 1
        assert "" in subject.history.answers, "one of the two pieces was taken"
        assert any("chain's own" in why for why in subject.history.answers), "the other never"


# --- planted bugs ---


class Forgetful(EvidencePool):
    """Does not know what blocks had."""

    def decided(self, block: Any, validators: Any) -> None:
        super().decided(block, validators)
        self._committed.clear()


class Shelving(EvidencePool):
    """Takes it, and proposes it never."""

    def to_propose(self, height: int, time: Any) -> tuple[Any, ...]:
        return ()


def with_pool(pool: type[EvidencePool]) -> type[AppChain]:
    """A node whose evidence pool has a bug."""

    class Planted(AppChain):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.evidence.__class__ = pool

    return Planted


def texts(core: type[AppChain]) -> Iterator[str]:
    for seed in range(1):
        outcome, _ = attacked(seed, "lunatic", core, faults=(), healing_s=5.0)
        if not outcome.holds:
            yield f"{outcome.violated}: {outcome.text}"


@pytest.mark.parametrize(
    ("core", "text"),
    [
        (core_of("believes-evidence"), "blames somebody for nothing"),
        (with_pool(Forgetful), "blamed twice"),
        (core_of("hides-misbehavior"), "was told otherwise"),
        pytest.param(with_pool(Shelving), "no block has the evidence", marks=pytest.mark.slow),
    ],
    ids=["credulous", "forgetful", "silent", "shelving"],
)
def test_a_planted_bug_is_seen(core: type[AppChain], text: str) -> None:
    found = list(texts(core))
    assert any(text in each for each in found), found
