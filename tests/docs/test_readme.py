"""What README.md shows works: its Python runs, its commands exist, and the quick ones do what it says."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.protocols import REGISTRY
from quorate.service.client.endpoints import DEFAULT_ENDPOINTS

from tests.cli.command import quorate
from tests.cluster import LocalCluster, environment, until
from tests.docs.snippets import ROOT, blocks, shell_lines
from tests.ports import free_base_port

README = "README.md"
TIMEOUT_S = 60.0
ONE_NODE, THREE_NODES, BLOCKING, ASYNC = (block.text for block in blocks(README, "python"))
LINES = shell_lines(README)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("readme")) as running:
        yield running


def run(text: str, folder: Path) -> str:
    """Run a program to its end; what it printed."""
    file = folder / "program.py"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, file], capture_output=True, text=True, env=environment(), cwd=folder, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def at(cluster: LocalCluster, text: str) -> str:
    """The same program for another cluster than that of `make up`."""
    shown = ",".join(DEFAULT_ENDPOINTS)
    assert shown in text
    return text.replace(shown, ",".join(cluster.endpoints))


def command(*first: str) -> list[str]:
    """The one line of the README that begins with these words, without `quorate`."""
    (found,) = [line for line in LINES if line[: len(first) + 1] == ["quorate", *first]]
    return found[1:]


def test_the_counter_on_one_node(tmp_path: Path) -> None:
    assert run(ONE_NODE, tmp_path) == "5 5\n"


def test_the_counter_on_three_nodes(tmp_path: Path) -> None:
    base = free_base_port(6)
    text = ONE_NODE[: ONE_NODE.index("if __name__")] + THREE_NODES
    for shown in range(7801, 7807, 2):
        assert f"127.0.0.1:{shown}" in text
        text = text.replace(f":{shown}", f":{base + shown - 7800}")
    (tmp_path / "counter.py").write_text(text)
    outputs = [tmp_path / f"output{node}" for node in (1, 2, 3)]
    processes = [_start(tmp_path, node, output) for node, output in enumerate(outputs, 1)]
    try:
        until(lambda: all(output.read_text().endswith("\n") for output in outputs), "each node counts")
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
    counts = [int(line) for output in outputs for line in output.read_text().split()]
    assert sorted(counts) == list(range(1, len(counts) + 1)), "each call counted once, and all by the same counter"


def _start(folder: Path, node: int, output: Path) -> "subprocess.Popen[bytes]":
    with output.open("wb") as out, (folder / f"errors{node}").open("wb") as errors:
        command = [sys.executable, "counter.py", str(node)]
        return subprocess.Popen(command, stdout=out, stderr=errors, env=environment(), cwd=folder)


def test_the_clients(cluster: LocalCluster, tmp_path: Path) -> None:
    assert run(at(cluster, BLOCKING), tmp_path) == "b'hello'\n"
    run(at(cluster, ASYNC), tmp_path)
    with cluster.client() as client:
        assert len(client.range(b"key ", b"key!").kvs) == 100


def test_put_get_status(cluster: LocalCluster) -> None:
    endpoints = ",".join(cluster.endpoints)
    assert quorate(*command("put"), QUORATE_ENDPOINTS=endpoints).stdout == b"OK\n"
    assert quorate(*command("get"), QUORATE_ENDPOINTS=endpoints).stdout == b"hello\n"
    shown = quorate(*command("status"), QUORATE_ENDPOINTS=endpoints)
    assert shown.code == 0
    assert shown.stdout.count(b"leader") == 1


def test_the_campaign_holds() -> None:
    line = command("sim", "raft", "--nodes")
    line[line.index("0:100")] = "0:3"  # fewer seeds, and all else as it stands
    outcome = quorate(*line)
    assert outcome.code == 0
    assert b"every promise was kept" in outcome.stdout


def test_the_trace_is_the_same_every_time() -> None:
    first, second = (quorate(*command("sim", "raft", "--seed"), PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first.stdout == second.stdout
    assert first.stdout.splitlines()[-1].endswith(b"all holds")


def test_the_history_is_not_linearizable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    outcome = quorate(*command("check"))
    assert outcome.code == 1
    assert b"not linearizable" in outcome.stdout


def test_every_shell_line_is_one_that_is_tested() -> None:
    assert {line[0] for line in LINES} == {"make", ".", "quorate"}


def test_the_table_of_protocols_is_the_registry() -> None:
    rows = [line.split("|")[1:-1] for line in (ROOT / README).read_text().splitlines() if line.startswith("| ")]
    works = {row[0].split("`")[1] for row in rows if "`" in row[0]}
    assert works == set(REGISTRY)
    assert {row[0] for row in rows[1:] if "`" not in row[0]} == {row[0] for row in rows if row[5].strip() == "planned"}
    assert all(len(row) == 6 for row in rows)


def test_import_is_cheap() -> None:
    """``import quorate`` loads none of its own modules, nor asyncio; each name loads what it needs."""
    loaded = "import sys, quorate; print([m for m in sys.modules if m.startswith(('quorate.', 'asyncio', 'msgspec'))])"
    names = "import quorate; print([n for n in quorate.__all__ if getattr(quorate, n) is None], len(quorate.__all__))"
    for program, expected in ((loaded, "[]\n"), (names, "[] 32\n")):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
        assert done.stdout == expected, done.stderr
