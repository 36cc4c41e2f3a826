"""What is in deploy/ fits the program."""

import configparser
import shlex
from pathlib import Path

import pytest

from quorate.protocols.raft import RaftConfig
from quorate.service.config import ConfigError, from_mapping, load

from tests.cli.command import quorate

DEPLOY = Path(__file__).parents[2] / "deploy"
EXAMPLE = DEPLOY / "cluster.example.toml"


@pytest.mark.parametrize("node", [1, 2, 3])
def test_the_example_serves_every_machine(node: int) -> None:
    config = load(EXAMPLE, node)
    assert config.data == Path(f"/var/lib/quorate/n{node}")
    assert config.client_address() == (f"10.0.0.{node}", 7401)
    assert config.peer_addresses() == {other: (f"10.0.0.{other}", 7501) for other in (1, 2, 3)}


def test_the_example_says_no_node_by_itself() -> None:
    with pytest.raises(ConfigError, match="node"):
        load(EXAMPLE)


def test_the_example_shows_the_defaults() -> None:
    import tomllib

    text = EXAMPLE.read_text()
    options = text[text.index("# [raft]") :].replace("# ", "")
    config = from_mapping(tomllib.loads(text + options) | {"node": 1})
    assert config.options == RaftConfig()
    assert "heartbeat_s" in options


def test_the_unit_starts_a_command_that_exists() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "quorate@.service")
    program, *arguments = shlex.split(unit["Service"]["ExecStart"].replace("%i", "1"))
    assert Path(program).name == "quorate"
    outcome = quorate(*arguments)  # there is no such file here, and that is all it has to say
    assert outcome.code == 2
    assert "/etc/quorate/cluster.toml: cannot be read" in outcome.stderr
    assert unit["Service"]["User"] == "quorate"
