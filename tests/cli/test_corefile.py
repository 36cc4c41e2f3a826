"""`quorate sim ./file.py:Class`: a core that is in no registry, and what is wrong with a file or a class."""

from pathlib import Path

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from quorate.cli.sim import sim
from quorate.trials import campaign
from quorate.trials.campaign import Task

app = typer.Typer()
app.command()(sim)

GOOD = """
from neighbour import CONFIG
from quorate.protocols.echo import Echo

class Mine(Echo):
    def __init__(self, env):
        super().__init__(env, CONFIG)

class Needy(Echo):
    def __init__(self, env, config):
        super().__init__(env, config)

class Cruel(Echo):
    def on_forward(self, sender, message):
        raise RuntimeError("no")

class Plain:
    pass
"""
NEIGHBOUR = """
from quorate.protocols.echo_equipment import EQUIPMENT

CONFIG = EQUIPMENT.simulation
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text(NEIGHBOUR)
    (tmp_path / "mine.py").write_text(GOOD)
    return tmp_path / "mine.py"


def call(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_it_runs_like_one_of_the_registry(mine: Path) -> None:
    short = ("--seed", "1", "--duration-s", "2", "--json")
    code, out, _ = call(f"{mine}:Mine", *short)
    found, echo = msgspec.json.decode(out), msgspec.json.decode(call("echo", *short)[1])
    assert code == 0
    assert found["digest"] == echo["digest"], "the same core with the same config does the same"


def test_other_processes_load_the_file_again(mine: Path) -> None:
    tasks = [Task(protocol=f"{mine}:Mine", seed=seed, duration_s=1.0) for seed in range(4)]
    assert list(campaign.run_all(tasks, 2)) == list(campaign.run_all(tasks, 1))


def test_a_violation_is_traced_under_the_name_of_the_class(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mine.parent)
    code, out, _ = call(f"{mine}:Cruel", "--seed", "0", "--faults", "none")
    assert code == 1
    assert "RuntimeError: no (on_forward, mine.py:" in out
    assert (mine.parent / "sim-Cruel-0.trace").exists()
    assert f"repeat: quorate sim {mine}:Cruel --seed 0 " in out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.py:Mine", "there is no file"),
        ("mine.py", "write {file}:Class; it has Mine, Needy, Cruel"),
        ("mine.py:", "write {file}:Class; it has Mine, Needy, Cruel"),
        ("mine.py:Yours", "has no class 'Yours'; write {file}:Class; it has Mine, Needy, Cruel"),
        ("mine.py:Plain", "Plain in {file} is not a Core; write class Plain(Core)"),
        ("mine.py:Needy", "cannot be made from an Env alone: missing a required argument: 'config'"),
        ("text.txt:Mine", "its name has to end with .py"),
        ("syntax.py:Mine", "cannot be loaded: SyntaxError"),
        ("raises.py:Mine", "cannot be loaded: ZeroDivisionError: division by zero (line 2)"),
        ("handler.py:Mine", "cannot be loaded: TypeError: Mine has no handler on_hello; write one a message type"),
        ("empty.py:Mine", "it has no Core at all"),
    ],
)
def test_wrong_use(mine: Path, name: str, words: str) -> None:
    (mine.parent / "text.txt").write_text("")
    (mine.parent / "empty.py").write_text("")
    (mine.parent / "syntax.py").write_text("class")
    (mine.parent / "raises.py").write_text("\n1 / 0\n")
    (mine.parent / "handler.py").write_text(
        "from quorate.kernel import Core\nclass Hello: pass\nclass Mine(Core):\n    messages = (Hello,)\n"
    )
    code, _, err = call(str(mine.parent / name))
    assert code == 2
    assert words.format(file=mine) in err


def test_its_mutants_are_those_of_the_shell(mine: Path) -> None:
    code, _, err = call(f"{mine}:Mine", "--mutant", "x")
    assert code == 2
    assert "has no mutant 'x'; it has no-barrier, barrier-out-of-order, empty-checkpoint" in err
