"""Tendermint in the simulator, among crashes and lies. ``tests/sim/test_world_campaign.py`` has the planted bugs."""

import pytest

from quorate.protocols.tendermint.entry import ENTRY
from quorate.trials.campaign import Task, run_task


@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(1, 8), marks=pytest.mark.slow)])
@pytest.mark.parametrize(("nodes", "byzantine"), [(1, 0), (4, 0), (4, 1), (7, 2)])
def test_promises_are_kept(nodes: int, byzantine: int, seeds: range) -> None:
    for seed in seeds:
        outcome = run_task(Task(protocol="tendermint", seed=seed, nodes=nodes, byzantine=byzantine))
        assert outcome.holds, (seed, outcome.text)
        assert outcome.committed > 0


def test_more_liars_than_it_bears_are_not_asked_for() -> None:
    assert ENTRY.traits.liars(4) == 1
    assert ENTRY.traits.liars(7) == 2
