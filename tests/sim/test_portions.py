"""What is committed goes up in portions, slowly, under faults: reads at a leader are linearizable all the same.

Simulated nodes take no time, so that a run of its own never has a read between two portions: here each takes a while.
"""

from __future__ import annotations

from typing import Any

import pytest

from quorate.kernel import Env
from quorate.parts.leaderlog import delivery
from quorate.parts.leaderlog.delivery import DELIVER
from quorate.parts.leaderlog.reads import ReadRequestOf, Reads
from quorate.parts.log.entries import Entry, Log
from quorate.parts.log.replicated import ReadReady
from quorate.protocols.multipaxos import core as multipaxos
from quorate.protocols.raft import core as raft
from quorate.trials.campaign import Task, run_task

PAUSE_S = 0.05
SEEDS = (0, 5, 17, 21)
SEEDS_SOON = range(60)


@pytest.fixture(autouse=True)
def portions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry each. How many were left when there was more to come."""
    left: list[int] = []

    def slow(env: Env, log: Log, delivered_index: int, commit_index: int) -> tuple[list[Entry], int]:
        found = delivery.portion(env, log, delivered_index, commit_index)
        remaining = commit_index - delivered_index - len(found[0])
        if remaining:
            left.append(remaining)
            env.set_timer(DELIVER, PAUSE_S)
        return found

    monkeypatch.setattr(delivery, "ENTRIES_MAX", 1)
    monkeypatch.setattr(raft, "portion", slow)
    monkeypatch.setattr(multipaxos, "portion", slow)
    return left


def run(protocol: str, seed: int) -> Any:
    return run_task(Task(protocol=protocol, seed=seed, duration_s=10.0))


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_reads_are_linearizable(protocol: str, portions: list[int]) -> None:
    for seed in SEEDS:
        outcome = run(protocol, seed)
        assert outcome.holds, outcome.text
    assert len(portions) > 100


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_reads_that_wait_for_no_portion_are_caught(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    serve = Reads.serve

    def at_once(self: Reads, request: ReadRequestOf, index: int) -> None:
        if request.node == self._env.id:
            self._env.deliver(ReadReady(request.tokens))
        else:
            serve(self, request, index)

    monkeypatch.setattr(Reads, "serve", at_once)
    assert any(not run(protocol, seed).holds for seed in SEEDS_SOON)
