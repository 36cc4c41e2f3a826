"""`quorate sim file.py:Class` with replicated classes: planted divergence is caught, and a good class survives."""

import gc
import time
from pathlib import Path

import msgspec
import pytest

from quorate import Replicated, command
from quorate.machines.objects.machine import encode_call
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Decided
from quorate.service.replica import Replica
from quorate.service.requests import Apply, OpenSession, encode
from quorate.sim.checkers.base import Violation
from quorate.sim.run import RunOutcome
from quorate.trials import campaign
from quorate.trials.campaign import Task
from quorate.trials.objects.outside import Glances
from quorate.trials.objects.reference import CONTENT_EVERY, Reference, ToldAlike, WatchedMachine

from tests.cli.sim_command import call

HEAD = """
import datetime, enum, os, random, time, uuid
from dataclasses import dataclass
from typing import Literal, Optional
from quorate import Replicated, command, invariant, read

TOTAL = 0

class Planted(Replicated):
    count = 0

    def __init__(self):
        self.value = 0
        self.rows = []

    @read
    def get(self):
        return self.value

    @command
    def add(self, n: int):
"""
PLANTED = {
    "time": "self.value = time.time()",
    "a rounded clock": "self.value = int(time.time())",
    "today": "self.value = str(datetime.date.today())",
    "random": "self.value = random.random()",
    "urandom": "self.value = os.urandom(4)",
    "uuid": "self.value = str(uuid.uuid4())",
    "id": "self.value = id(self)",
    "hash of a str": "self.value = hash('alice')",
    "order of a set": "self.value = ' '.join({'a', 'b', 'c', str(n)})",
    "first of a set": "self.value = next(iter({'a', 'b', 'c', 'd'}))",
    "loop over a set": "self.rows = [name for name in {'a', 'b', 'c', 'd'}]",
    "pop of a set": "names = {'a', 'b', 'c', 'd'}; self.value = names.pop()",
    "a file": "self.value = open(__file__).read(5)",
    "the environment": "self.value = os.environ.get('HOME', '')",
    "the process": "self.value = os.getpid()",
}
LATE = {
    "class attribute": "type(self).count += 1; self.value = type(self).count",
    "module global": "global TOTAL; TOTAL += 1; self.value = TOTAL",
    "object.__setattr__ in a read": "self.value += 1",
    "list.append in a read": "self.value += 1",
    "an invariant": "self.value += n",
}
"""What shows once a node has restarted, or a node has been read."""
MORE = {
    "object.__setattr__ in a read": "\n    @read\n    def peek(self):\n        object.__setattr__(self, 'value', 7)\n",
    "list.append in a read": "\n    @read\n    def peek(self):\n        list.append(self.rows, 7)\n",
    "an invariant": "\n    @invariant\n    def is_small(self):\n        return self.value < 10\n",
}
GOOD = """
import enum
from dataclasses import dataclass
from typing import Literal, Optional
from quorate import Replicated, command, invariant, now, random, read, uuid

class Color(enum.Enum):
    RED = 1
    BLUE = 2

@dataclass(frozen=True)
class Point:
    x: int
    y: int

class Good(Replicated):
    def __init__(self):
        self.points = {}
        self.names = set()
        self.value = 0
        self.drawn = None

    @command
    def put(self, color: Color, point: Point, note: Optional[str] = None):
        self.points[color] = point
        return note

    @command
    def name(self, names: list[str], how: Literal["add", "remove"]):
        for one in sorted(set(names)):
            self.names.add(one) if how == "add" else self.names.discard(one)
        return list(self.names)

    @command
    def spend(self, n: int):
        if n > self.value + 5:
            raise ValueError("too much")
        self.value = abs(self.value - n)

    @command
    def anything(self, what, *more: float, by=None, **rest: bytes):
        return [what, *more, by]

    @command
    def draw(self):
        self.drawn = [now(), random().random(), uuid()]
        return self.drawn

    @read
    def point(self, color: Color):
        return self.points.get(color)

    @read
    def all(self):
        return self.names

    @invariant
    def is_positive(self):
        assert self.value >= 0
"""


