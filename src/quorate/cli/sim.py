"""`quorate sim PROTOCOL`: try to break a protocol under many seeds, each with its own faults."""

import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from zlib import crc32

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from quorate.cli import twins as systematic
from quorate.sim.options import EVERY, GROUPS, Options, OptionsError, parse_faults
from quorate.sim.run import RunOutcome
from quorate.trials import campaign
from quorate.trials.campaign import Task
from quorate.trials.objects.loading import object_file_of
from quorate.trials.protocols import entry_of, equipment_of, mutant_of, mutants_of
from quorate.trials.quotas import quotas_of, shortfall
from quorate.trials.twins import check_twins

VIOLATED: Final = 1
WRONG_USE: Final = 2
TOO_FEW_FAULTS: Final = 3
SEEDS: Final = ("0:100", "0:1000")
"""By default; the rarest planted bug needs hundreds."""
BLAMES_SHOWN: Final = 8
SEEDS_PER_JOB_MIN: Final = 20
"""For fewer seeds another process costs more than it saves."""


def sim(
    protocol: Annotated[str, typer.Argument(help="A name of the registry, or a class in a file: ./mine.py:Mine.")],
    under: Annotated[str, typer.Option("--protocol", help="Of a Replicated class: the protocol below it.")] = "raft",
    nodes: Annotated[int, typer.Option(help="How many nodes the cluster has.")] = 5,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds to run: 0:500 for 0 to 499. Default: 0:100; with --mutants 0:1000.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="One seed only.")] = None,
    faults: Annotated[str, typer.Option(help=f"{', '.join(GROUPS)}, or some of {','.join(EVERY)}.")] = "all",
    joins: Annotated[
        bool, typer.Option("--joins", help="Have nodes join, leave and be replaced, where members can change.")
    ] = False,
    repairs: Annotated[bool, typer.Option("--repairs", help="Have nodes lose their folders, and be repaired.")] = False,
    byzantine: Annotated[int, typer.Option(help="How many nodes lie.", min=0)] = 0,
    adversary: Annotated[
        str, typer.Option(help="In which ways they lie: all, none, or names; docs/simulation.md has them.")
    ] = "all",
    twins: Annotated[
        bool, typer.Option("--twins", help="Double one node, and try every partition and leader of a few rounds.")
    ] = False,
    rounds: Annotated[int, typer.Option(help="Rounds of --twins.")] = 2,
    jobs: Annotated[int, typer.Option(help="Processes to use; 0: as many as there are cores.", min=0)] = 0,
    duration_s: Annotated[float, typer.Option(help="Virtual seconds under faults, before all is healed.")] = 10.0,
    workload: Annotated[str, typer.Option(help="register, kv (on disk), mix, or app (ABCI apps).")] = "register",
    mutant: Annotated[str, typer.Option(help="Plant this bug.")] = "",
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Plant each known bug in turn; all must be caught.")
    ] = False,
    trace: Annotated[str | None, typer.Option(help="Write the events of one seed to a file, or - to print.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Simulate a cluster under faults, and check that it keeps its promises.

    Each seed draws its own mix of faults, and is a run that can be repeated exactly. Then all is healed, and the
    cluster must answer every client and agree. The first seed that breaks a promise ends the campaign; its trace is
    written to a file. Clients call the methods of a Replicated class; nodes are compared with an object fed their log.

    Example:  quorate sim raft --seeds 0:500 --faults crash,partition; or quorate sim tendermint --workload app

    Exit code: 0 every promise was kept, 1 one was broken (or a planted bug not caught), 2 wrong use, 3 kept, but in
    500 seeds or more a kind of fault that was switched on came too seldom to say so.
    """
    try:
        protocol, replicated = _resolved(protocol, under, twins or mutants or bool(mutant) or workload != "register")
        if twins:
            _run_twins(protocol, nodes, rounds, mutant, jobs, json)
            return
        chosen = campaign.parse_seeds(str(seed) if seed is not None else seeds or SEEDS[mutants])
        task = Task(
            protocol=protocol,
            seed=chosen[0],
            nodes=nodes,
            faults=faults,
            duration_s=duration_s,
            workload=workload,
            mutant=mutant,
            byzantine=byzantine,
            adversary=adversary,
            joins=joins,
            repairs=repairs,
            replicated=replicated,
        )
        _check(task, chosen, mutants, trace)
        code = _run(task, chosen, _workers(jobs, len(chosen)), mutants, trace, json)
    except OptionsError as error:
        _errors().print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(WRONG_USE) from None
    if code:
        raise typer.Exit(code)


def _run_twins(protocol: str, nodes: int, rounds: int, mutant: str, jobs: int, json: bool) -> None:
    check_twins(protocol, nodes, rounds, mutant)
    if not systematic.run_twins(protocol, nodes, rounds, mutant, jobs or os.cpu_count() or 1, json):
        raise typer.Exit(VIOLATED)


def _resolved(name: str, under: str, is_planted: bool) -> tuple[str, str]:
    """The protocol, and the replicated class above it, if ``name`` is one. Raises OptionsError."""
    if object_file_of(name) is None:
        return name, ""
    if is_planted:
        raise OptionsError("a Replicated class has no --twins, --mutants, --mutant or --workload: leave it out")
    return under, name


def _run(task: Task, seeds: range, workers: int, mutants: bool, trace: str | None, json: bool) -> int:
    """The exit code."""
    if mutants or trace is not None:
        good = _run_mutants(task, seeds, workers, json) if trace is None else _run_traced(task, trace)
        return 0 if good else VIOLATED
    return _run_campaign(task, seeds, workers, json)


def _errors() -> Console:
    return Console(stderr=True)


def _check(task: Task, seeds: range, mutants: bool, trace: str | None) -> None:
    """Refuse wrong use before any process starts. Raises OptionsError."""
    entry_of(task.protocol)
    if task.workload not in campaign.WORKLOADS:
        raise OptionsError(f"no workload is called {task.workload!r}; known are {', '.join(campaign.WORKLOADS)}")
    equipment_of(task.protocol, task.workload)
    if task.mutant:
        mutant_of(task.protocol, task.mutant, task.workload)
    parse_faults(task.faults)
    Options(seed=task.seed, nodes=task.nodes, duration_s=task.duration_s, byzantine=task.byzantine)
    campaign.check_joins(task)
    campaign.check_repairs(task)
    warnings = [text for text in (campaign.check_faults(task), campaign.check_adversary(task)) if text]
    if trace is not None and len(seeds) > 1:
        raise OptionsError("--trace shows one run; say which with --seed")
    if mutants and (task.mutant or trace is not None):
        raise OptionsError("--mutants runs all of them without a trace; leave out --mutant and --trace")
    for warning in warnings:
        _errors().print(f"note: {warning}", markup=False, highlight=False, soft_wrap=True)


def _workers(jobs: int, seeds: int) -> int:
    return max(1, min(jobs or os.cpu_count() or 1, -(-seeds // SEEDS_PER_JOB_MIN)))


def _tasks(task: Task, seeds: range) -> Iterator[Task]:
    return (msgspec.structs.replace(task, seed=seed) for seed in seeds)


# --- one campaign ---


def _run_campaign(task: Task, seeds: range, workers: int, json: bool) -> int:
    began_s = time.monotonic()
    outcomes, broken = [], None
    with _progress() as progress:
        bar = progress.add_task(task.replicated or task.protocol, total=len(seeds))
        for outcome in campaign.run_all(_tasks(task, seeds), workers):
            outcomes.append(outcome)
            progress.advance(bar)
            if not outcome.holds:
                broken = outcome
                break
    summary = _summary(task, outcomes, time.monotonic() - began_s)
    if broken is not None:
        summary["violation"] = _explain(msgspec.structs.replace(task, seed=broken.seed), broken)
    typer.echo(msgspec.json.encode(summary).decode() if json else _text(summary))
    if broken is not None:
        return VIOLATED
    return TOO_FEW_FAULTS if summary["too_few"] else 0


def _summary(task: Task, outcomes: list[RunOutcome], elapsed_s: float) -> dict[str, Any]:
    messages = sum(outcome.messages for outcome in outcomes)
    faults, lies = _total(outcome.counts for outcome in outcomes), _total(outcome.lies for outcome in outcomes)
    quotas = quotas_of(task, len(outcomes), _total((lies, faults)))
    return {
        "protocol": task.protocol,
        "replicated": task.replicated,
        "nodes": task.nodes,
        "seeds": len(outcomes),
        "virtual_s": round(sum(outcome.virtual_s for outcome in outcomes), 3),
        "elapsed_s": round(elapsed_s, 3),
        "seeds_per_s": round(len(outcomes) / elapsed_s, 1),
        "messages": messages,
        "messages_per_s": round(messages / elapsed_s),
        "operations": sum(outcome.operations for outcome in outcomes),
        "committed": sum(outcome.committed for outcome in outcomes),
        "undecided": sum(outcome.undecided for outcome in outcomes),
        "digest": f"{_digest(outcomes):08x}",
        "faults": faults,
        "lies": lies,
        "blames": _total(outcome.blames for outcome in outcomes),
        "quotas": {fault: {"count": quota.count, "least": quota.least} for fault, quota in quotas.items()},
        "too_few": shortfall(quotas),
        "violation": None,
    }


def _total(counted: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in counted:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def _digest(outcomes: list[RunOutcome]) -> int:
    """A hash of all that happened in all runs: the same command gives the same, on any machine."""
    return crc32(b"".join(outcome.digest.to_bytes(4, "big") for outcome in outcomes))


def _explain(task: Task, broken: RunOutcome) -> dict[str, Any]:
    """Run the seed again with a trace, and say where it is and how to repeat it."""
    file = _trace_file(task)
    with file.open("w", encoding="utf-8") as out:
        campaign.traced(task, lambda line: _write_line(out, line))
    what = task.replicated or task.protocol
    command = f"quorate sim {shlex.quote(what)} --seed {task.seed} --nodes {task.nodes} --faults {task.faults}"
    command += f" --duration-s {task.duration_s:g} "
    command += f"--protocol {shlex.quote(task.protocol)}" if task.replicated else f"--workload {task.workload}"
    if task.joins:
        command += " --joins"
    if task.repairs:
        command += " --repairs"
    if task.byzantine:
        command += f" --byzantine {task.byzantine} --adversary {task.adversary}"
    if task.mutant:
        command += f" --mutant {task.mutant}"
    return {
        "seed": broken.seed,
        "property": broken.violated,
        "text": broken.text,
        "trace": str(file),
        "repeat": f"{command} --trace -",
    }


def _write_line(out: Any, line: str) -> None:
    out.write(line + "\n")


def _trace_file(task: Task) -> Path:
    folder = Path("build") if Path("build").is_dir() else Path()
    mutant = f"-{task.mutant}" if task.mutant else ""
    name = task.replicated.rpartition(":")[2] or entry_of(task.protocol).name
    return folder / f"sim-{name}{mutant}-{task.seed}.trace"


def _text(summary: dict[str, Any]) -> str:
    lies, blames = summary["lies"], summary["blames"]
    lines = [
        f"{summary['seeds']:,} seeds, {summary['virtual_s']:,.0f} virtual seconds in {summary['elapsed_s']:,.1f} s: "
        f"{summary['seeds_per_s']:,.1f} seeds/s, {summary['messages_per_s']:,} messages/s",
        f"{summary['operations']:,} operations, {summary['committed']:,} entries committed; "
        + ", ".join(f"{count:,} {name}" for name, count in summary["faults"].items() if count),
        f"digest {summary['digest']}",
    ]
    if lies:
        lines.insert(2, "lies: " + ", ".join(f"{count:,} {name}" for name, count in sorted(lies.items())))
    if blames:
        lines.insert(3, "liars were blamed: " + ", ".join(f"{count:,} {why}" for why, count in _most(blames)))
    if summary["quotas"]:
        came = ", ".join(f"{quota['count']:,} {fault}" for fault, quota in summary["quotas"].items())
        lines.append(f"of what was switched on: {came}")
    if summary["undecided"]:
        lines.append(f"the histories of {summary['undecided']} seeds were too hard to check within the budget")
    violation = summary["violation"]
    if violation is None:
        lines.append("every promise was kept")
        if summary["too_few"]:
            lines.append(f"NOT ENOUGH: {summary['too_few']}")
    else:
        lines += [
            f"VIOLATED by seed {violation['seed']}: {violation['property']}",
            f"  {violation['text']}",
            f"trace:  {violation['trace']}",
            f"repeat: {violation['repeat']}",
        ]
    return "\n".join(lines)


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    """The most frequent few."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:BLAMES_SHOWN]


def _run_traced(task: Task, trace: str) -> bool:
    if trace == "-":
        outcome = campaign.traced(task, typer.echo)
    else:
        try:
            with Path(trace).open("w", encoding="utf-8") as out:
                outcome = campaign.traced(task, lambda line: _write_line(out, line))
        except OSError as error:
            raise OptionsError(f"cannot write the trace to {trace}: {error.strerror}") from None
    if not outcome.holds:
        _errors().print(f"VIOLATED: {outcome.violated}: {outcome.text}", markup=False, highlight=False, soft_wrap=True)
    return outcome.holds


# --- every mutant ---


def _run_mutants(task: Task, seeds: range, workers: int, json: bool) -> bool:
    """Plant each bug and run seeds until one catches it."""
    rows = []
    mutants = mutants_of(task.protocol, task.workload)
    with _progress() as progress:
        bar = progress.add_task("mutants", total=len(mutants))
        for mutant in mutants:
            progress.update(bar, description=mutant.name)
            sick = msgspec.structs.replace(task, mutant=mutant.name)
            caught = next((o for o in campaign.run_all(_tasks(sick, seeds), workers) if not o.holds), None)
            rows.append(
                {
                    "mutant": mutant.name,
                    "summary": mutant.summary,
                    "seeds": None if caught is None else caught.seed - seeds.start + 1,
                    "seed": None if caught is None else caught.seed,
                    "property": None if caught is None else caught.violated,
                }
            )
            progress.advance(bar)
    missed = [row["mutant"] for row in rows if row["seed"] is None]
    if json:
        typer.echo(msgspec.json.encode({"protocol": task.protocol, "mutants": rows, "missed": missed}).decode())
    else:
        Console().print(_table(rows, len(seeds)))
    return not missed


def _table(rows: list[dict[str, Any]], seeds: int) -> Table:
    table = Table("mutant", "what is broken", "caught after", "by")
    for row in rows:
        caught = row["seeds"] is not None
        after = (f"{row['seeds']} seed" + "s" * (row["seeds"] > 1)) if caught else f"NOT CAUGHT in {seeds}"
        table.add_row(row["mutant"], row["summary"], after, row["property"] or "")
    return table


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=_errors(),
        transient=True,
    )
