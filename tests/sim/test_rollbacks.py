"""Rollbacks under crashes and all other faults: linearizable, atomic, alike on all nodes; and planted bugs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from quorate.machines.kv import rollback
from quorate.machines.kv.store import KvStore
from quorate.protocols import REGISTRY
from quorate.service.replica import Replica
from quorate.sim.options import Options, parse_faults
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.trial import Trial
from quorate.trials.protocols import equipment_of

from tests.sim.rollbacks import RollbackSubject


def run(seed: int, protocol: str = "raft", faults: str = "all", duration_s: float = 6.0) -> tuple[RunOutcome, int]:
    """One run of five nodes, and how many rollbacks clients were told of."""
    subject, equipment = RollbackSubject(), equipment_of(protocol)
    options = Options(seed=seed, faults=parse_faults(faults), duration_s=duration_s)
    make = REGISTRY[protocol].make(equipment.simulation)
    return simulate(Trial(make, subject, options, equipment.invariants)), subject.known.done


@pytest.fixture(autouse=True)
def many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback of a few keys takes several steps, between which a node may die."""
    monkeypatch.setattr(rollback, "STEP_KEYS", 2)


@pytest.mark.parametrize(
    ("protocol", "seeds"),
    [
        ("raft", (2, 5, 7)),
        ("multipaxos", (2, 7)),
        pytest.param("raft", range(10, 110), marks=pytest.mark.slow),
        pytest.param("multipaxos", range(10, 110), marks=pytest.mark.slow),
    ],
)
def test_a_rollback_is_one_write_of_many_keys(protocol: str, seeds: Sequence[int]) -> None:
    counts: Counter[str] = Counter()
    for seed in seeds:
        outcome, done = run(seed, protocol)
        assert outcome.holds, f"seed {seed}: {outcome.text}"
        counts += Counter({"rollbacks": done, **outcome.counts})
    assert counts["rollbacks"] > 20
    assert counts["snapshots taken"] > 10
    assert counts["crash"] > 10


class Forgetful:
    """Planted bugs, each in place of ``_changes``."""

    @staticmethod
    def keeps_new_keys(*args: Any) -> Iterator[Any]:
        return (changed for changed in CHANGES(*args) if changed is None or changed.then is not None)

    @staticmethod
    def touches_others(store: KvStore, key: bytes, end: bytes, then: int, now: int) -> Iterator[Any]:
        return CHANGES(store, b"\0", b"\0", then, now)


CHANGES = rollback._changes


@pytest.mark.slow
@pytest.mark.parametrize("bug", [Forgetful.keeps_new_keys, Forgetful.touches_others])
def test_a_planted_bug_is_caught(bug: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollback, "_changes", bug)
    violated = [outcome.violated for seed in (2, 5, 8) if not (outcome := run(seed, faults="none")[0]).holds]
    assert "linearizable" in violated or any("linear" in str(each) for each in violated), violated


def test_a_replica_that_goes_on_in_the_middle_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given more of the log, or a snapshot is taken, while a rollback is half done."""
    monkeypatch.setattr(Replica, "is_midway", False)
    assert not all(run(seed, faults="none")[0].holds for seed in (2, 5, 8))
