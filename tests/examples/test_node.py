"""examples/node.py by itself, and whether the README and the defaults of the programs fit it."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest

from quorate import QuorateError, connect
from quorate.objects import Counter

from tests.cluster import until
from tests.examples.programs import EXAMPLES, PATIENCE_S, program
from tests.ports import free_pairs
from tests.processes import source_environment

README = (EXAMPLES / "README.md").read_text()
NODE = str(EXAMPLES / "node.py")
NODES = re.compile(r'^NODES = "(.+)"$', re.MULTILINE)
ENDPOINTS = re.compile(r'^ENDPOINTS = os\.environ\.get\("ENDPOINTS", "(.+?)"\)', re.MULTILINE)
FAILING = """
from quorate import Replicated, command

class Failing(Replicated):
    @command
    def fill(self) -> None:
        raise MemoryError("no room")
"""


def test_it_stops_in_order_and_its_state_is_there_again(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_pairs(1)[0]}"
    command = [NODE, "quorate.objects:Counter", "1", f"--nodes={address}", f"--data={tmp_path / 'data'}"]
    for total in (1, 2):
        with program(*command, log=tmp_path / "node.log") as node:
            endpoint = node.line("node 1 serves clients at ").split()[-1]
            with connect(Counter, endpoint, timeout_s=PATIENCE_S) as counter:
                assert counter.add(1) == total
            assert node.stop() == 0, node.log()


def test_it_ends_with_an_error_when_its_node_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    from failing import Failing  # type: ignore[import-not-found]

    command = [NODE, "failing:Failing", "1", f"--nodes=127.0.0.1:{free_pairs(1)[0]}", f"--data={tmp_path / 'data'}"]
    with program(*command, log=tmp_path / "node.log") as node:
        endpoint = node.line("node 1 serves clients at ").split()[-1]
        with connect(Failing, endpoint, timeout_s=1) as failing:

            def has_ended() -> bool:
                with suppress(QuorateError):
                    failing.fill()
                return node.process.poll() is not None

            until(has_ended, "it ends", PATIENCE_S)
        assert node.process.returncode == 1
        assert "node 1 ended by itself: " in node.log()
        assert "fill" in node.log()


def test_a_class_that_is_not_there_is_refused_with_words(tmp_path: Path) -> None:
    with program(NODE, "quorate.objects:Cuonter", "1", log=tmp_path / "node.log") as node:
        until(lambda: node.process.poll() is not None, "it ends", PATIENCE_S)
        assert node.process.returncode == 2
        assert "quorate.objects has no Replicated class 'Cuonter'" in node.log()


@pytest.mark.parametrize("name", ["limiter/app.py", "hits/app.py", "jobs/worker.py", "jobs/put.py"])
def test_programs_look_for_the_nodes_where_they_are(name: str) -> None:
    """What node.py listens at by default is what the others connect to."""
    addresses = [address.rpartition(":") for address in NODES.findall(Path(NODE).read_text())[0].split(",")]
    clients = ",".join(f"{host}:{int(port) + 1}" for host, _, port in addresses)
    assert ENDPOINTS.findall((EXAMPLES / name).read_text()) == [clients]


def test_the_readme_names_what_is_there() -> None:
    root = EXAMPLES.parent
    named = re.findall(r"\bexamples/[\w/.]+\w", README)
    assert len(named) >= 8
    assert [name for name in named if not (root / name).exists()] == []
    kinds = re.findall(r"examples/node\.py (\S+):(\S+) ", README)
    assert len(kinds) == 3
    for module, name in kinds:
        file = EXAMPLES / f"{module.replace('.', '/')}.py"
        assert module == "quorate.objects" or f"class {name}(" in file.read_text()
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))}
    assert sorted(re.findall(r"^## (\w+)$", README, re.MULTILINE)) == sorted(folders)


def test_programs_end_with_a_test_that_is_killed(tmp_path: Path) -> None:
    test = f"""
import signal
from pathlib import Path
from tests.examples.programs import Program
print(Program(["-c", "import time; time.sleep(3600)"], Path({str(tmp_path / "log")!r})).process.pid, flush=True)
signal.pause()
"""
    with program("-c", test, log=tmp_path / "test.log", PYTHONPATH=source_environment()["PYTHONPATH"]) as killed:
        pid = until(lambda: next(iter(killed.new_lines()), None), "it starts a program", PATIENCE_S)
    until(lambda: not Path(f"/proc/{pid}").exists(), "the program has ended", PATIENCE_S)
