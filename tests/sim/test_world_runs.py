"""Whole runs: they repeat exactly, every fault happens, and what is planted is caught."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.kernel import App
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Decided
from quorate.protocols import REGISTRY
from quorate.protocols.raft.invariants import RaftInvariants
from quorate.service.replica import Replica
from quorate.service.requests import Command, Query
from quorate.sim.options import COMMON, EVERY, Options, OptionsError, parse_faults
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.swarm import Mix
from quorate.sim.trace import Trace
from quorate.sim.trial import Trial
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import RegisterSubject, subject

from tests.sim.worlds import NoSubject, Note, Witness

RAFT = REGISTRY["raft"]
SIMULATION = equipment_of("raft").simulation
SRC = Path(__file__).resolve().parents[2] / "src"


def run(
    seed: int,
    faults: str = "all",
    workload: str = "register",
    trace: Trace | None = None,
    sick_app: Callable[[App], App] | None = None,
    duration_s: float = 10.0,
) -> RunOutcome:
    """One run of Raft with five nodes."""
    options = Options(seed=seed, faults=parse_faults(faults), duration_s=duration_s)
    make = RAFT.make(SIMULATION)
    return simulate(Trial(make, subject(workload), options, (RaftInvariants,), sick_app=sick_app), trace)


@pytest.mark.parametrize("workload", ["register", "kv"])
def test_without_faults_all_is_well(workload: str) -> None:
    outcome = run(1, "none", workload)
    assert outcome.holds, outcome.text
    assert not outcome.undecided
    assert outcome.answered > 100
    assert outcome.committed > 50
    assert outcome.counts["snapshots taken"] > 0
    faults = ("lost", "cut", "duplicated", "clogged", "frames lost", "crash", "partition", "pause", "clock")
    assert all(outcome.counts.get(name, 0) == 0 for name in faults)


OCCURS = {
    "crash": ("crash", "crashed nodes", "frames lost"),
    "partition": ("partition", "coup", "cut"),
    "disk": ("slow disk", "full disk"),
    "clock": ("clock",),
    "pause": ("pause",),
    "network": ("clog", "clogged", "lost", "duplicated"),
}


@pytest.mark.parametrize("kind", COMMON)
def test_each_kind_of_fault_happens_and_no_other(kind: str) -> None:
    counts: dict[str, int] = {}
    for seed in range(8 if kind == "partition" else 4):
        outcome = run(seed, kind)
        assert outcome.holds, outcome.text
        for name, count in outcome.counts.items():
            counts[name] = counts.get(name, 0) + count
    assert all(counts.get(name, 0) > 0 for name in OCCURS[kind]), counts
    allowed = {*OCCURS[kind], *(("coup",) if kind == "crash" else ())}
    others = {name for names in OCCURS.values() for name in names} - allowed
    assert all(counts.get(name, 0) == 0 for name in sorted(others)), counts


def test_the_same_seed_is_the_same_run() -> None:
    assert run(3) == run(3)
    assert run(3).digest != run(4).digest


def test_a_trace_changes_nothing() -> None:
    lines: list[str] = []
    assert run(3, trace=Trace(lines.append)) == run(3)
    assert any("AppendEntries" in line for line in lines)
    assert any(" crash " in line or " partition " in line or " pause " in line for line in lines)


DIGESTS = """
from tests.sim.test_world_runs import run
print([(run(seed).digest, run(seed).messages) for seed in (0, 1, 2, 11)], run(2, workload="kv").digest)
"""


def test_runs_do_not_depend_on_the_hash_seed() -> None:
    def digests(hash_seed: str) -> str:
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{SRC}:{SRC.parent}"}
        return subprocess.run(
            [sys.executable, "-c", DIGESTS], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert digests("1") == digests("2") != ""


def test_who_never_answers_is_not_live() -> None:
    options = Options(nodes=3, duration_s=1.0, healing_s=5.0, faults=())
    outcome = simulate(Trial(Witness, NoSubject(), options))
    assert outcome.violated == "liveness"
    assert "have no answer" in outcome.text


class Raises(Witness):
    """Has a bug."""

    def start(self) -> None:
        self.env.set_timer("t", 0.5)

    def on_timer(self, key: object) -> None:
        raise KeyError("oh")


def test_an_exception_is_a_violation() -> None:
    outcome = simulate(Trial(Raises, NoSubject(), Options(nodes=3, faults=())))
    assert outcome.violated == "no error"
    assert "KeyError: 'oh' (on_timer, test_world_runs.py" in outcome.text


class Echoes(Witness):
    """Sends to itself for ever."""

    def start(self) -> None:
        self.env.send_now(self.env.id, Note(1))

    def on_note(self, sender: int, message: object) -> None:
        self.env.send_now(self.env.id, message)


def test_a_core_that_keeps_itself_busy_for_ever_is_caught() -> None:
    outcome = simulate(Trial(Echoes, NoSubject(), Options(nodes=1, faults=()), mix=Mix()))
    assert outcome.violated == "progress"


class Forgetful(Replica):
    """Skips some entries on one node: its state differs."""

    def output(self, value: object, path: Any = ()) -> None:
        if isinstance(value, Decided) and self.port._node.id == 2 and value.first_index > 20:  # type: ignore[attr-defined]
            value = Decided(value.first_index, [Entry(entry.term) for entry in value.entries])
        super().output(value, path)


def test_a_node_that_skips_commands_is_caught() -> None:
    outcome = run(1, "none", sick_app=lambda app: Forgetful(app.machine))  # type: ignore[attr-defined]
    assert outcome.violated in ("convergence", "linearizability")


class Peculiar(RegisterSubject):
    """One node's state differs, where no client sees it."""

    def digest(self, app: App) -> bytes | None:
        return b"%d" % (app.port._node.id == 3)  # type: ignore[attr-defined]


def test_states_that_differ_in_the_end_are_a_violation() -> None:
    outcome = simulate(Trial(RAFT.make(SIMULATION), Peculiar(), Options(faults=(), duration_s=2.0)))
    assert outcome.violated == "convergence"
    assert "node 0 and node 3 applied the same" in outcome.text


class Eager(Replica):
    """Serves reads from wherever it stands."""

    def request(self, client: object, request: Command | Query) -> None:
        if isinstance(request, Query):
            request = msgspec.structs.replace(request, serializable=True)
        super().request(client, request)


def test_stale_reads_are_caught() -> None:
    outcomes = [run(seed, "partition", sick_app=lambda app: Eager(app.machine)) for seed in range(4)]  # type: ignore[attr-defined]
    assert any(outcome.violated == "linearizability" for outcome in outcomes)


def test_faults_are_parsed() -> None:
    assert parse_faults("all") == EVERY
    assert parse_faults("none") == ()
    assert parse_faults("common") == COMMON
    assert parse_faults("disk, crash") == ("crash", "disk")
    assert parse_faults("gone,common") == (*COMMON, "gone")
    for wrong in ("", "crash,fire", ","):
        with pytest.raises(OptionsError, match="write all, common, disks, none, or some of crash"):
            parse_faults(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"nodes": 0},
        {"nodes": 1025},
        {"clients": -1},
        {"clients": 65},
        {"duration_s": 0.0},
        {"duration_s": float("nan")},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionsError):
        Options(**wrong)  # type: ignore[arg-type]