def run(path: Path, seeds: range, **options: object) -> list[RunOutcome]:
    task = Task(protocol="raft", seed=0, replicated=str(path), **options)  # type: ignore[arg-type]
    return list(campaign.run_all((msgspec.structs.replace(task, seed=seed) for seed in seeds), 1))


def planted(folder: Path, line: str, more: str = "") -> str:
    (folder / "mine.py").write_text(f"{HEAD}        {line}\n{more}")
    return f"{folder / 'mine.py'}:Planted"


@pytest.mark.parametrize("name", PLANTED)
def test_a_command_that_is_no_function_of_the_log_is_caught_at_once(name: str, tmp_path: Path) -> None:
    (outcome,) = run(planted(tmp_path, PLANTED[name]), range(1), faults="none", duration_s=1.0)  # type: ignore[arg-type]
    assert outcome.violated in ("a command looks outside", "equal states", "equal results"), outcome


@pytest.mark.parametrize("name", LATE)
def test_what_differs_after_a_restart_is_caught(name: str, tmp_path: Path) -> None:
    where = planted(tmp_path, LATE[name], MORE.get(name, ""))
    for seed in range(20):
        (outcome,) = run(where, range(seed, seed + 1), duration_s=2.0)  # type: ignore[arg-type]
        if not outcome.holds:
            break
    wanted = ("invariant",) if name == "an invariant" else ("equal states", "equal results")
    assert outcome.violated in wanted, outcome
    assert (
        name == "an invariant"
        or "value" in outcome.text
        or "rows" in outcome.text
        or outcome.violated == "equal results"
    )


def test_a_good_class_survives_all_faults(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD)
    outcomes = run(tmp_path / "good.py:Good", range(6), duration_s=3.0)
    assert [outcome.text for outcome in outcomes if not outcome.holds] == []
    assert sum(outcome.committed for outcome in outcomes) > 200
    again = run(tmp_path / "good.py:Good", range(6), duration_s=3.0)
    assert outcomes == again, "a class that is a function of its log repeats exactly"


class Late:
    """Looks at the clock when the collector comes to it."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        time.time()


def test_what_the_collector_ends_meanwhile_is_not_the_command(tmp_path: Path) -> None:
    glances = Glances(tmp_path / "good.py")
    gc.collect()
    for _ in range(100):
        Late()
    with glances.watch():
        assert len([[] for _ in range(10 * gc.get_threshold()[0])]) > 100
    assert glances.seen is None
    with glances.watch():
        time.time()
    assert glances.seen == "time.time()"


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["raft", "multipaxos", "pbft"])
def test_a_good_class_survives_many_seeds(protocol: str, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD)
    task = Task(protocol=protocol, seed=0, replicated=f"{tmp_path / 'good.py'}:Good")
    for seed in range(15):
        outcome = campaign.run_task(msgspec.structs.replace(task, seed=seed))
        assert outcome.holds, outcome


def test_the_command_prints_how_to_repeat_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planted(tmp_path, PLANTED["a rounded clock"])
    code, out, _ = call("mine.py:Planted", "--seed", "3", "--faults", "none", "--duration-s", "1")
    assert code == 1
    assert "VIOLATED by seed 3: a command looks outside" in out
    assert "uses time.time(), which differs by node" in out
    assert "repeat: quorate sim mine.py:Planted --seed 3 --nodes 5 --faults none --duration-s 1 --protocol raft" in out
    assert (tmp_path / "sim-Planted-3.trace").exists()


def test_a_workload_of_the_class_is_what_clients_call(tmp_path: Path) -> None:
    more = """
    @command
    def never(self):
        raise SystemExit

    @staticmethod
    def workload(rng):
        yield "add", (rng.randrange(3),), {}
        yield "get", [], {}
