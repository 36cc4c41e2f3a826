"""The costs in docs/choosing.md of the protocols that are here are what their cores do, counted round by round."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from random import Random

import pytest

from quorate.kernel import Fired, Host, Input, Received, Submitted, Turn
from quorate.parts.replicated import Committed
from quorate.protocols import REGISTRY

from tests.docs.snippets import ROOT

ROW = re.compile(r"^\| `(\w+)`[^|]*\|[^|]*\|[^|]*\| `([^`]+)` \| (\d+) \|", re.MULTILINE)
COSTS = {name: (formula, int(delays)) for name, formula, delays in ROW.findall((ROOT / "docs/choosing.md").read_text())}
VALUE = b"value"
LONG_S = 100.0
COUNTED = ("echo", "paxos", "raft")
"""Those that `Rounds` can bring to a settled leader."""
FORMULAS: dict[str, Callable[[int], int]] = {
    "n - 1": lambda n: n - 1,
    "2(n - 1)": lambda n: 2 * (n - 1),
    "3(n - 1)": lambda n: 3 * (n - 1),
    "(2n + 3)(n - 1)": lambda n: (2 * n + 3) * (n - 1),
}


class Rounds:
    """Nodes 0 to n - 1. All messages of a round arrive in the next; disks and messages to oneself take no time."""

    def __init__(self, protocol: str, nodes: int) -> None:
        entry = REGISTRY[protocol]
        make = entry.make(entry.config())
        self.hosts = [Host(make, node, range(nodes), Random(node)) for node in range(nodes)]
        self.mail: list[tuple[int, Received]] = []
        self.sent = self.round = 0
        self.now = 0.0
        self.committed: dict[int, int] = {}
        for node, host in enumerate(self.hosts):
            self._act(node, host.start(self.now))
        self.settle()

    def step(self, node: int, item: Input) -> None:
        """One input, and all that it leads to."""
        self._act(node, self.hosts[node].step([item], self.now))
        self.settle()

    def settle(self) -> None:
        """Rounds until nothing is on its way."""
        while self.mail:
            self.round += 1
            arriving, self.mail = self.mail, []
            for to, item in arriving:
                self._act(to, self.hosts[to].step([item], self.now))

    def _act(self, node: int, turn: Turn) -> None:
        turns = deque([turn])
        while turns:
            turn = turns.popleft()
            for output in turn.outputs:
                if isinstance(output, Committed) and any(entry.data == VALUE for entry in output.entries):
                    self.committed[node] = self.round
            for send in (*turn.early, *turn.sends):
                item = Received(node, send.message, send.path)
                others = [to for to in send.to if to != node]
                self.sent += len(others)
                self.mail += [(to, item) for to in others]
                if len(others) < len(send.to):
                    turns.append(self.hosts[node].step([item], self.now))


@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("protocol", COUNTED)
def test_messages_and_delays(protocol: str, nodes: int) -> None:
    rounds = Rounds(protocol, nodes)
    rounds.now = LONG_S
    if protocol == "raft":
        rounds.step(0, Fired("election"))
    rounds.sent = rounds.round = 0
    rounds.step(0, Submitted((VALUE,)))
    formula, delays = COSTS[protocol]
    assert rounds.sent == FORMULAS[formula](nodes)
    assert rounds.committed[0] + 2 == delays, "and the client's request and answer"
    assert len(rounds.committed) == nodes


def test_every_protocol_has_a_line() -> None:
    assert set(COSTS) == set(REGISTRY)
