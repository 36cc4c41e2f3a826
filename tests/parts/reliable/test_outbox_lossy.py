"""Outbox: whatever the network loses, doubles and reorders, and whoever crashes, all that is needed arrives, once."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.kernel import Fired, Received, Submitted
from quorate.parts.reliable import BEAT, ReliableConfig

from tests.kernel.machine import OneNode
from tests.parts.reliable.owner import PEERS, Owner

LIMITS = ReliableConfig(ahead_max=2, epochs_max=1000, resend_messages_max=3, backoff_beats_max=4)
FAIR_BEATS = 60


class Owned(Owner):
    """With small resends, so that it takes several."""

    config = LIMITS


class Network:
    """Three nodes, and what is on its way between them. Messages to oneself are on their way too."""

    def __init__(self) -> None:
        self.shells = [OneNode(Owned, node, PEERS, seed=node) for node in PEERS]
        self.flying: list[tuple[int, int, Any]] = []
        self.lives = [1] * len(PEERS)
        self.words = 0
        self.before: Counter[tuple[int, int, str]] = Counter()
        """What had been heard when the node began its life."""
        for node in PEERS:
            self.sync(node)

    def collect(self) -> None:
        for node, shell in enumerate(self.shells):
            self.flying += [(node, to, send.message) for send in shell.sent for to in send.to]
            shell.sent.clear()

    def step(self, node: int, *inputs: Any) -> None:
        turn = self.shells[node].step(*inputs)
        assert not turn.blames
        self.collect()

    def owner(self, node: int) -> Owned:
        root = self.shells[node].host.root
        assert isinstance(root, Owned)
        return root

    # --- what may happen ---

    def say(self, node: int, ahead: int) -> None:
        self.words += 1
        epoch = self.owner(node).epoch + ahead
        self.step(node, Submitted((b"say %d w%d" % (epoch, self.words),)))

    def advance(self, node: int, _: int) -> None:
        self.step(node, Submitted((b"advance %d" % (self.owner(node).epoch + 1),)))

    def beat(self, node: int, _: int = 0) -> None:
        self.step(node, Fired(BEAT))

    def sync(self, node: int, _: int = 0) -> None:
        self.shells[node].sync()
        self.collect()

    def crash(self, node: int, lucky: int) -> None:
        shell = self.shells[node]
        shell.crash(lucky)
        shell.outputs.clear()
        shell.boot()
        self.lives[node] += 1
        self.flying = [each for each in self.flying if each[:2] != (node, node)]

    def deliver(self, pick: int, _: int) -> None:
        if self.flying:
            sender, to, message = self.flying.pop(pick % len(self.flying))
            self.step(to, Received(sender, message))

    def lose(self, pick: int, _: int) -> None:
        lost = pick % len(self.flying) if self.flying else 0
        if self.flying and self.flying[lost][0] != self.flying[lost][1]:
            del self.flying[lost]

    def double(self, pick: int, _: int) -> None:
        if self.flying:
            again = self.flying[pick % len(self.flying)]
            if again[0] != again[1]:
                self.flying.append(again)

    def settle(self) -> None:
        """From now on all goes well: what is said arrives."""
        for _ in range(FAIR_BEATS):
            for node in PEERS:
                self.beat(node)
                self.sync(node)
            flying, self.flying = self.flying, []
            for sender, to, message in flying:
                self.step(to, Received(sender, message))
            for node in PEERS:
                self.sync(node)


ACTIONS = {
    "say": (Network.say, 6),
    "advance": (Network.advance, 2),
    "beat": (Network.beat, 4),
    "sync": (Network.sync, 4),
    "crash": (Network.crash, 1),
    "deliver": (Network.deliver, 10),
    "lose": (Network.lose, 4),
    "double": (Network.double, 2),
}
NAMES = [name for name, (_, weight) in ACTIONS.items() for _ in range(weight)]


def steps(names: Sequence[str], size: int) -> st.SearchStrategy[list[tuple[str, int, int]]]:
    return st.lists(st.tuples(st.sampled_from(names), st.integers(0, 99), st.integers(0, 2)), max_size=size)


def run(actions: list[tuple[str, int, int]]) -> Network:
    network = Network()
    for name, pick, more in actions:
        act = ACTIONS[name][0]
        act(network, pick if name in ("deliver", "lose", "double") else pick % len(PEERS), more)
    network.settle()
    return network


def needed(network: Network, node: int, sender: int) -> set[tuple[int, int, str]]:
    """What the sender said in the epochs that the node takes part in."""
    first = network.owner(node).epoch
    return {
        (said.epoch, sender, said.text)
        for said in network.owner(sender).said
        if first <= said.epoch <= first + LIMITS.ahead_max
    }


@settings(max_examples=100, deadline=None)
@given(steps([name for name in NAMES if name != "crash"], 120))
def test_without_crashes_each_word_of_a_live_epoch_arrives_exactly_once(actions: list[tuple[str, int, int]]) -> None:
    network = run(actions)
    for node in PEERS:
        heard = Counter(network.shells[node].outputs)
        for sender in PEERS:
            missing = needed(network, node, sender) - set(heard)
            assert not missing, f"node {node} never heard {sorted(missing)}"
        assert all(count == 1 for count in heard.values()), heard.most_common(1)


@settings(max_examples=100, deadline=None)
@given(steps(NAMES, 120))
def test_with_crashes_each_word_arrives_in_the_life_that_needs_it_once_a_life_of_its_sender(
    actions: list[tuple[str, int, int]],
) -> None:
    network = run(actions)
    for node in PEERS:
        heard = Counter(network.shells[node].outputs)
        for sender in PEERS:
            missing = needed(network, node, sender) - set(heard)
            assert not missing, f"node {node} never heard {sorted(missing)}"
        for (_, sender, _), count in heard.items():
            assert count <= network.lives[sender]


@settings(max_examples=100, deadline=None)
@given(steps(NAMES, 60))
def test_when_all_is_said_nothing_is_sent_again_and_what_all_have_left_is_forgotten(
    actions: list[tuple[str, int, int]],
) -> None:
    network = run(actions)
    resent = [network.owner(node).outbox.resent for node in PEERS]
    for _ in range(10):
        for node in PEERS:
            network.beat(node)
            network.sync(node)
        flying, network.flying = network.flying, []
        for sender, to, message in flying:
            network.step(to, Received(sender, message))
    assert [network.owner(node).outbox.resent for node in PEERS] == resent
    lowest = min(network.owner(node).epoch for node in PEERS)
    for node in PEERS:
        outbox = network.owner(node).outbox
        assert outbox.floor >= lowest
        assert outbox.messages == sum(said.epoch >= lowest for said in network.owner(node).said)