"""
    where = planted(tmp_path, "self.value += n; assert n < 3", more)
    lines: list[str] = []
    outcome = campaign.traced(
        Task(protocol="raft", seed=1, replicated=where, faults="none", duration_s=1.0), lines.append
    )
    assert outcome.holds, outcome
    called = [line for line in lines if " invoke " in line]
    assert any("write add" in line for line in called)
    assert not any("never" in line for line in called)


@pytest.mark.parametrize(
    ("yields", "words"),
    [("return iter(())", "yields nothing"), ("yield 'nope', (), {}", "yield (method, args, kwargs)")],
)
def test_a_workload_that_names_no_method_is_wrong_use(yields: str, words: str, tmp_path: Path) -> None:
    where = planted(tmp_path, "pass", f"\n    @staticmethod\n    def workload(rng):\n        {yields}\n")
    code, _, err = call(where, "--seed", "1", "--duration-s", "1")
    assert code == 2
    assert words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mine.py",), "it has Planted"),
        (("mine.py:Planted", "--mutants"), "leave it out"),
        (("mine.py:Planted", "--workload", "kv"), "leave it out"),
        (("mine.py:Planted", "--protocol", "nope"), "no protocol is called 'nope'"),
        (("bad.py:Bad",), "Bad in bad.py cannot be replicated: Bad has no method marked with @command"),
    ],
)
def test_wrong_use_is_refused_in_words(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planted(tmp_path, "pass")
    (tmp_path / "bad.py").write_text("from quorate import Replicated\n\nclass Bad(Replicated):\n    pass\n")
    code, _, err = call(*arguments)
    assert code == 2
    assert words in err


class Tally(Replicated):
    """An object to tamper with."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    @command
    def add(self, n: int) -> int:
        """Keep a number."""
        self.rows.append(n)
        return len(self.rows)


def compared(entries: int) -> tuple[Reference, WatchedMachine]:
    """A reference that was fed so many entries, and a node's machine that was too."""
    own, machine = WatchedMachine(Tally), WatchedMachine(Tally)
    reference, node = Reference(Replica(own), own), Replica(machine)
    commands = [OpenSession(1), *(Apply(1, serial, 0, encode_call("add", [serial])) for serial in range(1, entries))]
    for index, one in enumerate(commands, 1):
        entry = Entry(1, encode(one))
        reference.follow(index, entry)
        machine.answer = None
        node.output(Decided(index, (entry,)))
    reference.compare(3, entries, machine)
    return reference, machine


def test_a_state_that_differs_is_named() -> None:
    reference, machine = compared(5)
    machine.apply(encode_call("add", [9]))
    machine.answer = encode(("ok", 4))
    with pytest.raises(Violation, match="equal states: node 3 after entry 5 of the log: rows differs"):
        reference.compare(3, 5, machine)


def test_a_state_that_differs_past_its_digest_is_named() -> None:
    reference, machine = compared(CONTENT_EVERY)
    list.append(machine.instance.rows, 9)
    with pytest.raises(Violation, match="equal states: node 3 after entry 16 of the log: rows differs"):
        reference.compare(3, CONTENT_EVERY, machine)
    reference, machine = compared(3)
    list.append(machine.instance.rows, 9)
    with pytest.raises(Violation, match="equal states: node 3 after entry 3 of the log: rows differs"):
        reference.compare_all(3, 3, machine)


def test_an_answer_that_differs_is_named() -> None:
    reference, machine = compared(5)
    machine.answer = b"no"
    with pytest.raises(Violation, match="equal results: node 3 answers entry 5 with b'no'"):
        reference.compare(3, 5, machine)


def test_a_client_that_was_told_something_else_is_named() -> None:
    right = {(1, 1): b"yes"}
    ToldAlike({(1, 1): b"yes", (2, 1): b"forgotten"}, lambda: right).finish(None)  # type: ignore[arg-type]
    with pytest.raises(Violation, match="equal results: a client was told b'no'"):
        ToldAlike({(1, 1): b"no"}, lambda: right).finish(None)  # type: ignore[arg-type]
