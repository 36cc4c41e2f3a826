"""`python -m bench.simulator`: how fast the simulator runs PBFT, by the number of nodes.

Nothing fails, and no disk is slow. CPU time of this process. Signatures are symbolic, checkers are off. Messages a
decision are those that were delivered, checkpoints and beats among them, beside 2n(n - 1), which is what the order
alone takes.
"""

from __future__ import annotations

import argparse
import json
import time

from rich.console import Console
from rich.table import Table

from quorate.parts.crypto.keys import Symbolic
from quorate.protocols import REGISTRY
from quorate.sim.options import Options
from quorate.sim.swarm import Mix
from quorate.sim.trial import Trial
from quorate.sim.world import World
from quorate.trials.subjects import subject

PROTOCOL = "pbft"
SIZES = (4, 16, 32, 64)
WARM_UP_S = 0.5
MESSAGES = 150_000
"""What a measurement is to deliver, about."""
DECISIONS_PER_S = 110
"""Of virtual time, with this mix, about."""


def measure(nodes: int) -> dict[str, float]:
    """One world: messages a CPU second, CPU milliseconds a decision."""
    entry = REGISTRY[PROTOCOL]
    scheme = Symbolic(range(nodes), b"bench")
    world = World(
        Trial(
            entry.make(entry.config(), None, scheme.keys),
            subject("register", entry.traits, scheme),
            Options(seed=1, nodes=nodes, faults=()),
            mix=Mix(resets=0.0),
            scheme=scheme,
        )
    )
    world.start()
    world.run_until(WARM_UP_S)
    core = world.nodes[0].host.root
    messages, decisions = world.network.delivered, getattr(core, "executed", 0)
    duration_s = MESSAGES / (2 * nodes * (nodes - 1)) / DECISIONS_PER_S
    began_s = time.process_time()
    world.run_until(WARM_UP_S + duration_s)
    spent_s = time.process_time() - began_s
    messages = world.network.delivered - messages
    decisions = getattr(core, "executed", 0) - decisions
    return {
        "nodes": nodes,
        "messages_per_s": messages / spent_s,
        "decisions": decisions,
        "decision_ms": spent_s / decisions * 1e3,
        "messages_per_decision": messages / decisions,
        "formula": 2 * nodes * (nodes - 1),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulator", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    arguments = parser.parse_args()
    table = Table("nodes", "messages/s", "ms a decision", "messages a decision", "2n(n - 1)")
    for nodes in SIZES:
        row = measure(nodes)
        if arguments.json:
            print(json.dumps(row))
        table.add_row(
            str(nodes),
            f"{row['messages_per_s']:,.0f}",
            f"{row['decision_ms']:.1f}",
            f"{row['messages_per_decision']:,.0f}",
            f"{row['formula']:,}",
        )
    if not arguments.json:
        Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
