"""`quorate check` of small histories, a row each: what is read, what is kept apart, and the exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from quorate.sim.checkers import report

from tests.cli.test_check import run

WRITE_1 = "{:type :invoke, :process 0, :f :write, :value 1}\n{:type :ok, :process 0, :f :write, :value 1}\n"


def wrote_then_read(written: str, seen: str) -> str:
    """A register's history in which one client writes and another one reads, both done."""
    return (
        f"{{:type :invoke, :process 0, :f :write, :value {written}}}\n"
        f"{{:type :ok, :process 0, :f :write, :value {written}}}\n"
        "{:type :invoke, :process 1, :f :read, :value nil}\n"
        f"{{:type :ok, :process 1, :f :read, :value {seen}}}\n"
    )


def stale_by(process: str) -> str:
    """A read of what was never written, by a process of this name."""
    return (
        f"{{:type :invoke, :process {process}, :f :read, :value nil}}\n"
        f"{{:type :ok, :process {process}, :f :read, :value 7}}\n"
    )


def appended(*values: str, seen: str) -> str:
    """A store's history in which clients of different kinds append, each when the one before is done."""
    lines = []
    for process, value in enumerate(values):
        lines += [
            f"{{:type {kind} :process {process} :f :append :key :k :value {value}}}" for kind in (":invoke", ":ok")
        ]
    lines.append("{:type :invoke :process 99 :f :get :key :k :value nil}")
    lines.append(f"{{:type :ok :process 99 :f :get :key :k :value {seen}}}")
    return "\n".join(lines)


def txns(*pairs: tuple[str, str]) -> str:
    """Transactions one after another: what was asked, what came back."""
    lines = []
    for asked, answered in pairs:
        lines.append(f"{{:type :invoke, :process 0, :f :txn, :value {asked}}}")
        lines.append(f"{{:type :ok, :process 0, :f :txn, :value {answered}}}")
    return "\n".join(lines)


def both(text: str) -> tuple[str, str]:
    return text, text


