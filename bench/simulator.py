"""`python -m bench.simulator`: how fast the simulator runs each protocol, by the number of nodes.

Nothing fails, and no disk is slow. CPU time of this process. Signatures are symbolic; checkers are off, or all on with
``--checkers``. Messages a decision are those that were delivered, checkpoints and beats among them, beside what the
order alone takes. Ratios to PBFT in the same run say more than any figure alone.

With ``--compiled`` each world runs in two processes besides, in turn, one on the sources and one on the package that
`python -m bench.compiled` built: messages a CPU second of both, the median of some rounds. Their digests must be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from quorate.parts.crypto.keys import Symbolic
from quorate.protocols import REGISTRY
from quorate.sim.options import Options
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.world import World
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import subject

from bench.compiled import FOLDER, PACKAGE, ROOT

FORMULAS = {
    "raft": lambda n: 2 * (n - 1),
    "pbft": lambda n: 2 * n * (n - 1),
    "tendermint": lambda n: (2 * n + 1) * (n - 1),
}
"""Messages a decision by the number of nodes, where nothing fails, heartbeats and clients left out."""
PROTOCOLS = ("pbft", "tendermint", "raft")
PEER = "pbft"
SIZES = (4, 16, 32, 64)
WARM_UP_S = 0.5
SLICE_S = 0.05
"""Of virtual time, after which it is seen whether there were enough messages."""
MESSAGES = 150_000
"""What a measurement delivers, at least."""
ROUNDS = 3
"""How often sources and compiled package are measured in turn."""


def measure(protocol: str, nodes: int, count: int, *, is_checked: bool = False) -> dict[str, Any]:
    """One world: messages a CPU second, CPU microseconds a message, CPU milliseconds a decision."""
    world = quiet(protocol, nodes, is_checked=is_checked)
    world.start()
    world.run_until(WARM_UP_S)
    began, decided = world.network.delivered, decisions(world)
    began_s = time.process_time()
    while world.network.delivered < began + count:
        world.run_until(world.now + SLICE_S)
    spent_s = time.process_time() - began_s
    messages, decided = world.network.delivered - began, decisions(world) - decided
    return {
        "protocol": protocol,
        "nodes": nodes,
        "messages_per_s": messages / spent_s,
        "message_us": spent_s / messages * 1e6,
        "decisions": decided,
        "decision_ms": spent_s / decided * 1e3,
        "messages_per_decision": messages / decided,
        "formula": FORMULAS[protocol](nodes),
        "digest": f"{world.digest.value:08x}",
    }


def quiet(protocol: str, nodes: int, *, is_checked: bool) -> World:
    """Clients of registers above so many healthy nodes, and with all checkers or none."""
    entry = REGISTRY[protocol]
    scheme = Symbolic(range(nodes), b"bench") if entry.traits.has_keys else None
    trial = Trial(
        entry.make(entry.config(), None, scheme.keys if scheme else None),
        subject("register", entry.traits, scheme),
        Options(seed=1, nodes=nodes, faults=()),
        invariants=equipment_of(protocol).invariants,
        mix=Mix(resets=0.0),
        scheme=scheme,
    )
    return World(trial, trial.checkers() if is_checked else ())


def decisions(world: World) -> int:
    """How many the first node knows of."""
    return world.nodes[0].host.root.standing().commit_index or 0


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, with the ratio of messages a second to those of the peer among as many nodes, if that was measured."""
    peers = {row["nodes"]: row["messages_per_s"] for row in rows if row["protocol"] == PEER}
    for row in rows:
        if row["nodes"] in peers:
            row["ratio"] = row["messages_per_s"] / peers[row["nodes"]]
    return rows


def beside_compiled(row: dict[str, Any], folder: Path, count: int, *, is_checked: bool) -> dict[str, Any]:
    """The same with the rates of both packages. Raises ValueError if their runs differ."""
    rates: dict[Path, list[float]] = {PACKAGE.parent: [], folder: []}
    for _ in range(ROUNDS):
        for package, measured in rates.items():
            found = apart(package, row["protocol"], row["nodes"], count, is_checked=is_checked)
            if found["digest"] != row["digest"]:
                raise ValueError(f"{package} runs {row['protocol']} in another way: build it anew, it may be older")
            measured.append(found["messages_per_s"])
    interpreted, compiled = (median(measured) for measured in rates.values())
    return {**row, "interpreted_per_s": interpreted, "compiled_per_s": compiled}


def apart(package: Path, protocol: str, nodes: int, count: int, *, is_checked: bool) -> dict[str, Any]:
    """What ``measure`` finds in a process that takes the package from there."""
    arguments = ["--json", "--protocols", protocol, "--nodes", str(nodes), "--messages", str(count)]
    command = [sys.executable, "-m", "bench.simulator", *arguments, *(["--checkers"] if is_checked else [])]
    environment = {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{ROOT}"}
    found = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE)
    row: dict[str, Any] = json.loads(found.stdout)
    return row


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulator", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--protocols", default=",".join(PROTOCOLS), help=f"some of {', '.join(FORMULAS)}")
    parser.add_argument("--nodes", default=",".join(map(str, SIZES)), help="numbers of nodes, separated by commas")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="how many to deliver in each measurement")
    parser.add_argument("--checkers", action="store_true", help="with all checkers, as in a campaign")
    what = f"measure a compiled package as well; {FOLDER.relative_to(ROOT)} by default"
    parser.add_argument("--compiled", nargs="?", type=Path, const=FOLDER, metavar="FOLDER", help=what)
    arguments = parser.parse_args()
    count, is_checked, folder = arguments.messages, arguments.checkers, arguments.compiled
    protocols, sizes = arguments.protocols.split(","), [int(size) for size in arguments.nodes.split(",")]
    if unknown := [name for name in protocols if name not in FORMULAS]:
        parser.error(f"not measured: {', '.join(unknown)}; write some of {', '.join(FORMULAS)}")
    if folder is not None and not (folder / "quorate").is_dir():
        parser.error(f"there is no package in {folder}: build one with python -m bench.compiled {folder}")
    rows = compared([measure(name, nodes, count, is_checked=is_checked) for nodes in sizes for name in protocols])
    if folder is not None:
        rows = [beside_compiled(row, folder.resolve(), count, is_checked=is_checked) for row in rows]
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
    else:
        report(rows)
    return 0


def report(rows: list[dict[str, Any]]) -> None:
    """One table."""
    headings = ("messages/s", f"to {PEER}", "us a message", "ms a decision", "messages a decision", "of these ordering")
    both = ("interpreted", "compiled", "ratio") if "compiled_per_s" in rows[0] else ()
    table = Table("nodes", "protocol", *headings, *both)
    for row in rows:
        table.add_row(
            str(row["nodes"]),
            row["protocol"],
            f"{row['messages_per_s']:,.0f}",
            f"{row['ratio']:.2f}" if "ratio" in row else "-",
            f"{row['message_us']:.1f}",
            f"{row['decision_ms']:.1f}",
            f"{row['messages_per_decision']:,.0f}",
            f"{row['formula']:,}",
            *([f"{row['interpreted_per_s']:,.0f}", f"{row['compiled_per_s']:,.0f}"] if both else []),
            *([f"{row['compiled_per_s'] / row['interpreted_per_s']:.2f}"] if both else []),
        )
    Console().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
