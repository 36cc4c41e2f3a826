"""One replicated counter on three nodes, ours beside PySyncObj: commands a second, latency, CPU, and losses to kill -9.

    PYTHONPATH=src:. python bench/objects_pysyncobj.py [--rounds 5] [--seconds 3] [--json]

Each node is a process that holds the counter and is called from within, as both libraries are used; the callers are in
the process that leads. Ours is called by threads and by coroutines, PySyncObj by threads and by callbacks, with and
without its batches; a row has each library's fastest way, and beside it the rate of threads with default settings.
Ours always has a command on the disks of a majority before it answers. PySyncObj keeps no journal unless told to, and
never flushes the one that it keeps; `flushed` is that with each record flushed. Rounds alternate, each with fresh
clusters, and a figure is the median of all rounds.

The losses: 20 threads add; all three processes are killed at once, started again, and asked. Lost is what was answered
and is not there. A killed process leaves what it wrote to the kernel; only what was flushed survives a power cut, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.processes import cpu_seconds

PEER = "pysyncobj==0.3.17"
PEER_VENV = Path("build/peers/pysyncobj")
PEER_NODE = Path(__file__).parent / "counters" / "pysyncobj_node.py"
CALLERS = (1, 100)
WRITERS = 20
WRITE_S = 2.0
JOURNALS = {"PySyncObj, no file": "none", "PySyncObj, file": "file", "PySyncObj, flushed": "flushed"}
OURS = "Quorate"


class Cluster:
    """Three processes."""

    def __init__(self, command: Sequence[str], folder: Path, arguments: Sequence[str], step: int) -> None:
        ports = ",".join(map(str, free_ports(3 * step)[::step]))
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self.processes = [
                subprocess.Popen(
                    [*command, str(node), str(folder / str(node)), arguments[0], ports, *arguments[1:]],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
                for node in (1, 2, 3)
            ]

    def order(self, node: int, do: str, **arguments: Any) -> Any:
        """What the node answers."""
        self.tell(node, do, **arguments)
        return json.loads(self.read(node))

    def tell(self, node: int, do: str, **arguments: Any) -> None:
        """Without its answer."""
        stdin = self.processes[node].stdin
        assert stdin is not None
        stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        stdin.flush()

    def read(self, node: int) -> str:
        """Its next line."""
        stdout = self.processes[node].stdout
        assert stdout is not None
        if not (line := stdout.readline()):
            raise RuntimeError(f"node {node + 1} ended: {self.log.read_text()[-2000:]}")
        return line

    def wait(self) -> int:
        """Until all are ready. Returns the number of the process that leads."""
        for node in range(3):
            self.order(node, "wait")
        while True:
            for node in range(3):
                if self.order(node, "leads"):
                    return node
            time.sleep(0.05)

    def kill(self) -> None:
        """All at once, with SIGKILL."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    @property
    def cpu_s(self) -> float:
        """Of all three so far."""
        return cpu_seconds(process.pid for process in self.processes)


@contextmanager
def cluster(kind: str, folder: Path, style: str, batch: str = "1") -> Iterator[Cluster]:
    """Begun anew in the folder, or on what it holds."""
    if kind == OURS:
        made = Cluster([sys.executable, "-m", "bench.counters.quorate_node"], folder, [style], step=2)
    else:
        made = Cluster([str(PEER_VENV / "bin/python"), str(PEER_NODE)], folder, [style, JOURNALS[kind], batch], step=1)
    try:
        yield made
    finally:
        made.kill()


def free_ports(count: int) -> range:
    """So many in a row, below those that the kernel hands out."""
    for first in range(random.randrange(20_000, 30_000, 10), 32_000, 10):
        ports = range(first, first + count)
        with contextlib.ExitStack() as stack:
            try:
                for port in ports:
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return ports
    raise RuntimeError("no free ports")