KV, APPEND, RW = ["--model", "kv"], ["--model", "list-append"], ["--model", "rw-register"]
BY_W = ':process "w"'
NEMESIS = "{:type :info, :process :nemesis, :f nil, :value nil}\n"
FORGED_READ = '{"type":"invoke","process":"c1","f":"read"}\n{"type":"ok","process":"c1","f":"read","value":7}\n'
PROCESSES = [
    ("a number", stale_by("0"), [], 1),
    ("a string", stale_by('"c1"'), [], 1),
    ("a keyword", stale_by(":c1"), [], 1),
    ("a symbol", stale_by("c1"), [], 1),
    ("a string in JSON", FORGED_READ, [], 1),
    ("the nemesis alone", NEMESIS, [], 2),
    (
        "two writers of different kinds",
        WRITE_1 + wrote_then_read("2", "2").replace(":process 0", ':process "w"'),
        [],
        0,
    ),
    (
        "a keyword is not the string of its letters",
        '{:type :invoke :process :a :f :read} {:type :invoke :process "a" :f :read}'
        '{:type :ok :process :a :f :read} {:type :ok :process "a" :f :read}',
        [],
        0,
    ),
    ("no process", "{:type :invoke, :f :read}", [], 2),
    ("all failed", WRITE_1.replace(":ok", ":fail"), [], 2),
    ("all unknown", WRITE_1.replace(":ok", ":info"), [], 0),
]
APART = [
    ("#{1 true}", "#{1}"),
    ("{1 :a, true :b}", "{1 :b}"),
    ("1", "1.0"),
    ("1", "true"),
    ("0", "false"),
    ("1.5", "1.5M"),
    ("1", "1M"),
    ("1/2", "0.5"),
    ("\\a", '"a"'),
    (":a", '"a"'),
    (":a", "a"),
    ("#{[:a 1]}", "#{{:a 1}}"),
    ("[[:a 1]]", "{:a 1}"),
    ("#{1}", "[1]"),
    ("[]", "nil"),
    ("#t 1", "#t true"),
    ("#t [1]", "#u [1]"),
    ("{[1] 2}", "{[1.0] 2}"),
    ("#:a{:x 1}", "{:x 1}"),
    ('"\\ud800"', '"\\ud801"'),
    ("18446744073709551616", "18446744073709551617"),
]
ALIKE = [
    ("0x1f", "31"),
    ("-0x1F", "-31N"),
    ("017", "15"),
    ("2r101", "5"),
    ("36rZ", "35"),
    ("2/6", "1/3"),
    ("4/2", "2"),
    ("1.0M", "1.00M"),
    ("1e3", "1000.0"),
    ("##NaN", "##NaN"),
    ("##-Inf", "##-Inf"),
    ("0.0", "-0.0"),
    ("[1 2]", "(1 2)"),
    ("#{1 2 3}", "#{3 2 1}"),
    ("#:ns{:a 1, :_/b 2, :c/d 3}", "{:ns/a 1, :b 2, :c/d 3}"),
    ("^meta 1", "1"),
    ("^{:line 1} [1]", "[1]"),
    ("^:a ^b {}", "{}"),
    ("#_ #_ 1 2 3", "3"),
    ("\\o101", "\\A"),
    ("\\u0041", "\\A"),
    ("\\space", "\\o40"),
    ('"\\101\\0"', '"A\\u0000"'),
    ('"\\ud83d\\ude00"', '"😀"'),
    ('"\\ud800"', '"\\ud800"'),
    ("\\ud800", "\\ud800"),
    ('#inst "2026-01-01"', '#inst "2026-01-01"'),
    ('#object[java.lang.Object 0x1f "x"]', '#object[java.lang.Object 31 "x"]'),
    ('#"a\\d+"', '#"a\\d+"'),
    ("#'user/x", "#'user/x"),
    ("#user.Point{:x 1}", "#user.Point {:x 1}"),
]
NO_VALUES = ("08", "1/0", "1r0", "37r1", "0x", "\\o400", '"\\400"', "#{1 1}", "{1 :a, 1 :b}", "#:ns[1]", "^1 2", "::a")
DECORATION = [
    ("a float time", WRITE_1.replace(":value 1", ":value 1, :time 0.25"), [], 0),
    ("a string index", WRITE_1.replace(":value 1", ':value 1, :index "x"'), [], 0),
    ("an f of nil", NEMESIS + WRITE_1, [], 0),
    ("no f", "{:type :info, :process :nemesis}\n" + WRITE_1, [], 0),
    (
        "a vector as f",
        '{"type":"info","process":"nemesis","f":["kill",1]}\n{"type":"invoke","process":1,"f":"read"}',
        [],
        0,
    ),
    ("an f of nil by a client", WRITE_1.replace(":f :write", ":f nil"), [], 2),
]
FILES = [
    ("empty", "", [], 2),
    ("space", "\n  \n", [], 2),
    ("comments", "; one\n;; two\n", [], 2),
    ("an empty vector", "[]", [], 2),
    ("discards", "#_ {:type :invoke}", [], 2),
    ("no history", "hello", [], 2),
    ("cut short", "{:type :invoke, :process 0", [], 2),
    ("a vector with metadata", f"^{{:v 1}} #h [{WRITE_1}]", [], 0),
    ("half a pair in JSON", '{"type":"invoke","process":0,"f":"write","value":"\\ud800"}', [], 0),
    ("half a pair as f", '{"type":"invoke","process":0,"f":"\\ud800"}', [], 2),
    ("a pair in JSON", FORGED_READ.replace("7", '"\\ud83d\\ude00"'), [], 1),
    ("half a pair in JSON is a value", FORGED_READ.replace("7", '"\\ud800"'), [], 1),
    ("digits without end", FORGED_READ.replace("7", "9" * 10_000), [], 2),
    ("deep", wrote_then_read("[" * 60 + "]" * 60, "#t " * 60 + "1"), [], 1),
    ("deeper", wrote_then_read("[" * 70 + "]" * 70, "1"), [], 2),
    ("metadata without end", wrote_then_read("^a " * 70 + "1", "1"), [], 2),
    ("too many items", wrote_then_read("[" + "1 " * 100_001 + "]", "1"), [], 2),
]
MUTEX = "{:type :invoke, :process 0, :f :release}\n{:type :ok, :process 0, :f :release}"
INITIAL = [
    ("held", MUTEX, ["--model", "mutex", "--initial", "held"], 0),
    (":held", MUTEX, ["--model", "mutex", "--initial", ":held"], 0),
    ('"held"', MUTEX, ["--model", "mutex", "--initial", '"held"'], 0),
    ("free", MUTEX, ["--model", "mutex", "--initial", "free"], 1),
    ("lost", MUTEX, ["--model", "mutex", "--initial", "lost"], 2),
    ("a set of a list", MUTEX, ["--model", "mutex", "--initial", "#{[1]}"], 2),
    ("a vector", stale_by("0").replace("7", "[7]"), ["--initial", "[7]"], 0),
    ("not its item", stale_by("0"), ["--initial", "[7]"], 1),
    ("a tagged vector", stale_by("0").replace("7", "#t [7]"), ["--initial", "#t [7]"], 0),
]
KINDS = [
    ("a string, then a number", appended('"a"', "1", seen='["a" 1]'), KV, 0),
    ("strings, then a number", appended('"a"', '"b"', "1", seen='["ab" 1]'), KV, 0),
    ("in another order", appended('"a"', '"b"', "1", seen='["ba" 1]'), KV, 1),
    ("sets", appended("#{1 2 3}", "#{4}", seen="[#{3 2 1} #{4}]"), KV, 0),
]
TRANSACTIONS = [
    (
        "list-append",
        txns(both("[[:append :x 1]]"), ("[[:r :x nil] [:append :x 2]]", "[[:r :x [1]] [:append :x 2]]")),
        APPEND,
        0,
    ),
    (
        "list-append, a lost one",
        txns(both("[[:append :x 1]]"), both("[[:append :x 2]]"), ("[[:r :x nil]]", "[[:r :x [2]]]")),
        APPEND,
        1,
    ),
    ("list-append, nothing is an empty list", txns(("[[:r 1 nil]]", "[[:r 1 []]]")), APPEND, 0),
    ("list-append, no list", txns(("[[:r 1 nil]]", "[[:r 1 5]]")), APPEND, 2),
    ("list-append as registers", txns(both("[[:append :x 1]]")), RW, 2),
    (
        "list-append begun",
        txns(("[[:r :x nil]]", "[[:r :x [1]]]")),
        [*APPEND, "--initial", "{:x [1]}"],
        0,
    ),
    (
        "list-append begun wrong",
        txns(("[[:r :x nil]]", "[[:r :x nil]]")),
        [*APPEND, "--initial", "{:x 1}"],
        2,
    ),
    (
        "rw-register",
        txns(both("[[:w :x 1] [:w :y 2]]"), ("[[:r :y nil]]", "[[:r :y 2]]")),
        RW,
        0,
    ),
    (
        "rw-register, stale",
        txns(both("[[:w :x 1]]"), ("[[:r :x nil]]", "[[:r :x nil]]")),
        RW,
        1,
    ),
    ("other steps", txns(("[[:w :x 1]]", "[[:w :x 2]]")), RW, 2),
    ("no steps", txns(("5", "5")), RW, 2),
    ("without a model of transactions", txns(both("[[:append :x 1]]")), [], 2),
]
ROWS = [*PROCESSES, *DECORATION, *FILES, *INITIAL, *KINDS, *TRANSACTIONS]
MODELS_TRIED = ("cas-register", "kv", "mutex", "rw-register", "list-append")
WORDS = {0: "linearizable:", 1: "not linearizable:", 2: ""}


