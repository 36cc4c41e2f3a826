"""Golden traces: each file in a protocol's folder is a script and what it prints, see ``script.py``.

``UPDATE_TRACES=1 pytest tests/traces`` writes the expectations anew; read the difference before you keep it.
"""

import os
from pathlib import Path

import pytest

from tests.traces.multipaxos_script import MultiPaxosScript
from tests.traces.paxos_script import PaxosScript
from tests.traces.pbft_script import PbftScript
from tests.traces.script import Script
from tests.traces.tendermint_script import TendermintScript

FILES = sorted(Path(__file__).parent.glob("*/*.txt"))


SCRIPTS = {
    "raft": Script,
    "paxos": PaxosScript,
    "multipaxos": MultiPaxosScript,
    "pbft": PbftScript,
    "tendermint": TendermintScript,
}
"""By folder."""


def replay(text: str, script_class: type[Script] = Script) -> str:
    """The file's text as it should be: its commands and remarks, and what they print."""
    script = script_class()
    blocks = []
    for block in text.strip().split("\n\n"):
        commands = block.split("\n----", 1)[0]
        printed: list[str] = []
        lines = [line for line in commands.split("\n") if not line.startswith("#")]
        for line in lines:
            printed += script.run(line)
        if lines:
            commands += "\n----" + "".join("\n" + line for line in printed or ["  nothing"])
        blocks.append(commands)
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_trace_is_as_it_was(path: Path) -> None:
    text = path.read_text()
    replayed = replay(text, SCRIPTS[path.parent.name])
    if os.environ.get("UPDATE_TRACES"):
        path.write_text(replayed)
    else:
        assert replayed == text, f"{path.name} differs; UPDATE_TRACES=1 writes it anew"


def test_there_are_traces() -> None:
    assert {path.stem for path in FILES} >= {
        "election",
        "replication",
        "figure_7",
        "figure_8",
        "duel",
        "gap",
        "leader_change",
    }


def test_a_wrong_expectation_is_seen() -> None:
    """The runner compares what is printed, not what is written in the file."""
    good = replay("cluster 3\ntick 1 election\n")
    assert "1 is precandidate of term 0" in good
    assert replay(good) == good
    assert replay(good.replace("is precandidate", "is leader")) == good
