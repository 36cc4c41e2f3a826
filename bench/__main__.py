"""`make bench`: Quorate against etcd, three processes each, on this machine, one after the other, fsync on.

PBFT and Tendermint have four, one of which may lie; nodes and clients sign with Ed25519. etcd tolerates no lies, so it
is not their peer. `--protocols pbft,tendermint --skip-etcd` measures these two alone, one after the other.

Absolute figures mean little on a shared machine; the ratios of one run mean more. All figures also go to
build/bench.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import etcd, ours

KEY_BYTES, VALUE_BYTES = 256, 1024
SIZES = (KEY_BYTES, VALUE_BYTES)
RESULT = Path("build/bench.json")
PROTOCOLS = {"raft": 3, "multipaxos": 3, "pbft": 4, "tendermint": 4}
"""Name to the number of nodes that tolerate one fault."""
COST_PUTS = 20_000
READ_FROM = ("clients_1", "clients_200_on_8_connections")
"""The loads beside which reads are measured as well, by as many clients."""
PRESETS = {200: "l", 1000: "xl"}
"""Our number of clients: the preset of `etcdctl check perf` that stands against it (see etcd.py)."""


def main() -> int:
    """Measure, print, write the file."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="for each of our measurements (default 15)")
    parser.add_argument("--skip-etcd", action="store_true", help="measure Quorate alone")
    parser.add_argument("--protocols", default=",".join(PROTOCOLS), help=f"some of {', '.join(PROTOCOLS)}")
    arguments = parser.parse_args()
    protocols = arguments.protocols.split(",")
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        parser.error(f"no protocol is measured as {', '.join(unknown)}: write some of {', '.join(PROTOCOLS)}")
    console = Console(width=max(120, Console().width))
    if not arguments.skip_etcd and not etcd.installed():
        console.print(
            "etcd and etcdctl are not installed; as root: apt-get install etcd-server etcd-client", style="red"
        )
        return 2
    figures: dict[str, Any] = {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "key_bytes": KEY_BYTES,
        "value_bytes": VALUE_BYTES,
    }
    with Console(stderr=True).status("starting") as status:
        if not arguments.skip_etcd:
            figures["etcd"] = measure_etcd(arguments.seconds, status)
        for protocol in protocols:
            figures[protocol] = measure_ours(protocol, PROTOCOLS[protocol], arguments.seconds, status)
    if not arguments.skip_etcd and "raft" in protocols:
        figures.update(ratios(figures))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")
    report(figures, console)
    console.print(f"written to {RESULT}")
    return 0


def measure_etcd(seconds: float, status: Any) -> dict[str, Any]:
    """One client, then the presets; a fresh cluster for each, so that none inherits another's data."""
    found: dict[str, Any] = {}
    with etcd.cluster() as one:
        status.update("etcd: 1 client")
        found["clients_1"] = one.one_client(seconds, KEY_BYTES, VALUE_BYTES)
    for clients, preset in PRESETS.items():
        with etcd.cluster() as many:
            status.update(f"etcd: check perf --load={preset}, one minute")
            found[f"clients_{clients}"] = {"preset": preset, **many.check_perf(preset)}
    return found


def measure_ours(protocol: str, nodes: int, seconds: float, status: Any) -> dict[str, Any]:
    """The same loads, and 200 clients that share 8 connections, as the tasks of a few processes would."""
    found: dict[str, Any] = {}
    loads: list[tuple[str, int, int | None]] = [
        ("clients_1", 1, None),
        ("clients_200", 200, None),
        ("clients_200_on_8_connections", 200, 8),
        ("clients_1000", 1000, None),
    ]
    for name, clients, connections in loads:
        with ours.cluster(protocol, nodes) as cluster:
            status.update(f"{protocol}: {name.replace('_', ' ')}")
            found[name] = cluster.load(clients, seconds, SIZES, connections)
            if clients == 200:
                status.update(f"{protocol}: CPU and memory")
                found[name].update(cluster.cost(COST_PUTS, clients, SIZES, connections))
            if name in READ_FROM:
                status.update(f"{protocol}: reads")
                found[name].update(cluster.reads(clients, connections, seconds, VALUE_BYTES))
    return found


def ratios(figures: dict[str, Any]) -> dict[str, float]:
    """Ours to etcd's: above 1 is more writes; for latencies and costs, below 1 is less."""
    theirs, mine = figures["etcd"], figures["raft"]
    found = {
        f"ratio_{clients}_clients": mine[f"clients_{clients}"]["writes_per_s"]
        / theirs[f"clients_{clients}"]["writes_per_s"]
        for clients in (1, 200, 1000)
    }
    shared = mine["clients_200_on_8_connections"]["writes_per_s"]
    found["ratio_200_clients_on_8_connections"] = shared / theirs["clients_200"]["writes_per_s"]
    for figure in ("latency_ms_p50", "latency_ms_p99"):
        found[f"ratio_1_client_{figure}"] = mine["clients_1"][figure] / theirs["clients_1"][figure]
    for figure in ("cpu_s_per_10k_writes", "peak_memory_mb"):
        found[f"ratio_{figure}"] = mine["clients_200"][figure] / theirs["clients_200"][figure]
    return found


def report(figures: dict[str, Any], console: Console) -> None:
    """A table of all measurements, then the ratios."""
    columns = (
        "writes_per_s",
        "latency_ms_p50",
        "latency_ms_p99",
        "latency_ms_max",
        "cpu_s_per_10k_writes",
        "peak_memory_mb",
        "reads_per_s",
        "read_ms_p50",
        "read_cpu_us",
    )
    table = Table(title=f"durable writes, and reads; keys of {KEY_BYTES} and values of {VALUE_BYTES} bytes")
    writes = ("writes/s", "p50 ms", "p99 ms", "longest ms", "CPU s/10k", "peak MB")
    for heading in ("system", "load", *writes, "reads/s", "p50 ms", "CPU us/read"):
        table.add_column(heading, justify="left" if heading in ("system", "load") else "right")
    for system in ("etcd", *PROTOCOLS):
        for load, found in figures.get(system, {}).items():
            cells = (f"{found[column]:,.2f}".removesuffix(".00") if column in found else "-" for column in columns)
            preset = f" (check perf --load={found['preset']})" if "preset" in found else ""
            table.add_row(system, load.replace("_", " ") + preset, *cells)
    console.print(table)
    console.print("etcdctl's preset l has 500 clients, xl has 1,000; it reports no percentiles.")
    for name, value in figures.items():
        if name.startswith("ratio_"):
            console.print(f"{name}: {value:.2f}")


if __name__ == "__main__":
    sys.exit(main())
