"""Twins from the command line: every scenario of so many rounds, in this process or in several."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import Any, Final

import msgspec
import typer

from quorate.parts.keys import Symbolic
from quorate.sim.checkers.base import Violation
from quorate.sim.checkers.table import invariants
from quorate.sim.options import OptionsError
from quorate.sim.twins.scenarios import Scenario, count, count_all, scenarios
from quorate.sim.twins.stage import Stage
from quorate.trials.campaign import entry_of, mutant_of

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


def check(protocol: str, nodes: int, rounds: int, mutant: str) -> None:
    """Raises OptionsError where Twins make no sense."""
    entry = entry_of(protocol)
    if entry.led is None:
        raise OptionsError(f"{protocol} has no Twins: it must bear lies, and its REGISTRY entry say how it is led")
    if entry.faults(nodes) < 1:
        raise OptionsError(f"{nodes} nodes of {protocol} bear no lying one; say --nodes 4")
    if nodes > NODES_MAX or not 1 <= rounds <= ROUNDS_MAX:
        raise OptionsError(f"Twins go up to {NODES_MAX} nodes and have 1 to {ROUNDS_MAX} rounds")
    if mutant:
        mutant_of(protocol, mutant)


def play(protocol: str, nodes: int, scenario: Scenario, mutant: str = "") -> Played:
    """Run one scenario."""
    entry = entry_of(protocol)
    assert entry.led is not None
    sick = mutant_of(protocol, mutant).core if mutant else None
    scheme = Symbolic(range(nodes), b"twins")
    core = entry.led(sick or entry.core, [round.leader for round in scenario])
    stage = Stage(entry.make(entry.twins, core, scheme.keys), scheme, nodes, scenario, invariants(entry.invariants))
    violated, text = None, ""
    try:
        stage.run()
    except Violation as violation:
        violated, text = violation.property, violation.text
    except Exception as error:  # whatever the code under test raises is what we look for
        frame = traceback.extract_tb(error.__traceback__)[-1]
        violated, text = "no error", f"{type(error).__name__}: {error} ({frame.name}, {frame.lineno})"
    return Played(scenario, violated, text, min(stage.rounds, len(scenario)), stage.messages, stage.cut, stage.blames)


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


def run(protocol: str, nodes: int, rounds: int, mutant: str, jobs: int, json: bool) -> bool:
    """Run all, print what was found; whether every promise was kept."""
    began_s = time.monotonic()
    summary: dict[str, Any] = {
        "protocol": protocol,
        "nodes": nodes,
        "rounds": rounds,
        "partitions": 2**nodes,
        "leaders": nodes,
        "scenarios": count_all(nodes, rounds),
        "classes": count(nodes, rounds),
        "run": 0,
        "complete": 0,
        "messages": 0,
        "cut": 0,
        "blames": 0,
        "violation": None,
    }
    for played in play_all(protocol, nodes, rounds, mutant, jobs):
        summary["run"] += 1
        summary["complete"] += played.rounds == rounds
        for name in ("messages", "cut", "blames"):
            summary[name] += getattr(played, name)
        if played.violated is not None:
            summary["violation"] = {
                "scenario": describe(nodes, played.scenario),
                "property": played.violated,
                "text": played.text,
            }
            break
    summary["elapsed_s"] = round(time.monotonic() - began_s, 3)
    typer.echo(msgspec.json.encode(summary).decode() if json else _text(summary))
    return summary["violation"] is None


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


def _text(summary: dict[str, Any]) -> str:
    rounds = "1 round" if summary["rounds"] == 1 else f"{summary['rounds']} rounds"
    lines = [
        f"{summary['partitions']} partitions x {summary['leaders']} leaders, {rounds}: {summary['scenarios']:,} "
        f"scenarios, {summary['classes']:,} up to symmetry",
        f"{summary['run']:,} run in {summary['elapsed_s']:,.1f} s, all rounds came to be in {summary['complete']:,}; "
        f"{summary['messages']:,} messages, {summary['cut']:,} cut, the twins blamed {summary['blames']:,} times",
    ]
    violation = summary["violation"]
    if violation is None:
        return "\n".join([*lines, "every promise was kept"])
    return "\n".join(
        [
            *lines,
            f"VIOLATED: {violation['property']}",
            f"  {violation['text']}",
            *(f"  {line}" for line in violation["scenario"]),
        ]
    )
