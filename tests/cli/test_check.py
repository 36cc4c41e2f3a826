"""`quorate check`: what it prints and how it exits."""

import json
from pathlib import Path
from random import Random

import pytest
import typer
from typer.testing import CliRunner

from quorate.cli.check import check
from quorate.sim.checkers.models import Register
from quorate.sim.history import write_history

from tests.sim import atomic

HISTORIES = Path(__file__).parent.parent / "histories"
APP = typer.Typer()
APP.command()(check)


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(APP, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("file", "options", "code"),
    [
        ("cas-register-good.edn", [], 0),
        ("cas-register-stale-read.edn", [], 1),
        ("independent.edn", ["--independent", "--model", "register"], 0),
        ("independent.edn", ["--model", "register"], 1),
        ("mutex-held-twice.edn", ["--model", "mutex"], 1),
        ("multi-register-torn.edn", ["--model", "multi-register", "--initial", "{:x 0 :y 0}"], 1),
        ("store-good.jsonl", ["--model", "kv"], 0),
        ("store-lost-update.jsonl", ["--model", "kv"], 1),
    ],
)
def test_exit_codes(file: str, options: list[str], code: int) -> None:
    found, stdout, stderr = run(HISTORIES / file, *options)
    assert (found, stderr) == (code, "")
    assert stdout.startswith("linearizable" if code == 0 else "not linearizable")


def test_the_text_shows_where_it_gets_stuck() -> None:
    _, stdout, _ = run(HISTORIES / "cas-register-stale-read.edn")
    assert "process 2: read -> 1 cannot be placed (invoked on line 6)" in stdout
    assert "<-- stuck" in stdout
    assert "|- cas [2 3] -|" in stdout


def test_json() -> None:
    code, stdout, _ = run(HISTORIES / "store-lost-update.jsonl", "--model", "kv", "--json")
    verdict = json.loads(stdout)
    assert code == 1
    assert verdict["linearizable"] is False
    assert verdict["key"] == "x"
    assert verdict["stuck"]["f"] == "cas"
    assert verdict["stuck"]["line"] in (3, 4)
    assert [operation["f"] for operation in verdict["concurrent"]] == ["cas"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([HISTORIES / "absent.edn"], "cannot be read"),
        ([HISTORIES / "store-good.jsonl"], "try --model"),
        ([HISTORIES / "cas-register-good.edn", "--independent"], "is this a history of one key?"),
        ([HISTORIES / "cas-register-good.edn", "--initial", "[1"], "is not EDN"),
        ([HISTORIES / "cas-register-good.edn", "--initial", "1 2"], "one value in EDN"),
        ([HISTORIES / "cas-register-good.edn", "--model", "queue"], "queue"),
        ([], "Missing argument"),
    ],
)
def test_wrong_use_exits_with_2_and_says_why(words: list[object], says: str) -> None:
    code, stdout, stderr = run(*words)
    assert (code, stdout) == (2, "")
    assert says in stderr


def test_a_spent_budget_exits_with_4(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    events = atomic.record(Register(), atomic.unique_values, Random(1), operations=4000, clients=10)
    write_history(path, events)
    assert run(path, "--model", "register")[0] == 0
    code, stdout, _ = run(path, "--model", "register", "--budget-states", 50)
    assert code == 4
    assert stdout.startswith("undecided")
    assert run(path, "--model", "register", "--budget-s", 0)[0] == 4


def test_help_names_the_exit_codes_and_gives_an_example() -> None:
    code, stdout, _ = run("--help")
    words = " ".join(stdout.split())
    assert code == 0
    assert "4 undecided" in words
    assert "quorate check --model cas-register history.edn" in words