def ways(kind: str) -> list[tuple[str, str]]:
    """How it may be called: style, and whether it batches. The default first."""
    if kind == OURS:
        return [("threads", ""), ("coroutines", "")]
    return [(style, batch) for batch in "10" for style in ("threads", "callbacks")]


def measure(kind: str, seconds: float) -> dict[int, dict[str, float]]:
    """By callers: the fastest way's figures, CPU being that of nodes and callers, and the default way's rate."""
    best: dict[int, dict[str, float]] = {}
    default: dict[int, float] = {}
    for style, batch in ways(kind):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, cluster(kind, Path(folder), style, batch) as three:
            leader = three.wait()
            for callers in CALLERS:
                before = three.cpu_s
                found = three.order(leader, "load", callers=callers, seconds=seconds)
                found["cpu_us"] = 1e6 * (three.cpu_s - before) / max(1.0, found["rate"] * seconds)
                default.setdefault(callers, found["rate"])
                if callers not in best or found["rate"] > best[callers]["rate"]:
                    best[callers] = found
    return {callers: {**found, "default_rate": default[callers]} for callers, found in best.items()}


def losses(kind: str) -> dict[str, int]:
    """How many commands were answered before all were killed, and how many of those are not there afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with cluster(kind, folder, "threads") as three:
            leader = three.wait()
            three.tell(leader, "write", callers=WRITERS)
            answered, end = 0, time.monotonic() + WRITE_S
            while time.monotonic() < end:
                answered = json.loads(three.read(leader))
            three.kill()
        with cluster(kind, folder, "threads") as three:
            three.wait()
            return {"answered": answered, "lost": max(0, answered - three.order(0, "value"))}


def install_peer() -> None:
    """Into a virtual environment of its own, once."""
    if not (PEER_VENV / "bin/python").exists():
        venv.create(PEER_VENV, with_pip=True)
    subprocess.run([PEER_VENV / "bin/python", "-m", "pip", "install", "--quiet", PEER], check=True)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="objects_pysyncobj", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    install_peer()
    kinds = [OURS, *JOURNALS]
    runs: dict[str, list[dict[int, dict[str, float]]]] = {kind: [] for kind in kinds}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("measuring", total=len(kinds) * (arguments.rounds + 1))
        for _ in range(arguments.rounds):
            for kind in kinds:
                runs[kind].append(measure(kind, arguments.seconds))
                progress.advance(task)
        lost = {}
        for kind in kinds:
            lost[kind] = losses(kind)
            progress.advance(task)
    report({kind: medians(found) for kind, found in runs.items()}, lost, as_json=arguments.json)


def medians(runs: Sequence[dict[int, dict[str, float]]]) -> dict[int, dict[str, float]]:
    """Of each figure."""
    return {
        callers: {name: statistics.median(run[callers][name] for run in runs) for name in runs[0][callers]}
        for callers in CALLERS
    }


def report(found: dict[str, dict[int, dict[str, float]]], lost: dict[str, dict[str, int]], *, as_json: bool) -> None:
    """A table, or JSON."""
    if as_json:
        print(json.dumps({kind: {"callers": found[kind], "losses": lost[kind]} for kind in found}))
        return
    table = Table()
    for column in (
        "",
        "callers",
        "commands/s",
        "ours is",
        "by default",
        "p50, ms",
        "CPU, µs a command",
        "lost of answered",
    ):
        table.add_column(column, justify="left" if not column else "right")
    for callers in CALLERS:
        for kind, figures in found.items():
            row = figures[callers]
            ratio = found[OURS][callers]["rate"] / row["rate"]
            table.add_row(
                *(kind, str(callers), f"{row['rate']:,.0f}", f"{ratio:.2f} times"),
                *(
                    f"{row['default_rate']:,.0f}",
                    f"{row['p50_ms']:.2f}",
                    f"{row['cpu_us']:,.0f}",
                    f"{lost[kind]['lost']:,} of {lost[kind]['answered']:,}",
                ),
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
