"""Simulated clients that sign: the promises hold under faults, and one node that lies to them is outvoted."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import msgspec
import pytest

from quorate.parts.crypto.keys import Symbolic
from quorate.sim.options import Options, parse_faults
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.trial import Trial
from quorate.trials.campaign import Task, run_task

from tests.service.signing import STAND_IN, LyingRegisters, registered

NODES = 4

LIES: dict[str, Callable[[bytes], bytes]] = {
    "that all went well": lambda _: msgspec.msgpack.encode(True),
    "that there is nothing": lambda _: msgspec.msgpack.encode(None),
    "a value that nobody wrote": lambda _: msgspec.msgpack.encode(-1),
    "digits of no session": lambda _: b"7",
    "no answer at all": lambda _: b"\xc1",
}


@pytest.mark.parametrize("workload", ["register", "kv"])
@pytest.mark.parametrize("faults", ["none", "all"])
def test_every_promise_is_kept_to_clients_that_sign(workload: str, faults: str) -> None:
    with registered():
        outcomes = [
            run_task(Task(protocol="signed", seed=seed, nodes=NODES, faults=faults, workload=workload))
            for seed in range(3)
        ]
    assert all(outcome.holds for outcome in outcomes), outcomes
    assert sum(outcome.answered for outcome in outcomes) > 150


def lied_to(seed: int, lie: Callable[[bytes], bytes], faults: int, kinds: str) -> RunOutcome:
    """A run in which node 3 lies to clients that bear so many liars."""
    scheme = Symbolic(range(NODES), b"%d" % seed)
    subject = LyingRegisters(STAND_IN.traits, scheme)
    subject.liars, subject.lie, subject.faults = (3,), lie, faults
    equipment = import_module(STAND_IN.equipment).EQUIPMENT
    make = STAND_IN.make(equipment.simulation, None, scheme.keys)
    options = Options(seed=seed, nodes=NODES, faults=parse_faults(kinds), duration_s=5.0)
    return simulate(Trial(make, subject, options, equipment.invariants, scheme=scheme))


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize("kinds", ["none", "all"])
@pytest.mark.parametrize("seeds", [range(2, 3), pytest.param(range(4), marks=pytest.mark.slow)])
def test_a_node_that_lies_to_clients_is_outvoted(lie: Callable[[bytes], bytes], kinds: str, seeds: range) -> None:
    outcomes = [lied_to(seed, lie, 1, kinds) for seed in seeds]
    assert all(outcome.holds for outcome in outcomes), outcomes
    assert sum(outcome.answered for outcome in outcomes) > 25 * len(seeds)


def test_clients_that_bear_no_liar_are_fooled() -> None:
    """That the tests above can fail: whoever takes one node's word believes the lie."""
    for name in ("that there is nothing", "a value that nobody wrote"):
        outcomes = [lied_to(seed, LIES[name], 0, "none") for seed in range(3)]
        assert any(not outcome.holds for outcome in outcomes), name
