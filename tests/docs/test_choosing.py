"""The costs in docs/choosing.md are what the cores do, counted round by round; README.md says the same."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

import pytest

from quorate.kernel import Fired, Host, Input, Received, Submitted, Turn
from quorate.kernel.inputs import Done
from quorate.parts import requests
from quorate.parts.crypto.keys import Symbolic, VerifyBatch
from quorate.parts.log.replicated import Decided
from quorate.protocols import REGISTRY
from quorate.sim.chance import streams

from tests.docs.snippets import ROOT

ROW = re.compile(r"^\| `(\w+)`[^|]*\|[^|]*\|[^|]*\| `([^`]+)` \| (\d+) \|", re.MULTILINE)
README_ROW = re.compile(r"^\| `(\w+)`[^|]*\|[^|]*\|[^|]*\| ([^|]+) \| (\d+) \|", re.MULTILINE)


def read(name: str) -> str:
    """A page."""
    return (ROOT / name).read_text()


COSTS = {name: (formula, int(delays)) for name, formula, delays in ROW.findall(read("docs/choosing.md"))}
LONG_S = 100.0
LED = ("multipaxos", "raft")
"""Those that elect a leader; in the others it is whose turn it is, or the first node."""
SCHEME = Symbolic(range(7))
FORMULAS: dict[str, Callable[[int], int]] = {
    "n - 1": lambda n: n - 1,
    "2(n - 1)": lambda n: 2 * (n - 1),
    "3(n - 1)": lambda n: 3 * (n - 1),
    "2n(n - 1)": lambda n: 2 * n * (n - 1),
    "(2n + 1)(n - 1)": lambda n: (2 * n + 1) * (n - 1),
    "(2n + 3)(n - 1)": lambda n: (2 * n + 3) * (n - 1),
}


class Rounds:
    """Nodes 0 to n - 1. All messages of a round arrive in the next.

    Disks, checks of signatures and messages to oneself take no time.
    """

    def __init__(self, protocol: str, nodes: int) -> None:
        entry = REGISTRY[protocol]
        make = entry.make(entry.config(), keys=SCHEME.keys)
        self.hosts = [Host(make, node, range(nodes), streams(node)) for node in range(nodes)]
        self.mail: list[tuple[int, Received]] = []
        self.value = requests.sign(SCHEME.client(0), [b"value"]) if entry.traits.signers.clients else b"value"
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
                if isinstance(output, Decided) and any(entry.data == self.value for entry in output.entries):
                    self.committed[node] = self.round
            for job in turn.jobs:
                assert isinstance(job.work, VerifyBatch), job
                done = Done(job.key, SCHEME.keyring().verify_batch(job.work), job.path)
                turns.append(self.hosts[node].step([done], self.now))
            for send in (*turn.early, *turn.sends):
                item = Received(node, send.message, send.path)
                others = [to for to in send.to if to != node]
                self.sent += len(others)
                self.mail += [(to, item) for to in others]
                if len(others) < len(send.to):
                    turns.append(self.hosts[node].step([item], self.now))


def sizes(protocol: str) -> tuple[int, int]:
    """So many that one fault, and two, are borne."""
    return (4, 7) if REGISTRY[protocol].traits.is_byzantine else (3, 5)


@pytest.mark.parametrize(("protocol", "nodes"), [(name, nodes) for name in sorted(REGISTRY) for nodes in sizes(name)])
def test_messages_and_delays(protocol: str, nodes: int) -> None:
    rounds = Rounds(protocol, nodes)
    rounds.now = LONG_S
    if protocol in LED:
        rounds.step(0, Fired("election"))
    rounds.sent = rounds.round = 0
    leader = rounds.hosts[0].root.standing().leader or 0
    rounds.step(leader, Submitted((rounds.value,)))
    formula, delays = COSTS[protocol]
    assert rounds.sent == FORMULAS[formula](nodes)
    assert rounds.committed[leader] + 2 == delays, "and the client's request and answer"
    assert len(rounds.committed) == nodes


def test_every_protocol_has_a_line() -> None:
    assert set(COSTS) == set(REGISTRY)


def test_the_table_of_the_readme_says_the_same() -> None:
    """There a figure may be followed by what it comes to under load."""
    found = {
        name: (formula.partition(",")[0], int(delays))
        for name, formula, delays in README_ROW.findall(read("README.md"))
    }
    assert found == COSTS


def test_what_is_here_is_not_said_to_be_being_built() -> None:
    titles = [entry.title.partition(" (")[0] for entry in REGISTRY.values()]
    for name in ("README.md", "docs/choosing.md"):
        unbuilt = [line for line in read(name).splitlines() if "being built" in line or "planned" in line]
        assert not [line for line in unbuilt for title in titles if title in line], name