@pytest.mark.parametrize(("text", "options", "code"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_exit_codes_of_small_files(tmp_path: Path, text: str, options: list[str], code: int) -> None:
    path = tmp_path / "history"
    path.write_text(text, encoding="utf-8")
    found, stdout, stderr = run(path, *options)
    assert (found, stderr[:6]) == (code, "error:" if code == 2 else "")
    assert stdout.startswith(WORDS[code])
    assert "Traceback" not in stderr
    as_json, stdout, _ = run(path, *options, "--json")
    assert as_json == code
    if code < 2:
        assert json.loads(stdout)["linearizable"] is (code == 0)


@pytest.mark.parametrize(("one", "other"), APART)
def test_values_that_edn_keeps_apart_stay_apart(tmp_path: Path, one: str, other: str) -> None:
    path = tmp_path / "history.edn"
    for written, seen, code in ((one, one, 0), (other, other, 0), (one, other, 1), (other, one, 1)):
        path.write_text(wrote_then_read(written, seen))
        assert (run(path)[0], run(path, "--json")[0]) == (code, code), (written, seen)


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_two_notations_of_one_value_are_alike(tmp_path: Path, one: str, other: str) -> None:
    path = tmp_path / "history.edn"
    path.write_text(wrote_then_read(one, other) + wrote_then_read(other, one))
    assert run(path)[0] == 0


@pytest.mark.parametrize("text", NO_VALUES)
def test_what_is_not_edn_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "history.edn"
    path.write_text(wrote_then_read(text, "1"))
    code, stdout, stderr = run(path)
    assert (code, stdout) == (2, "")
    assert f"{path}: line 1: " in stderr


def test_an_error_of_ours_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.edn"
    path.write_text(WRITE_1)
    for error, code in ((ZeroDivisionError("planted"), 70), (MemoryError(), 4), (RecursionError(), 4)):

        def fail(*_: object, error: BaseException = error) -> str:
            raise error

        monkeypatch.setattr(report, "text", fail)
        found, stdout, stderr = run(path)
        assert (found, stdout) == (code, "")
        assert type(error).__name__ in stderr


def test_a_reader_who_went_away_and_a_terminal_of_few_letters_change_no_verdict(tmp_path: Path) -> None:
    path = tmp_path / "history.edn"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for text, code in ((wrote_then_read('"é"', '"é"'), 0), (wrote_then_read('"é"', '"\\ud800"'), 1)):
        path.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "quorate", "check", str(path)]
        read_end, write_end = os.pipe()
        os.close(read_end)
        try:
            gone = subprocess.run(command, stdout=write_end, env=environment, check=False)
        finally:
            os.close(write_end)
        assert gone.returncode == code
        assert subprocess.run(command, capture_output=True, env=environment, check=False).returncode == code


def test_damaged_files_end_with_a_verdict_or_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "history"
    sound = [row[1] for row in ROWS if len(row[1]) < 2000]
    for seed in range(400):
        rng = Random(seed)
        text = list(rng.choice(sound) + rng.choice(sound))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(3)] = rng.choices("{}[]()#_:^\\\"\n; 0x1/Mu'", k=rng.randrange(3))
        path.write_text("".join(text), encoding="utf-8")
        assert run(path, "--json", "--model", rng.choice(MODELS_TRIED))[0] in (0, 1, 2), f"seed {seed}"
