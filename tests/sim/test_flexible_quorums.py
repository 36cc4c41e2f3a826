"""Multi-Paxos and Paxos under all faults with quorums that are no majorities."""

from typing import Any

import msgspec
import pytest

from quorate.parts.log import configuration
from quorate.protocols import REGISTRY
from quorate.protocols.multipaxos import MultiPaxosConfig
from quorate.protocols.paxos import PaxosLogConfig
from quorate.sim.options import MemberChange, Options
from quorate.sim.run import simulate
from quorate.sim.trial import Trial
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import subject

CHANGE = MemberChange(configuration.encode_change)
CHOICES: list[tuple[int, dict[str, Any]]] = [
    (5, {"kind": "sizes", "phase1": 4, "phase2": 2}),
    (5, {"kind": "sizes", "phase1": 2, "phase2": 4}),
    (4, {"kind": "sizes", "phase1": 3, "phase2": 2}),
    (6, {"kind": "grid", "rows": [[0, 1, 2], [3, 4, 5]]}),
    (6, {"kind": "grid", "rows": [[0, 1, 2], [3, 4, 5]], "columns_first": True}),
    (4, {"kind": "weighted", "weights": [[0, 2], [1, 1], [2, 1], [3, 1]]}),
    (5, {"kind": "listed", "phase1": [[0, 1, 2], [2, 3, 4]], "phase2": [[2], [0, 3]]}),
]


@pytest.mark.parametrize("seeds", [range(2), pytest.param(range(2, 12), marks=pytest.mark.slow)])
@pytest.mark.parametrize(("nodes", "quorum"), CHOICES, ids=lambda value: str(value))
def test_multi_paxos(nodes: int, quorum: dict[str, Any], seeds: range) -> None:
    entry = REGISTRY["multipaxos"]
    choice = msgspec.convert({"quorum": quorum}, MultiPaxosConfig).quorum
    equipment = equipment_of("multipaxos")
    make = entry.make(msgspec.structs.replace(equipment.simulation, quorum=choice))
    for seed in seeds:
        options = Options(seed=seed, nodes=nodes)
        outcome = simulate(Trial(make, subject("register"), options, equipment.invariants, change=CHANGE))
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"


@pytest.mark.parametrize(("nodes", "quorum"), CHOICES[:2], ids=lambda value: str(value))
def test_paxos(nodes: int, quorum: dict[str, Any]) -> None:
    entry = REGISTRY["paxos"]
    choice = msgspec.convert({"paxos": {"quorum": quorum, "ask_s": None}}, PaxosLogConfig).paxos.quorum
    equipment = equipment_of("paxos")
    paxos = msgspec.structs.replace(equipment.simulation.paxos, quorum=choice)
    config = msgspec.structs.replace(equipment.simulation, paxos=paxos)
    for seed in range(4):
        options = Options(seed=seed, nodes=nodes, duration_s=4.0)
        outcome = simulate(Trial(entry.make(config), subject("register"), options, equipment.invariants))
        assert outcome.holds, f"seed {seed}: {outcome.violated}: {outcome.text}"
