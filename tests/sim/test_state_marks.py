"""Nodes that start from marks, in simulation: crashes of processes and of power, transfers, damaged and full disks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from quorate.sim import jobs
from quorate.sim.jobs import SimJobs
from quorate.trials.campaign import Task, run_task


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a mark was taken, a state reopened, a stream made of one."""
    counts: Counter[str] = Counter()
    reopen, marked, stream = SimJobs._reopen, SimJobs.marked, jobs._make_stream

    def counting(what: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            counts[what] += 1
            return call(*args)

        return counted

    monkeypatch.setattr(SimJobs, "_reopen", counting("reopened", reopen))
    monkeypatch.setattr(SimJobs, "marked", counting("taken", marked))
    monkeypatch.setattr(jobs, "_make_stream", counting("streamed", stream))
    return counts


def held(protocol: str, seed: int) -> None:
    task = Task(protocol=protocol, seed=seed, faults="common,snapshots", nodes=5, workload="kv", duration_s=8.0)
    outcome = run_task(task)
    assert outcome.holds, f"{protocol} seed {seed}: {outcome.text}"


def test_nodes_start_from_marks_and_feed_others_from_them(counted: Counter[str]) -> None:
    for seed in (5, 6):
        held("raft", seed)
    assert counted["taken"] > 10
    assert counted["reopened"] > 1


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_many_crashes(protocol: str, counted: Counter[str]) -> None:
    for seed in range(40):
        held(protocol, seed)
    assert min(counted["taken"], counted["reopened"], counted["streamed"]) > 10, counted


def test_protocols_whose_nodes_compare_snapshots_take_none(counted: Counter[str]) -> None:
    held_pbft = run_task(Task(protocol="pbft", seed=0, faults="common", nodes=4, workload="kv", duration_s=5.0))
    assert held_pbft.holds
    assert not counted
