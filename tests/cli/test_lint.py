"""`quorate lint`: a table of snippets with what is found in each, and a class in which nothing is."""

from pathlib import Path

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from quorate.cli.lint import lint
from quorate.cli.main import COMMANDS
from quorate.trials.lint.classes import findings_of
from quorate.trials.lint.findings import ADVICE

HEAD = """
import asyncio, datetime as dt, math, os, os.path, random, requests, secrets, socket, subprocess, threading, time
import urllib.request, uuid
import quorate
from datetime import date, datetime
from pathlib import Path
from time import monotonic as clock
from uuid import uuid4
from quorate import Replicated, command, invariant, read
"""
READ = "class A(Replicated):\n    @read\n    def f(self):\n        "
IN_COMMAND = {
    "time.time()": "clock",
    "clock()": "clock",
    "datetime.now()": "clock",
    "dt.datetime.utcnow()": "clock",
    "date.today()": "clock",
    "random.random()": "chance",
    "random.Random()": "chance",
    "secrets.token_hex()": "chance",
    "os.urandom(4)": "chance",
    "uuid.uuid4()": "uuid",
    "uuid4()": "uuid",
    "os.environ['A']": "environment",
    "os.environ.get('A')": "environment",
    "os.getpid()": "environment",
    "os.path.exists('x')": "environment",
    "socket.socket()": "network",
    "requests.get('x')": "network",
    "urllib.request.urlopen('x')": "network",
    "open('x')": "file",
    "Path('x').read_text()": "file",
    "subprocess.run(['x'])": "process",
    "threading.Lock()": "concurrency",
    "asyncio.sleep(1)": "concurrency",
    "id(self)": "id",
    "hash(n)": "hash",
    "float('nan')": "nan",
    "math.nan": "nan",
    "[x for x in {'a', 'b'}]": "set-order",
    "list(set(n))": "set-order",
    "','.join(frozenset(n))": "set-order",
    "[*{'a', 'b'}]": "set-order",
    "list(set(n) | {'a'})": "set-order",
    "list({x for x in n})": "set-order",
    "list(self.tags)": "set-order",
    "set(n).pop()": "set-order",
    "tuple(given)": "set-order",
}
WHOLE = {
    "class-attribute": "class A(Replicated):\n    rows = []\n",
    "class-attribute ": "class A(Replicated):\n    rows: dict = dict()\n",
    "slots": "class A(Replicated):\n    __slots__ = ('a',)\n",
    "global": "class A(Replicated):\n    @command\n    def f(self):\n        global X\n        X = 1\n",
    "read-changes": READ + "self.a = 1\n",
    "read-changes +=": READ + "self.a[1] += 1\n",
    "read-changes del": READ + "del self.a['x']\n",
    "read-changes append": "class A(Replicated):\n    @quorate.read\n    def f(self):\n        self.a.append(1)\n",
    "read-changes past": READ + "object.__setattr__(self, 'a', 1)\n",
    "read-changes vars": READ + "vars(self)['a'] = 1\n",
    "read-changes in a helper": (READ + "return self.g()\n    def g(self):\n        self.a = 1\n"),
    "invariant-changes": "class A(Replicated):\n    @invariant\n    def f(self):\n        self.a = 1\n",
    "default-argument": "class A(Replicated):\n    @command\n    def f(self, rows=[]):\n        pass\n",
    "async": "class A(Replicated):\n    @command\n    async def f(self):\n        pass\n",
    "closure": (
        "def make():\n    seen = []\n    class A(Replicated):\n        @command\n        def f(self):\n"
        "            seen.append(1)\n"
    ),
    "clock in __init__": "class A(Replicated):\n    def __init__(self):\n        self.at = time.time()\n",
    "clock in migrate": (
        "class A(Replicated):\n    @classmethod\n    def migrate(cls, state, from_version):\n"
        "        state['at'] = time.time()\n"
    ),
    "clock in a function": (
        "def stamp():\n    return time.time()\nclass A(Replicated):\n    @command\n    def f(self):\n"
        "        return stamp()\n"
    ),
    "clock in a base": (
        "class B(Replicated):\n    @command\n    def f(self):\n        return time.time()\nclass A(B):\n    pass\n"
    ),
    "clock in a generic": (
        "class A(quorate.Replicated):\n    @quorate.command\n    def f(self):\n        return time.time()\n"
    ),
}
CLEAN = """
import json, random, time, uuid
from urllib.parse import urlsplit
from quorate import Replicated, command, invariant, read

LIMIT = 10

def now():
    return time.time()

class Board(Replicated):
    version = 2
    NAMES = ("a", "b")

    def __init__(self):
        self.rows: list[str] = []
        self.tags: set[str] = set()
        self.at = 0.0

    @command
    def add(self, row: str, at: float, tags: set[str], key: uuid.UUID, seed: int = 0, extra: tuple = ()):
        for tag in sorted(tags):
            self.tags.add(tag)
        for name in sorted(self.tags | {row}):
            self.rows.append(name)
        open = {"time": at, "id": hash(7)}
        rows = [open["time"], max(self.tags, default=""), len(set(extra)), any(x for x in self.tags)]
        dice = random.Random(seed).random()
        return rows, json.dumps(open), urlsplit(row).path, {x for x in tags}, dice

    @read
    def get(self):
        rows = list(self.rows)
        rows.append("x")
        rows[0] = "y"
        return rows

    @invariant
    def holds(self):
        return "a" in self.tags or float("1.5") > 1

    def local(self):
        return now()

class Plain:
    cache = []

    def tick(self):
        self.at = time.time()
        return list({"a", "b"})

def main():
    print(time.time(), uuid.uuid4(), open(__file__))
"""
app = typer.Typer()
app.command()(lint)


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def rules(source: str) -> list[str]:
    return [finding.rule for finding in findings_of(HEAD + source)]


