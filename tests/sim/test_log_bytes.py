"""The log in memory is bounded in bytes while a snapshot is being written, however long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.parts.leaderlog.compaction import Compactor
from quorate.parts.log.entries import Entry, Log
from quorate.sim import jobs
from quorate.sim.equipment import Equipment
from quorate.trials import campaign
from quorate.trials.campaign import Task, run_task

LOG_BYTES_MAX = 4096
UNCOMMITTED_BYTES_MAX = 1024
"""What a leader may have taken in when its log becomes full."""
WRITING_S = 2.0
"""How long a simulated App takes for a snapshot, about."""
PROTOCOLS = ("raft", "multipaxos")
SEEDS = range(4)


@pytest.fixture(autouse=True)
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of the logs of all nodes, whenever one has grown, with configurations that allow little and slow Apps."""
    config_of, append = campaign._config, Log.append
    found: list[int] = []

    def tight(equipment: Equipment, task: Task, kinds: Sequence[str]) -> Any:
        config = config_of(equipment, task, kinds)
        return replace(config, log_bytes_max=LOG_BYTES_MAX, uncommitted_bytes_max=UNCOMMITTED_BYTES_MAX)

    def appending(self: Log, entries: Sequence[Entry]) -> None:
        append(self, entries)
        found.append(self.size_bytes)

    monkeypatch.setattr(campaign, "_config", tight)
    monkeypatch.setattr(jobs, "JOB_S", WRITING_S)
    monkeypatch.setattr(Log, "append", appending)
    return found


def run(protocol: str, seed: int) -> None:
    outcome = run_task(Task(protocol=protocol, seed=seed, nodes=3, faults="none", duration_s=10.0))
    assert outcome.holds, outcome.text


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", SEEDS)
def test_it_takes_no_more_than_it_may(protocol: str, seed: int, sizes: list[int]) -> None:
    run(protocol, seed)
    assert LOG_BYTES_MAX <= max(sizes) <= LOG_BYTES_MAX + UNCOMMITTED_BYTES_MAX + 128, "it was full, and no more"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_budget_that_counts_entries_shows(
    protocol: str, seed: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Compactor, "is_full", lambda self, log: self._busy and len(log) >= LOG_BYTES_MAX)
    run(protocol, seed)
    assert max(sizes) > 1.5 * LOG_BYTES_MAX
