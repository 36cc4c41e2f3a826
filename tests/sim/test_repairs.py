"""Nodes that lose their folders and are repaired from the others: what holds, and that what is planted is found."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from quorate.sim.options import OptionsError
from quorate.trials import campaign
from quorate.trials.campaign import Task

HOLDS = [("raft", 3), ("raft", 5), ("multipaxos", 3), ("multipaxos", 5)]
CAUGHT = [
    ("raft", "votes-at-once", 3, 0),
    ("raft", "counts-at-once", 3, 47),
    ("raft", "returns-early", 3, 47),
    ("raft", "keeps-former-lives", 3, 198),
    ("multipaxos", "promises-at-once", 3, 57),
    ("multipaxos", "counts-at-once", 3, 4),
    ("multipaxos", "returns-early", 3, 23),
]
"""Protocol, mutant, nodes, seed."""


def repairs(protocol: str, seed: int, **more: Any) -> Task:
    """As `quorate sim PROTOCOL --repairs --seed SEED`."""
    return Task(protocol=protocol, seed=seed, repairs=True, **more)


@pytest.mark.parametrize(("protocol", "nodes"), HOLDS)
def test_folders_are_lost_and_promises_are_kept(protocol: str, nodes: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(8):
        outcome = campaign.run_task(repairs(protocol, seed, nodes=nodes))
        assert outcome.holds, outcome.text
        counts.update(outcome.counts)
    assert min(counts["lost folders"], counts["returned"]) >= 8, counts


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "nodes"), HOLDS)
def test_they_are_kept_with_many_seeds(protocol: str, nodes: int) -> None:
    for seed in range(8, 300):
        outcome = campaign.run_task(repairs(protocol, seed, nodes=nodes))
        assert outcome.holds, f"seed {seed}: {outcome.text}"


@pytest.mark.parametrize(("protocol", "mutant", "nodes", "seed"), CAUGHT)
def test_what_is_planted_is_found(protocol: str, mutant: str, nodes: int, seed: int) -> None:
    assert not campaign.run_task(Task(protocol=protocol, seed=seed, nodes=nodes, mutant=mutant)).holds


def test_a_protocol_that_cannot_says_so() -> None:
    with pytest.raises(OptionsError, match=r"node of paxos cannot be repaired: leave out --repairs, or choose .*raft"):
        campaign.trial_of(repairs("paxos", 0))
    with pytest.raises(OptionsError, match="too few to go on while one is without its memory"):
        campaign.trial_of(repairs("raft", 0, nodes=2))
    with pytest.raises(OptionsError, match="--joins"):
        campaign.check_repairs(repairs("raft", 0, joins=True))
