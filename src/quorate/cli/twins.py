"""Twins from the command line: what was found, as a text or as JSON."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import typer

from quorate.sim.twins.scenarios import count, count_all
from quorate.trials.twins import describe, play_all


def run_twins(protocol: str, nodes: int, rounds: int, mutant: str, jobs: int, json: bool) -> bool:
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
