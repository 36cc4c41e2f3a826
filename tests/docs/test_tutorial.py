"""docs/tutorial.md is true: its listings run, its commands print what it shows, its planted bugs are caught.

A listing whose first line is ``# name.py`` is written to that file. A ``text`` block is what the command before it
prints; a line ``...`` stands for lines left out, and ``...`` at the end of a line for the rest of it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import pytest
from msgspec.structs import replace

from quorate.trials import campaign
from quorate.trials.campaign import Task

from tests.cluster import environment
from tests.docs.snippets import FENCE, ROOT
from tests.ports import free_base_port

TEXT = (ROOT / "docs/tutorial.md").read_text()
STEPS, _, AFTER = TEXT.partition("## 7 ")
OWN, _, LYING = AFTER.partition("## 8 ")
TIMEOUT_S = 240.0
REST = "..."
NAMED = re.compile(r"# (\w+\.py)\n")
PLANTED = re.compile(r"^\| \S+ \| `(.+?)` \| `(.+?)` \| (?:none of )?(\d+) \| (.*?) ?\|$", re.MULTILINE)
REGISTRY = "src/quorate/protocols/registry.py"


def listings(text: str) -> dict[str, str]:
    """What to write, by file name."""
    python = [body for language, body in FENCE.findall(text) if language == "python"]
    return {found[1]: body for body in python if (found := NAMED.match(body))}


def runs(text: str) -> list[tuple[str, str]]:
    """Each command that has an output, with it."""
    pairs = pairwise(FENCE.findall(text))
    return [(first[1].strip(), then[1]) for first, then in pairs if (first[0], then[0]) == ("sh", "text")]


def difference(shown: str, real: str) -> str | None:
    """The first line shown that is not where it should be in what was printed; None if all are."""
    lines, position, may_skip = real.splitlines(), 0, False
    for line in shown.splitlines():
        if line == REST:
            may_skip = True
            continue
        within = lines[position:] if may_skip else lines[position : position + 1]
        found = next((at for at, printed in enumerate(within, position) if fits(line, printed)), None)
        if found is None:
            return line
        position, may_skip = found + 1, False
    return None if may_skip or position == len(lines) else f"nothing more, but there is: {lines[position]}"


def fits(shown: str, printed: str) -> bool:
    """Whether this is the line that is shown, or begins with what is shown of it."""
    return printed.startswith(shown[: -len(REST)]) if shown.endswith(REST) else printed == shown


def run(command: str, folder: Path, **env: str) -> str:
    """What a command prints; it may end with 1, as a campaign that finds a violation does."""
    program, *arguments = shlex.split(command)
    words = {"quorate": [sys.executable, "-m", "quorate"], "python": [sys.executable]}[program]
    done = subprocess.run(
        [*words, *arguments], capture_output=True, text=True, cwd=folder, env=environment(**env), timeout=TIMEOUT_S
    )
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With every listing of all steps but the seventh."""
    made = tmp_path_factory.mktemp("tutorial")
    for name, body in (listings(STEPS) | listings(LYING)).items():
        (made / name).write_text(body)
    return made


def test_the_listings_and_commands_are_found() -> None:
    assert list(listings(STEPS)) == ["one_step.py", "acceptor.py", "kept.py", "paxos.py", "forgets.py", "narrow.py"]
    assert list(listings(LYING)) == ["votes.py", "theirs.py"]
    assert [len(runs(text)) for text in (STEPS, OWN, LYING)] == [11, 2, 4]
    assert len(PLANTED.findall(STEPS)) == 6
    assert set(LONG) <= {command for command, _ in RUNS}


LONG = [
    "quorate sim kept.py:KeepingLog --nodes 3 --seeds 0:40",
    "quorate sim paxos.py:PaxosLog --nodes 3 --seeds 0:40",
    "quorate sim forgets.py:ForgetsLog --nodes 3 --faults crash --seeds 0:40",
    "quorate sim narrow.py:Narrow --nodes 3 --faults none --seeds 0:10",
    "quorate sim acceptor.py:OneAcceptorLog --nodes 3 --faults none --seeds 0:10",
    "quorate sim paxos.py:PaxosLog --nodes 3 --faults none --seeds 0:10",
]
"""Campaigns for the slow tests. Their cores run in others: without faults, with some, or by the seed that one found."""
RUNS = runs(STEPS) + runs(LYING)


@pytest.mark.parametrize(
    ("command", "shown"),
    [pytest.param(*one, id=one[0], marks=pytest.mark.slow if one[0] in LONG else ()) for one in RUNS],
)
def test_a_command_prints_what_is_shown(command: str, shown: str, folder: Path) -> None:
    real = run(command, folder)
    missing = difference(shown, real)
    assert missing is None, f"{command} should print\n{missing}\nand printed\n{real[-2000:]}"


