"""Campaigns of a chain: every promise is kept under all faults, and each planted bug is caught."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from quorate.cli.folder import FolderError, check_protocol
from quorate.protocols import REGISTRY
from quorate.protocols.traits import Belief, Value
from quorate.service.config import ConfigError, from_mapping
from quorate.sim.options import OptionsError
from quorate.sim.run import RunOutcome
from quorate.trials.campaign import Task, run_task, trial_of
from quorate.trials.protocols import mutants_of

from tests.campaigns import many


def check(task: Task) -> RunOutcome:
    """Run a task, which must hold."""
    outcome = run_task(task)
    assert outcome.holds, f"{task}: {outcome.violated}: {outcome.text}"
    return outcome


def task_of(seed: int, **which: object) -> Task:
    """A small one."""
    return msgspec.structs.replace(Task(protocol="nakamoto", seed=seed, nodes=8, duration_s=30.0), **which)


def test_all_faults() -> None:
    for seed in range(1000, 1004):
        outcome = check(task_of(seed, duration_s=20.0))
        assert outcome.committed > 2
        assert outcome.operations > 5


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_other_sizes(nodes: int) -> None:
    check(task_of(0, nodes=nodes, duration_s=10.0))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, many(120), 40))
def test_sixteen_nodes_under_all_faults(first: int) -> None:
    for seed in range(first, first + 40):
        check(Task(protocol="nakamoto", seed=seed, nodes=16, duration_s=60.0))


def test_what_it_is() -> None:
    entry = REGISTRY["nakamoto"]
    traits = entry.traits
    assert (traits.is_byzantine, traits.has_keys) == (True, False)
    assert (traits.belief, traits.value) == (Belief.WORK, Value.RAW_TRANSACTIONS)
    assert [entry.faults(nodes) for nodes in (1, 2, 3, 16)] == [0, 0, 1, 7]


def test_it_is_not_served_and_says_why(tmp_path: Path) -> None:
    assert "nakamoto" not in REGISTRY.served()
    with pytest.raises(
        FolderError, match=r"nakamoto: its nodes have no miner .*; try `quorate sim nakamoto`, or choose"
    ):
        check_protocol("nakamoto")
    nodes = {"1": {"peer": "127.0.0.1:1", "client": "127.0.0.1:2"}}
    with pytest.raises(ConfigError, match="protocol: nakamoto: its nodes have no miner"):
        from_mapping({"cluster": "c", "node": 1, "data": str(tmp_path), "protocol": "nakamoto", "nodes": nodes})


@pytest.mark.parametrize(("protocol", "workload"), [("nakamoto", "register"), ("raft", "payments")])
def test_a_workload_of_another_kind_is_refused(protocol: str, workload: str) -> None:
    with pytest.raises(OptionsError, match=f"{protocol} has no workload {workload}: leave --workload out"):
        trial_of(Task(protocol=protocol, seed=0, workload=workload))


# --- planted bugs ---

FIRST = {
    "no-barrier": 15,
    "empty-checkpoint": 12,
    "prunes-below-head": 12,
    "unsynced-flush": 12,
}
"""Where the first seeds find nothing: the first that did, when this was written."""
OF_DISKS = ("cuts-damage", "trusts-next-sync")
BY_HAND = ("forgets-final",)
"""No campaign has blocks that are final: ``test_chains.py``."""
SLOW = ("answers-no-locator", "asks-once", "hears-nobody", *OF_DISKS)
SEEDS_SOON = 30


def planted() -> list[object]:
    """Each, in the tier that it belongs to."""
    names = [mutant.name for mutant in mutants_of("nakamoto") if mutant.name not in BY_HAND]
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in names]


@pytest.mark.parametrize("mutant", planted())
def test_planted_bugs_are_caught(mutant: str) -> None:
    faults = "disks" if mutant in OF_DISKS else "common"
    first = FIRST.get(mutant, 0)
    for seed in range(first, first + SEEDS_SOON):
        task = task_of(seed, faults=faults)
        if not run_task(msgspec.structs.replace(task, mutant=mutant)).holds:
            check(task)
            return
    pytest.fail(f"none of {SEEDS_SOON} seeds from {first} on")
