"""A node that lies, as a process: `quorate node` whose Turns, messages and answers pass through the simulator's liars.

    python -m tests.torture.liar ADVERSARY node --config cluster.toml --node 1

Its honest half may come to believe what no correct node would. If that makes it raise, the process ends, which is one
more thing that a Byzantine node may be.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from quorate.cli import main as cli
from quorate.kernel import Input, Received, Requester, Send, Shell, Turn
from quorate.parts.crypto.keys import Keys
from quorate.runtime.node import Node
from quorate.service import server
from quorate.sim.adversary import GENERIC
from quorate.sim.adversary.actor import Adversary
from quorate.sim.adversary.liar import Means
from quorate.trials.protocols import adversary_of, equipment_of

from tests.cluster import SOURCE, LocalCluster

ROOT: Final = Path(__file__).parents[2]
LIAR: Final = 1
"""It leads first."""


class LyingShell(Shell):
    """Acts on what the Adversary makes of each Turn."""

    adversary: Adversary
    later: Any
    """Sends something after a delay in seconds."""

    def step(self, inputs: Sequence[Input], now: float, wall_ns: int = 0) -> Turn:
        for item in inputs:
            if type(item) is Received and item.sender != self.adversary.means.node:
                self.adversary.hear(item)
        return super().step(inputs, now, wall_ns)

    def act(self, turn: Turn) -> None:
        super().act(self.adversary.act(turn, time.monotonic(), self.host.root))
        means = self.adversary.means
        delayed, means.delayed = means.delayed, []
        for delay_s, send in delayed:
            self.later(delay_s, send)


class LyingNode(Node):
    """One whose liars are of this kind; ``wanted`` as `quorate sim --adversary` has it."""

    def __init__(self, wanted: str, *, node: int, protocol: str, keys: Keys | None = None, **rest: Any) -> None:
        super().__init__(node=node, protocol=protocol, keys=keys, **rest)
        liars, names = adversary_of(protocol, wanted)
        means = Means(node, sorted(rest["addresses"]), Random(node), keys, equipment_of(protocol).resign)
        self.adversary = Adversary([liar for liar in (*GENERIC, *liars) if liar.name in names], means)
        self._shell_class = self._lying  # type: ignore[assignment]  # a function that makes one

    def reply(self, client: Requester, response: Any) -> None:
        response = self.adversary.answer(response)
        if response is not None:
            super().reply(client, response)

    def _lying(self, *args: Any) -> Shell:
        shell = LyingShell(*args)
        shell.adversary, shell.later = self.adversary, self._send_later
        return shell

    def _send_later(self, delay_s: float, send: Send) -> None:
        self._loop.call_later(delay_s, self.send, (send,))


class ClusterWithLiar(LocalCluster):
    """One whose node ``LIAR`` lies: so as ``adversary`` has it."""

    adversary = "two-faced-primary,conflicting-votes,equivocating,forged,lying-view-change,lying-source"
    """Lies that others can tell: silence and delays, which tell nobody anything, would take up much of the time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, env={"PYTHONPATH": os.pathsep.join([str(SOURCE), str(ROOT)])}, **options)

    def command(self, node: int) -> list[str]:
        command = super().command(node)
        if node != LIAR:
            return command
        module = command.index("quorate")
        return [*command[:module], __name__, self.adversary, *command[module + 1 :]]


def main() -> None:
    """Run the node."""
    server.Node = partial(LyingNode, sys.argv.pop(1))  # type: ignore[misc,assignment]
    cli.main()


if __name__ == "__main__":
    main()
