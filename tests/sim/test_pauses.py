"""Nodes that pause between what goes up to their Apps, under faults: every promise is kept all the same.

Simulated nodes take no time and never pause by themselves: here they do after half of what goes up, as real nodes do
when they have much to hand up at once.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from quorate.kernel import Shell, Turn
from quorate.sim.node import SimNode
from quorate.trials.campaign import Task, run_task

PROTOCOLS = ("raft", "multipaxos", "paxos", "pbft")
PAUSE_S = 0.02
SEEDS_SOON = range(40)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much waited at each pause."""
    waiting: list[int] = []

    def pauses(self: SimNode) -> bool:
        if self.rng.random() < 0.5:
            return False
        waiting.append(len(self.shell._line))
        self.after(self.rng.expovariate(1 / PAUSE_S), self.shell.go_on)
        return True

    monkeypatch.setattr(SimNode, "pauses", pauses)
    return waiting


def run(protocol: str, seed: int) -> Any:
    return run_task(Task(protocol=protocol, seed=seed, duration_s=10.0))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seeds", [range(2), pytest.param(range(2, 6), marks=pytest.mark.slow)])
def test_every_promise_is_kept(protocol: str, seeds: range, pauses: list[int]) -> None:
    for seed in seeds:
        outcome = run(protocol, seed)
        assert outcome.holds, outcome.text
    assert len(pauses) > 2 * len(seeds)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_overtakes_a_pause_is_caught(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    release = Shell._release

    def overtaking(self: Shell, turn: Turn, was_held: bool) -> None:
        kept, self._line = self._line, deque()
        release(self, turn, was_held)
        self._line += kept

    monkeypatch.setattr(Shell, "_release", overtaking)
    assert any(not run(protocol, seed).holds for seed in SEEDS_SOON)
