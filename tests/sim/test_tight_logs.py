"""PBFT with a log so small that it is full all the time, among every fault, with a liar and without.

Each promise is kept, and clients are served when the faults are over. Seed 205 had a snapshot taken in a step that
executed more, and then a node that could not come after, as each of the others had another snapshot.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.protocols.pbft.images import Images
from quorate.protocols.pbft.normal import NormalCase
from quorate.sim.equipment import Equipment
from quorate.trials import campaign
from quorate.trials.campaign import Task, run_task

TIGHT = {"batch_bytes_max": 256, "log_bytes_max": 8192, "snapshot_bytes": 1 << 30, "snapshot_batches": 1 << 14}
"""A few dozen requests; no snapshot is due by the order."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a primary filled up to a checkpoint, and a snapshot was taken for want of room."""
    counts = {"filled": 0, "wanted": 0}
    config_of, is_filling, is_wanted = campaign._config, NormalCase._is_filling, Images.is_wanted

    def tight(equipment: Equipment, task: Task, kinds: Sequence[str]) -> Any:
        return replace(config_of(equipment, task, kinds), **TIGHT)

    def filling(self: NormalCase, sequence: int) -> bool:
        found = is_filling(self, sequence)
        counts["filled"] += found
        return found

    def wanted(self: Images) -> bool:
        assert is_wanted.fget is not None
        found = bool(is_wanted.fget(self))
        counts["wanted"] += found
        return found

    monkeypatch.setattr(campaign, "_config", tight)
    monkeypatch.setattr(NormalCase, "_is_filling", filling)
    monkeypatch.setattr(Images, "is_wanted", property(wanted))
    return counts


@pytest.mark.parametrize(("seed", "nodes", "byzantine"), [(0, 4, 0), (3, 4, 0), (8, 4, 1), (100, 5, 1), (205, 7, 2)])
def test_promises_are_kept(seed: int, nodes: int, byzantine: int, seen: dict[str, int]) -> None:
    outcome = run_task(Task(protocol="pbft", seed=seed, nodes=nodes, faults="all", byzantine=byzantine))
    assert outcome.violated is None, outcome.text
    assert seen["filled"] + seen["wanted"] > 0


def test_what_an_earlier_life_executed_takes_nobodys_room(seen: dict[str, int]) -> None:
    """Nodes that had restarted from a snapshot took it for undecided, and filled with null batches for ever."""
    outcome = run_task(Task(protocol="pbft", seed=101, nodes=5, faults="all", byzantine=1))
    assert outcome.violated is None, outcome.text
    assert seen["filled"] < 5000
