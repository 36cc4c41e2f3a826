"""What all commands have in common: help, version, exit codes, a quick start."""

import json
import subprocess
import sys

import pytest

from quorate import __version__
from quorate.cli.main import COMMANDS

from tests.cli.command import quorate
from tests.cluster import environment

NOBODY = "127.0.0.1:1"  # a port that nothing listens on


def test_version() -> None:
    assert quorate("--version").stdout.decode() == f"quorate {__version__}\n"


def test_help_lists_every_command() -> None:
    help_text = quorate("--help").stdout.decode()
    assert [name for name in COMMANDS if f"│ {name} " not in help_text] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(command: str) -> None:
    outcome = quorate(command, "--help")
    assert outcome.code == 0
    assert f"Example:  quorate {command}" in outcome.stdout.decode()


@pytest.mark.parametrize("arguments", [["nonsense"], ["put", "one"], ["get", "k", "--no-such-option"]])
def test_wrong_use_is_exit_2(arguments: list[str]) -> None:
    assert quorate(*arguments).code == 2


@pytest.mark.parametrize("command", [["put", "k", "v"], ["get", "k"], ["delete", "k"], ["status"]])
def test_nobody_to_reach_is_exit_3(command: list[str]) -> None:
    outcome = quorate(*command, "--endpoints", NOBODY, "--timeout", "0.2")
    assert outcome.code == 3
    assert NOBODY in outcome.stderr or "no node can be reached" in outcome.stderr


@pytest.mark.parametrize("endpoints", ["nowhere", "host:0", "host:70000", ""])
def test_endpoints_that_are_none_are_exit_2(endpoints: str) -> None:
    outcome = quorate("get", "k", "--endpoints", endpoints)
    assert outcome.code == 2
    assert "host:port" in outcome.stderr


def test_endpoints_come_from_the_environment() -> None:
    outcome = quorate("get", "k", "--timeout", "0.1", QUORATE_ENDPOINTS="127.0.0.1:2")
    assert outcome.code == 3
    assert "127.0.0.1:2" in outcome.stderr


def test_put_loads_neither_simulator_nor_tables_nor_protocols() -> None:
    script = (
        "import json, sys\n"
        "from quorate.cli.main import app\n"
        f"app(['put', 'k', 'v', '--endpoints', '{NOBODY}', '--timeout', '0'], standalone_mode=False)\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment(), check=True)
    loaded = set(json.loads(done.stdout))
    assert "quorate.service.client.aio" in loaded
    assert loaded & {"rich", "lmdb", "uvloop", "quorate.sim", "quorate.protocols", "quorate.service.server"} == set()
