"""`make bench`: Quorate against etcd, three processes each, on this machine, fsync on; in turn, `--runs` times over.

etcd is 3.6, and its load generator the `benchmark` of its authors; ours are `quorate bench` and `bench.reads`. Both put
new keys and read one, 1,000 clients on 100 connections and one client alone. The CPU of the nodes and of the load
generator is beside each rate. With more than one run, the medians.

PBFT and Tendermint have four nodes, one of which may lie; nodes and clients sign with Ed25519. etcd tolerates no lies,
so it is not their peer. `--protocols pbft,tendermint --skip-etcd` measures these two alone, in turn.

Absolute figures mean little on a shared machine; the ratios of one run mean more. All figures also go to
build/bench.json.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table

from bench import etcd, ours
from bench.etcd_load import EtcdLoad
from bench.etcd_tools import HOW, VERSION, EtcdTools, etcd_tools
from bench.figures import Figures, medians
from bench.processes import peak_memory_mb

KEY_BYTES: Final = 256
VALUE_BYTES: Final = 1024
RESULT: Final = Path("build/bench.json")
PROTOCOLS: Final = {"raft": 3, "multipaxos": 3, "pbft": 4, "tendermint": 4}
"""Name to the number of nodes that tolerate one fault."""
OPTIONS: Final = ("--quota-backend-bytes=8589934592", "--log-level=error")
"""Of etcd: its default of 2 GiB would end a long run."""
READ_SHARE: Final = 0.4
"""Of the seconds of writing: nothing sets in late when one key is read."""
KINDS: Final = ("put", "linearizable read", "serializable read")


class Shape(NamedTuple):
    """Who puts and reads."""

    clients: int
    connections: int

    @property
    def name(self) -> str:
        """For the table."""
        return "1 client" if self.clients == 1 else f"{self.clients:,} clients on {self.connections} connections"


SHAPES: Final = (Shape(1, 1), Shape(1000, 100))


def main() -> int:
    """Measure, print, write the file."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=25.0, help="of writing; of reads, 0.4 of it (default 25)")
    parser.add_argument("--runs", type=int, default=1, help="of all, alternating; the medians count (default 1)")
    parser.add_argument("--skip-etcd", action="store_true", help="measure Quorate alone")
    parser.add_argument("--protocols", default=",".join(PROTOCOLS), help=f"some of {', '.join(PROTOCOLS)}")
    arguments = parser.parse_args()
    protocols = arguments.protocols.split(",")
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        parser.error(f"no protocol is measured as {', '.join(unknown)}: write some of {', '.join(PROTOCOLS)}")
    console, tools = Console(width=max(120, Console().width)), None
    with Console(stderr=True).status("starting") as status:
        if not arguments.skip_etcd:
            status.update(f"etcd {VERSION}: building")
            tools = etcd_tools()
            if tools is None:
                console.print(HOW, style="red")
                return 2
        systems = [*(["etcd"] if tools else []), *protocols]
        measured = measure(systems, tools, arguments.runs, arguments.seconds, status.update)
    figures = {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "etcd": f"{VERSION}, load by its benchmark tool" if tools else None,
        "quorate": "load by quorate bench and bench.reads",
        "key_bytes": KEY_BYTES,
        "value_bytes": VALUE_BYTES,
        "seconds": arguments.seconds,
        "runs": arguments.runs,
        "rows": [{"load": load, "kind": kind, "system": name, **of} for (load, kind, name), of in measured.items()],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
    report(measured, systems, console)
    console.print(f"written to {RESULT}")
    return 0


Measured = dict[tuple[str, str, str], dict[str, float]]
"""By load, kind and system."""


def measure(
    systems: list[str], tools: EtcdTools | None, runs: int, seconds: float, tell: Callable[[str], None]
) -> Measured:
    """The medians, and the memory of the largest node. A fresh cluster for each system, load and run."""
    found: dict[tuple[str, str, str], list[Figures]] = {}
    peaks: dict[tuple[str, str], float] = {}
    for run in range(runs):
        for shape in SHAPES:
            for system in systems:
                with under_load(system, shape, tools) as (puts, reads, pids):
                    for kind in KINDS:
                        tell(f"run {run + 1} of {runs}: {system}, {kind}s, {shape.name}")
                        row = found.setdefault((shape.name, kind, system), [])
                        if kind == "put":
                            row.append(puts(seconds))
                        else:
                            row.append(reads(seconds * READ_SHARE, kind == "serializable read"))
                    peak = peak_memory_mb(pids)
                    peaks[shape.name, system] = max(peak, peaks.get((shape.name, system), 0.0))
    return {
        row: {**msgspec.structs.asdict(medians(figures)), "peak_mb": peaks[row[0], row[2]]}
        for row, figures in found.items()
    }


Puts = Callable[[float], Figures]
Reads = Callable[[float, bool], Figures]


@contextmanager
def under_load(system: str, shape: Shape, tools: EtcdTools | None) -> Iterator[tuple[Puts, Reads, list[int]]]:
    """A fresh cluster: what puts and what reads, for so many seconds, and the processes of its nodes."""
    if system != "etcd":
        with ours.cluster(system, PROTOCOLS[system]) as cluster:
            yield (
                lambda s: cluster.puts(*shape, s, KEY_BYTES, VALUE_BYTES),
                lambda s, serializable: cluster.reads(*shape, s, VALUE_BYTES, is_serializable=serializable),
                cluster.pids,
            )
        return
    assert tools is not None, "etcd is among the systems"
    with etcd.cluster(OPTIONS, programs=tools[:2]) as theirs:
        load = EtcdLoad(tools, theirs, *shape)
        yield (
            lambda s: load.puts(s, KEY_BYTES, VALUE_BYTES),
            lambda s, serializable: load.reads(s, VALUE_BYTES, is_serializable=serializable),
            theirs.pids,
        )


def report(measured: Measured, systems: list[str], console: Console) -> None:
    """A table a load, with our figures over etcd's in it."""
    columns: dict[str, Any] = {
        "per_s": "a second",
        "ms_p50": "p50 ms",
        "ms_p99": "p99 ms",
        "ms_max": "longest ms",
        "nodes_us": "CPU us, nodes",
        "client_us": "CPU us, load",
        "peak_mb": "peak MB",
    }
    for shape in SHAPES:
        table = Table(title=f"{shape.name}; keys of {KEY_BYTES} and values of {VALUE_BYTES} bytes")
        for heading in ("", "system", *columns.values()):
            table.add_column(heading, justify="left" if heading in ("", "system") else "right", no_wrap=not heading)
        for kind in KINDS:
            theirs = measured.get((shape.name, kind, "etcd"))
            for system in systems:
                own = measured[shape.name, kind, system]
                cells = [_cell(own[name], theirs[name] if theirs and system != "etcd" else None) for name in columns]
                table.add_row(f"{kind}s", system, *cells)
        console.print(table)
    if "etcd" in systems:
        console.print("in parentheses: the figure over that of etcd")


def _cell(value: float, theirs: float | None) -> str:
    text = f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    return f"{text} ({value / theirs:.2f})" if theirs else text


if __name__ == "__main__":
    sys.exit(main())
