"""`python -m bench.simulator`: how fast the simulator runs each protocol, by the number of nodes.

Nothing fails, and no disk is slow. CPU time of this process. Signatures are symbolic, checkers are off. Messages a
decision are those that were delivered, checkpoints and beats among them, beside what the order alone takes. Ratios to
PBFT in the same run say more than any figure alone.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from quorate.parts.crypto.keys import Symbolic
from quorate.protocols import REGISTRY
from quorate.sim.options import Options
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.world import World
from quorate.trials.subjects import subject

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


def measure(protocol: str, nodes: int, count: int) -> dict[str, Any]:
    """One world: messages a CPU second, CPU microseconds a message, CPU milliseconds a decision."""
    world = quiet(protocol, nodes)
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
    }


def quiet(protocol: str, nodes: int) -> World:
    """Clients of registers above so many healthy nodes."""
    entry = REGISTRY[protocol]
    scheme = Symbolic(range(nodes), b"bench") if entry.traits.has_keys else None
    return World(
        Trial(
            entry.make(entry.config(), None, scheme.keys if scheme else None),
            subject("register", entry.traits, scheme),
            Options(seed=1, nodes=nodes, faults=()),
            mix=Mix(resets=0.0),
            scheme=scheme,
        )
    )


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


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulator", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--protocols", default=",".join(PROTOCOLS), help=f"some of {', '.join(FORMULAS)}")
    parser.add_argument("--nodes", default=",".join(map(str, SIZES)), help="numbers of nodes, separated by commas")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="how many to deliver in each measurement")
    arguments = parser.parse_args()
    protocols, sizes = arguments.protocols.split(","), [int(size) for size in arguments.nodes.split(",")]
    if unknown := [name for name in protocols if name not in FORMULAS]:
        parser.error(f"not measured: {', '.join(unknown)}; write some of {', '.join(FORMULAS)}")
    rows = compared([measure(name, nodes, arguments.messages) for nodes in sizes for name in protocols])
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
    else:
        report(rows)
    return 0


def report(rows: list[dict[str, Any]]) -> None:
    """One table."""
    headings = ("messages/s", f"to {PEER}", "us a message", "ms a decision", "messages a decision", "of these ordering")
    table = Table("nodes", "protocol", *headings)
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
        )
    Console().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
