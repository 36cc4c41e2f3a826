"""Twins: every scenario of so many rounds, in this process or in several."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import Final

import msgspec

from quorate.kernel import Shell
from quorate.parts.crypto.keys import Symbolic
from quorate.sim.checkers.base import Violation
from quorate.sim.mutant import Mutant
from quorate.sim.options import Options, OptionsError
from quorate.sim.trial import Trial
from quorate.sim.twins.scenarios import Scenario, scenarios
from quorate.sim.twins.stage import Executions, Stage
from quorate.trials.protocols import entry_of, equipment_of, mutant_of

ROUNDS_MAX: Final = 6
NODES_MAX: Final = 7
"""Beyond these a class of scenarios takes too long to find, and there are more than anybody waits for."""
TOGETHER: Final = 50
"""Scenarios that go to another process at a time."""


class Played(msgspec.Struct, frozen=True):
    """How one scenario went. ``rounds``: how many of its rounds came to be."""

    scenario: Scenario
    violated: str | None
    text: str
    rounds: int
    messages: int
    cut: int
    blames: int


def check_twins(protocol: str, nodes: int, rounds: int, mutant: str) -> None:
    """Raises OptionsError where Twins make no sense."""
    entry = entry_of(protocol)
    if equipment_of(protocol).twins is None:
        raise OptionsError(f"--twins needs a Byzantine protocol whose EQUIPMENT sets `twins`; {protocol} has none")
    if entry.traits.liars(nodes) < 1:
        raise OptionsError(f"{nodes} nodes of {protocol} tolerate no lying node; write --nodes 4")
    if nodes > NODES_MAX or not 1 <= rounds <= ROUNDS_MAX:
        raise OptionsError(f"Twins go up to {NODES_MAX} nodes and have 1 to {ROUNDS_MAX} rounds")
    if mutant:
        mutant_of(protocol, mutant)


def play(protocol: str, nodes: int, scenario: Scenario, mutant: str = "") -> Played:
    """Run one scenario."""
    stage = Stage(twins_trial(protocol, nodes, scenario, mutant), scenario)
    violated, text = None, ""
    try:
        stage.run()
    except Violation as violation:
        violated, text = violation.property, violation.text
    except Exception as error:  # whatever the code under test raises is what we look for
        frame = traceback.extract_tb(error.__traceback__)[-1]
        violated, text = "no error", f"{type(error).__name__}: {error} ({frame.name}, {frame.lineno})"
    return Played(scenario, violated, text, min(stage.rounds, len(scenario)), stage.messages, stage.cut, stage.blames)


def twins_trial(protocol: str, nodes: int, scenario: Scenario, mutant: str = "") -> Trial:
    """The protocol, led as the scenario has it."""
    entry, equipment = entry_of(protocol), equipment_of(protocol)
    assert equipment.twins is not None
    sick = mutant_of(protocol, mutant) if mutant else Mutant("", "")
    scheme = Symbolic(range(nodes), b"twins", "simulated")
    core = equipment.twins.core(sick.core or entry.core, [round.leader for round in scenario])
    return Trial(
        make=entry.make(equipment.twins.config, core, scheme.keys),
        subject=Executions(),
        options=Options(nodes=nodes),
        invariants=equipment.invariants,
        shell=sick.shell or Shell,
        scheme=scheme,
    )


def play_some(protocol: str, nodes: int, some: list[Scenario], mutant: str) -> list[Played]:
    """Run a few."""
    return [play(protocol, nodes, scenario, mutant) for scenario in some]


def play_all(protocol: str, nodes: int, rounds: int, mutant: str, jobs: int) -> Iterator[Played]:
    """All of them, in order."""
    every = scenarios(nodes, rounds)
    if jobs == 1:
        for scenario in every:
            yield play(protocol, nodes, scenario, mutant)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        ahead = [pool.submit(play_some, protocol, nodes, some, mutant) for some in islice(_chunks(every), jobs * 4)]
        rest = _chunks(every)
        while ahead:
            done, *ahead = ahead
            ahead.extend(pool.submit(play_some, protocol, nodes, some, mutant) for some in islice(rest, 1))
            yield from done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(every: Iterable[Scenario]) -> Iterator[list[Scenario]]:
    iterator = iter(every)
    while some := list(islice(iterator, TOGETHER)):
        yield some


def describe(nodes: int, scenario: Scenario) -> list[str]:
    """A line a round, with the twins as 0 and 0'."""
    lines = []
    for number, round in enumerate(scenario):
        sides: tuple[list[str], list[str]] = ([], [])
        for process in range(nodes + 1):
            sides[not round.side >> process & 1].append("0'" if process == nodes else str(process))
        parts = " | ".join(" ".join(side) for side in sides if side)
        lines.append(f"round {number}: node {round.leader} leads, {parts}")
    return lines
