"""`make bench-comet`: a chain of Quorate beside one of CometBFT 0.38, four validators each, on this machine.

Each node of both has the kvstore in its process and its index on. CometBFT is measured as it comes and tuned
(``cometbft.TUNED``). Loads: 64 clients, each with its next transaction when the last was accepted; and 400 transactions
a second of all, for the latency. The settings of all, and all figures, go to build/bench-comet.json too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table

from bench import cometbft
from bench.comet_load import Client, Load
from bench.ours import BASE_PORTS, COMMAND

RESULT: Final = Path("build/bench-comet.json")
SIZES: Final = (250, 1024)
CLIENTS: Final = 64
RATE: Final = 400.0
READY_S: Final = 60.0
SYSTEMS: Final = {"cometbft": {}, "cometbft tuned": cometbft.TUNED}
OURS: Final = "quorate"


class Chain(NamedTuple):
    """What runs: where its RPC is, and who serves it."""

    ports: list[int]
    pids: list[int]


@contextmanager
def running(system: str) -> Iterator[Chain]:
    """Four fresh validators that have decided a block."""
    if system == OURS:
        with ours() as chain:
            yield chain
    else:
        with cometbft.cluster(SYSTEMS[system]) as comet:
            yield Chain(comet.ports, comet.pids)


@contextmanager
def ours() -> Iterator[Chain]:
    """`quorate up --app kvstore`, with its data on disk and its defaults."""
    for base in BASE_PORTS:
        command = [*COMMAND, "up", "--ephemeral", "--json", "--protocol", "tendermint", "--nodes", str(cometbft.NODES)]
        rpc = base + 5
        command += ["--app", "kvstore", "--base-port", str(base), "--rpc-port", str(rpc)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as up:
            assert up.stdout is not None
            line = up.stdout.readline()
            if line:
                try:
                    pids = [int(node["pid"]) for node in json.loads(line)["nodes"]]
                    yield Chain([rpc + 10 * number for number in range(cometbft.NODES)], pids)
                finally:
                    up.terminate()
                return
    raise RuntimeError("no cluster could be started; try `quorate up --protocol tendermint --app kvstore` to see why")


async def until_ready(ports: list[int]) -> None:
    """Until every node answers and takes transactions. Raises RuntimeError."""
    deadline = time.monotonic() + READY_S
    for number, port in enumerate(ports):
        while True:
            try:
                client = await Client().open(port)
                if "result" in await client.call("broadcast_tx_commit", tx=b64encode(b"ready%d=1" % number).decode()):
                    break
            except (OSError, asyncio.IncompleteReadError):
                pass
            if time.monotonic() > deadline:
                raise RuntimeError(f"the node at port {port} is not ready after {READY_S:g} s")
            await asyncio.sleep(0.2)


def measure(system: str, size: int, rate: float | None, seconds: float) -> dict[str, Any]:
    """One load on one fresh cluster."""

    async def main(chain: Chain) -> dict[str, Any]:
        await until_ready(chain.ports)
        return await Load(chain.ports, chain.pids, CLIENTS, size, rate).run(seconds)

    with running(system) as chain:
        return asyncio.run(main(chain))


def main() -> int:
    """Measure, print, write the file."""
    parser = argparse.ArgumentParser(prog="python -m bench.comet", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="for each measurement (default 15)")
    parser.add_argument("--systems", default=",".join((*SYSTEMS, OURS)), help="which, separated by commas")
    arguments = parser.parse_args()
    systems = arguments.systems.split(",")
    console = Console(width=max(120, Console().width))
    if cometbft.BINARY is None and systems != [OURS]:
        console.print(f"CometBFT is not here: {cometbft.HOW}", style="red")
        return 2
    rows = []
    with Console(stderr=True).status("starting") as status:
        for size in SIZES:
            for rate in (None, RATE):
                for system in systems:
                    load = f"{rate:g}/s" if rate else f"{CLIENTS} clients"
                    status.update(f"{system}: {size} B, {load}")
                    found = measure(system, size, rate, arguments.seconds)
                    rows.append({"system": system, "bytes": size, "load": load, **found})
    figures = {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "settings": {**{name: edits or "defaults" for name, edits in SYSTEMS.items()}, OURS: "defaults"},
        "rows": rows,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")
    report(figures, console)
    console.print(f"written to {RESULT}")
    return 0


def report(figures: dict[str, Any], console: Console) -> None:
    """The settings, and a line a measurement."""
    for system, settings in figures["settings"].items():
        console.print(f"{system}: {settings}")
    table = Table("size", "load", "system", "tx/s", "p50 ms", "p99 ms", "CPU ms/tx", "blocks", "refused")
    for row in figures["rows"]:
        table.add_row(
            f"{row['bytes']} B",
            row["load"],
            row["system"],
            f"{row['tx_per_s']:,.0f}",
            f"{row['latency_ms_p50']:,.0f}",
            f"{row['latency_ms_p99']:,.0f}",
            f"{row['cpu_ms_per_tx']:.2f}",
            str(row["blocks"]),
            str(sum(row["refused"].values())),
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