@pytest.mark.parametrize("expression", IN_COMMAND)
def test_in_a_command(expression: str) -> None:
    head = "class A(Replicated):\n    tags: set[str]\n    @command\n    def f(self, n, given: set[str]):\n"
    assert rules(f"{head}        return {expression}\n") == [IN_COMMAND[expression]]


@pytest.mark.parametrize("name", WHOLE)
def test_in_a_class(name: str) -> None:
    assert rules(WHOLE[name]) == [name.partition(" ")[0]]


def test_nothing_is_found_in_what_is_deterministic() -> None:
    assert findings_of(CLEAN) == []


def test_a_finding_says_where_and_what_to_do() -> None:
    (found,) = findings_of(
        "import time\nfrom quorate import Replicated, command\nclass A(Replicated):\n    @command\n"
        "    def f(self):\n        return time.time()\n"
    )
    assert (found.line, found.column, found.rule, found.what) == (6, 16, "clock", "time.time")
    assert found.instead == ADVICE["clock"].instead


def test_every_rule_is_tried_here() -> None:
    assert {*IN_COMMAND.values(), *(name.partition(" ")[0] for name in WHOLE)} == set(ADVICE)


def test_the_command(tmp_path: Path) -> None:
    assert "lint" in COMMANDS
    good, bad, broken = tmp_path / "good.py", tmp_path / "bad.py", tmp_path / "broken.py"
    good.write_text(CLEAN)
    bad.write_text(HEAD + "raise SystemExit('it was run')\n" + WHOLE["async"])
    broken.write_text("class")
    assert call(str(good)) == (0, "", "")
    code, out, _ = call(str(bad))
    assert code == 1
    assert out.startswith(f"{bad}:13:5: async: f is async: ")
    code, out, _ = call(str(bad), "--json")
    assert code == 1
    assert msgspec.json.decode(out)["findings"][0]["rule"] == "async"
    for path in (broken, tmp_path / "none.py", tmp_path):
        code, _, err = call(str(path))
        assert code == 2
        assert err.startswith(f"error: cannot read {path}: ")
