"""Tendermint in the simulator, among crashes and lies; and planted bugs, each caught by one of a few seeds.

It is not in the REGISTRY yet (docs/protocols/tendermint.md says why), so these tests put it there for themselves.
"""

from collections.abc import Iterator

import msgspec
import pytest

from quorate.protocols.registry import REGISTRY
from quorate.protocols.tendermint.entry import ENTRY
from quorate.protocols.tendermint.mutants import MUTANTS
from quorate.trials.campaign import Task, run_task

SEEDS = 60
CAUGHT_FROM = {
    "no-lock": 20,
    "nil-unlocks": 50,
    "forgets-valid": 0,
    "no-old-prevotes": 0,
    "one-value": 0,
    "no-skip": 0,
    "this-round": 0,
    "hasty": 0,
    "small-quorum": 0,
    "believes-decisions": 0,
    "believes-certificates": 60,
    "believes-votes": 0,
    "believes-proposers": 12,
    "forgets-signatures": 0,
    "forgets-lock": 0,
    "sends-at-once": 9,
    "records-no-votes": 0,
    "tells-nothing": 0,
    "helps-nobody": 0,
}
"""By planted bug, a seed shortly before the first that catches it."""
BY_A_STEP = ("no-timeout",)
"""Seen by the tests of lines 57-60."""


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The protocol by its name, for one test."""
    REGISTRY[ENTRY.name] = ENTRY
    yield
    del REGISTRY[ENTRY.name]


def check(task: Task) -> None:
    outcome = run_task(task)
    assert outcome.holds, (task.seed, outcome.text)
    assert outcome.committed > 0


@pytest.mark.parametrize(("nodes", "byzantine"), [(1, 0), (4, 0), (4, 1), (7, 2)])
def test_promises_are_kept(nodes: int, byzantine: int) -> None:
    for seed in range(6 if nodes < 7 else 2):
        check(Task(protocol="tendermint", seed=seed, nodes=nodes, byzantine=byzantine))


def test_more_liars_than_it_bears_are_not_asked_for() -> None:
    assert ENTRY.traits.liars(4) == 1
    assert ENTRY.traits.liars(7) == 2


@pytest.mark.parametrize("mutant", CAUGHT_FROM)
def test_planted_bugs_are_caught(mutant: str) -> None:
    first = CAUGHT_FROM[mutant]
    for seed in range(first, first + SEEDS):
        task = Task(protocol="tendermint", seed=seed, nodes=4, faults="common")
        if not run_task(msgspec.structs.replace(task, mutant=mutant)).holds:
            check(task)
            return
    pytest.fail(f"none of {SEEDS} seeds from {first} on")


def test_no_planted_bug_is_left_out() -> None:
    assert {mutant.name for mutant in MUTANTS} == {*CAUGHT_FROM, *BY_A_STEP}