def test_paxos_is_as_small_as_it_says() -> None:
    lines = [line for line in listings(STEPS)["paxos.py"].splitlines() if line]
    assert len(lines) <= 120


def planted(old: str, new: str, folder: Path) -> str:
    """The name of a Paxos with one piece of code replaced."""
    text = listings(STEPS)["paxos.py"]
    assert text.count(old) == 1
    file = folder / f"planted_{crc32(f'{old} {new}'.encode())}.py"
    file.write_text(text.replace(old, new))
    return f"{file}:PaxosLog"


@pytest.mark.parametrize(("old", "new", "seed", "as_"), [row for row in PLANTED.findall(STEPS) if row[3]])
def test_a_planted_bug_is_caught(old: str, new: str, seed: str, as_: str, folder: Path) -> None:
    protocol = planted(old, new, folder)
    outcomes = [campaign.run_task(Task(protocol=protocol, seed=at, nodes=3)) for at in range(int(seed) + 1)]
    assert [one.violated for one in outcomes] == [None] * int(seed) + [as_]


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "seeds"), [row[:3] for row in PLANTED.findall(STEPS) if not row[3]])
def test_what_is_no_bug_is_not(old: str, new: str, seeds: str, folder: Path) -> None:
    protocol = planted(old, new, folder)
    assert all(campaign.run_task(Task(protocol=protocol, seed=at, nodes=3)).holds for at in range(int(seeds)))


@pytest.mark.slow
def test_the_right_quorum_survives_liars_for_five_hundred_seeds(folder: Path) -> None:
    task = Task(protocol=f"{folder / 'votes.py'}:Right", seed=0, nodes=4, byzantine=1)
    for outcome in campaign.run_all((replace(task, seed=seed) for seed in range(500)), 2):
        assert outcome.holds, outcome


# --- step 7, in a copy of the package ---


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which step 7 was followed."""
    made = tmp_path_factory.mktemp("checkout")
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, made / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", made)
    (sed,) = [body for language, body in FENCE.findall(OWN) if language == "sh" and body.startswith("sed ")]
    subprocess.run(sed, shell=True, cwd=made, check=True)
    equipment, home = (body.split("\n", 1) for language, body in FENCE.findall(OWN) if language == "python")
    (made / equipment[0].removeprefix("# ")).write_text(equipment[1])
    file = made / REGISTRY
    text = file.read_text()
    assert home[0] == f"# {REGISTRY}, in HOMES"
    assert text.count("\n}\n") == 1
    file.write_text(text.replace("\n}\n", f"\n{home[1]}}}\n"))
    return made


@pytest.mark.parametrize(
    ("command", "shown"),
    [pytest.param(*one, id=one[0], marks=pytest.mark.slow if "--mutants" in one[0] else ()) for one in runs(OWN)],
)
def test_the_simulator_knows_it(command: str, shown: str, checkout: Path) -> None:
    real = run(command, checkout, PYTHONPATH=str(checkout / "src"))
    assert difference(shown, real) is None, real
    if "--mutants" in command:
        found = json.loads(real)
        assert found["missed"] == []
        assert len(found["mutants"]) == 6


def test_it_is_conformant(checkout: Path) -> None:
    (command,) = re.findall(r"^make test ARGS='(.*)'$", OWN, re.MULTILINE)
    pytest_ = [sys.executable, "-m", "pytest", "-n", "0", "-m", "not slow", *command.replace("'", "").split()]
    done = subprocess.run(
        pytest_,
        capture_output=True,
        text=True,
        cwd=checkout,
        env=environment(PYTHONPATH=str(checkout / "src")),
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^7 passed", done.stdout, re.MULTILINE), done.stdout


def test_it_is_served(checkout: Path) -> None:
    (command,) = re.findall(r"^quorate (up .*)$", OWN, re.MULTILINE)
    words = [*command.split(), "--json", "--base-port", str(free_base_port(3))]
    env = environment(PYTHONPATH=str(checkout / "src"))
    with subprocess.Popen(
        [sys.executable, "-m", "quorate", *words], cwd=checkout, env=env, stdout=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        try:
            assert json.loads(up.stdout.readline())["event"] == "ready"
        finally:
            up.send_signal(signal.SIGTERM)
        assert up.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize(
    ("shown", "real", "wrong"),
    [
        ("a\nb\n", "a\nb\n", None),
        ("a\n...\nc\n", "a\nb\nc\n", None),
        ("...\nb...\n", "a\nbcd\n", None),
        ("a...\n", "abc\n", None),
        ("a\n...\n", "a\nb\n", None),
        ("a\n", "a\nb\n", "nothing more, but there is: b"),
        ("a\nc\n", "a\nb\nc\n", "c"),
        ("...\nc\na\n", "a\nb\nc\n", "a"),
        ("b...\n", "a\nb\n", "b..."),
    ],
)
def test_a_difference_is_noticed(shown: str, real: str, wrong: str | None) -> None:
    assert difference(shown, real) == wrong
