"""What the shape of the kernel costs: dispatch, composition, and a three-node Raft in memory.

Run `python -m bench.kernel [--rounds 15] [--seconds 1]` from the root of the checkout. Numbers of `docs/adr/0001`.

How it works. Variants of one rule set do the same work: take a message, remember an index, answer. What a decoder would
make anew for each message (the message, its wrappers, its path) is made anew. All times are CPU
times of this process, and the rounds of all variants are interleaved, so that a busy machine hits each alike. Ratios
carry over to other machines; times do not. There is no disk, no socket and no codec here.
"""

import argparse
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from quorate.kernel import Core, Env, Fired, Host, Input, Key, Path, Received, Submitted, Turn
from quorate.kernel.standing import LEADER
from quorate.parts.log.replicated import Decided
from quorate.protocols.raft import Raft, RaftConfig
from quorate.sim.chance import streams

BATCH = 100
"""Inputs of one step, as a node drains its sockets."""
DEPTH: Path = (("epoch", 7), ("slot", 3), ("vote", 1))

# --- one rule set, in four styles: messages are Structs or frozen dataclasses, dispatch is a table or a match ---


class StructMessage(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """As a protocol's message."""

    term: int
    index: int


@dataclass(frozen=True)
class DataMessage:
    """The same as a frozen dataclass."""

    term: int
    index: int


class StructSend(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An effect."""

    to: int
    message: Any


@dataclass(frozen=True)
class DataSend:
    """The same as a frozen dataclass."""

    to: int
    message: Any


class S1(StructMessage, frozen=True): ...


class S2(StructMessage, frozen=True): ...


class S3(StructMessage, frozen=True): ...


class S4(StructMessage, frozen=True): ...


class S5(StructMessage, frozen=True): ...


class S6(StructMessage, frozen=True): ...


class S7(StructMessage, frozen=True): ...


class S8(StructMessage, frozen=True): ...


class D1(DataMessage): ...


class D2(DataMessage): ...


class D3(DataMessage): ...


class D4(DataMessage): ...


class D5(DataMessage): ...


class D6(DataMessage): ...


class D7(DataMessage): ...


class D8(DataMessage): ...


STRUCTS = (S1, S2, S3, S4, S5, S6, S7, S8)
DATACLASSES = (D1, D2, D3, D4, D5, D6, D7, D8)


class Rules:
    """Takes a message and answers it; ``answer`` and ``send`` are the types to do that with."""

    def __init__(self, answer: Callable[[int, int], Any], send: Callable[[int, Any], Any]) -> None:
        self.answer = answer
        self.send = send
        self.match: dict[int, int] = {}
        self.effects: list[Any] = []

    def on_message(self, sender: int, message: Any) -> None:
        """The rule itself."""
        if message.index > self.match.get(sender, 0):
            self.match[sender] = message.index
        self.effects.append(self.send(sender, self.answer(message.term, message.index)))


STRUCT_TABLE = dict.fromkeys(STRUCTS, Rules.on_message)
DATACLASS_TABLE = dict.fromkeys(DATACLASSES, Rules.on_message)


def match_structs(rules: Rules, sender: int, message: Any) -> None:
    """Dispatch of Structs by match."""
    match message:
        case S1():
            rules.on_message(sender, message)
        case S2():
            rules.on_message(sender, message)
        case S3():
            rules.on_message(sender, message)
        case S4():
            rules.on_message(sender, message)
        case S5():
            rules.on_message(sender, message)
        case S6():
            rules.on_message(sender, message)
        case S7():
            rules.on_message(sender, message)
        case S8():
            rules.on_message(sender, message)


def match_dataclasses(rules: Rules, sender: int, message: Any) -> None:
    """Dispatch of dataclasses by match."""
    match message:
        case D1():
            rules.on_message(sender, message)
        case D2():
            rules.on_message(sender, message)
        case D3():
            rules.on_message(sender, message)
        case D4():
            rules.on_message(sender, message)
        case D5():
            rules.on_message(sender, message)
        case D6():
            rules.on_message(sender, message)
        case D7():
            rules.on_message(sender, message)
        case D8():
            rules.on_message(sender, message)


def by_table(kinds: Sequence[Any], table: dict[Any, Any], send: Any) -> Callable[[int], list[Any]]:
    """Make, dispatch and answer ``count`` messages."""

    def run(count: int) -> list[Any]:
        rules = Rules(kinds[0], send)
        for i in range(count):
            message = kinds[i & 7](1, i)
            table[type(message)](rules, 2, message)
        return rules.effects

    return run


def by_match(
    kinds: Sequence[Any], dispatch: Callable[[Rules, int, Any], None], send: Any
) -> Callable[[int], list[Any]]:
    """The same by match."""

    def run(count: int) -> list[Any]:
        rules = Rules(kinds[0], send)
        for i in range(count):
            dispatch(rules, 2, kinds[i & 7](1, i))
        return rules.effects

    return run


STYLES: dict[str, Callable[[int], list[Any]]] = {
    "Struct, table": by_table(STRUCTS, STRUCT_TABLE, StructSend),
    "Struct, match": by_match(STRUCTS, match_structs, StructSend),
    "frozen dataclass, table": by_table(DATACLASSES, DATACLASS_TABLE, DataSend),
    "frozen dataclass, match": by_match(DATACLASSES, match_dataclasses, DataSend),
}

# --- three levels deep: a scoped Env, or effects returned and wrapped again at each level ---


class Leaf(Core):
    """The rule as a core: answers through its Env, wherever in the tree it stands."""

    messages = (S1,)

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.match: dict[int, int] = {}

    def on_s1(self, sender: int, message: S1) -> None:
        """The rule itself."""
        if message.index > self.match.get(sender, 0):
            self.match[sender] = message.index
        self.env.send(sender, S1(message.term, message.index))


class Scoped(Core):
    """A parent that spawns the rest of DEPTH and is passed by."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        name, *rest = DEPTH[len(env.path) :]
        env.spawn(name, Scoped if rest else Leaf, upcall=self.on_upcall)

    def on_upcall(self, value: Any) -> None:
        """Nothing is delivered here."""


class Wrapped(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A child's message in its parent's."""

    number: int
    inner: Any


class Step(msgspec.Struct, array_like=True):
    """What a handler returns where effects are returned."""

    sends: list[tuple[int, Any]]
    records: list[Any]
    outputs: list[Any]


class ReturningLeaf:
    """The rule, returning its effects."""

    def __init__(self) -> None:
        self.match: dict[int, int] = {}

    def handle(self, sender: int, message: S1) -> Step:
        """The rule itself."""
        if message.index > self.match.get(sender, 0):
            self.match[sender] = message.index
        return Step([(sender, S1(message.term, message.index))], [], [])


class ReturningLayer:
    """A parent: hands down what is inside, wraps what comes back."""

    def __init__(self, depth: int) -> None:
        self.number = DEPTH[depth][1]
        child: Any = ReturningLayer(depth + 1) if depth + 1 < len(DEPTH) else ReturningLeaf()
        self.children = {self.number: child}

    def handle(self, sender: int, message: Wrapped) -> Step:
        """One level of unwrapping and wrapping."""
        step: Step = self.children[message.number].handle(sender, message.inner)
        number = message.number
        return Step(
            [(to, Wrapped(number, inner)) for to, inner in step.sends],
            [Wrapped(number, record) for record in step.records],
            list(step.outputs),
        )


class Rewrapping(Core):
    """The root of the same depth, in one core."""

    messages = (Wrapped,)

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.top = ReturningLayer(0)

    def on_wrapped(self, sender: int, message: Wrapped) -> None:
        """Give the effects to the Host in the end."""
        step = self.top.handle(sender, message)
        for to, inner in step.sends:
            self.env.send(to, inner)
        for record in step.records:
            self.env.persist(record)
        for output in step.outputs:
            self.env.deliver(output)


def at_root(index: int) -> Received:
    """A message for the root, as a peer sends it."""
    return Received(2, S1(1, index))


def by_path(index: int, epoch: int = 7, slot: int = 3, vote: int = 1) -> Received:
    """The same for the core at DEPTH; the path is made anew, as a decoder does."""
    return Received(2, S1(1, index), (("epoch", epoch), ("slot", slot), ("vote", vote)))


def by_wrapping(index: int, epoch: int = 7, slot: int = 3, vote: int = 1) -> Received:
    """The same, wrapped once a level."""
    return Received(2, Wrapped(epoch, Wrapped(slot, Wrapped(vote, S1(1, index)))))


def host_of(make: Callable[[Env], Core]) -> Host:
    """A Host of node 1 of three, started."""
    host = Host(make, 1, (0, 1, 2), streams(1))
    host.start(0.0)
    return host


def steps(make: Callable[[Env], Core], arrive: Callable[[int], Received], batch: int) -> Callable[[int], list[Any]]:
    """Receive ``count`` messages in steps of ``batch``."""
    host = host_of(make)

    def run(count: int) -> list[Any]:
        sends: list[Any] = []
        for first in range(0, count, batch):
            turn = host.step([arrive(i) for i in range(first, first + batch)], 1.0)
            sends.extend(turn.sends)
        return sends

    return run


def tree_variants(batch: int) -> dict[str, Callable[[int], list[Any]]]:
    """The same rule at the root, three levels down by path, three levels down by wrapping."""
    return {
        f"root, {batch} a step": steps(Leaf, at_root, batch),
        f"scoped Env 3 deep, {batch} a step": steps(Scoped, by_path, batch),
        f"re-wrapped 3 deep, {batch} a step": steps(Rewrapping, by_wrapping, batch),
    }


# --- measuring ---


def measure(variants: dict[str, Callable[[int], list[Any]]], rounds: int, count: int) -> dict[str, tuple[float, float]]:
    """CPU microseconds a message by variant: the best round, and the median. Rounds are interleaved and shuffled."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    chance = random.Random(0)
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            began = time.process_time()
            effects = variants[name](count)
            times[name].append((time.process_time() - began) / count * 1e6)
            assert len(effects) == count, f"{name} answered {len(effects)} of {count} messages"
    return {name: (min(found), statistics.median(found)) for name, found in times.items()}


def report(title: str, found: dict[str, tuple[float, float]]) -> None:
    """A table; ratios are to the first line."""
    print(f"\n{title}\n  {'':34} {'best us':>8} {'ratio':>6} {'median':>8} {'ratio':>6}")
    base_best, base_median = next(iter(found.values()))
    for name, (best, median) in found.items():
        print(f"  {name:34} {best:8.3f} {best / base_best:6.2f} {median:8.3f} {median / base_median:6.2f}")


# --- three nodes of Raft ---


class Group:
    """Three Hosts that hand each other their messages. What is written is durable at once; time passes when asked."""

    def __init__(self) -> None:
        self.nodes = (0, 1, 2)
        self.hosts = [Host(lambda env: Raft(env, RaftConfig()), n, self.nodes, streams(n)) for n in self.nodes]
        self.inboxes: list[list[Input]] = [[] for _ in self.nodes]
        self.timers: dict[tuple[int, Key], float] = {}
        self.now = 0.0
        self.messages = self.steps = 0
        self.committed = [0, 0, 0]
        for node in self.nodes:
            self._act(node, self.hosts[node].start(self.now))

    def elect(self) -> int:
        """Let time pass until somebody leads; who."""
        for _ in range(1000):
            self.now += 0.01
            for (node, key), at in sorted(self.timers.items(), key=str):
                if at <= self.now:
                    del self.timers[node, key]
                    self.inboxes[node].append(Fired(key))
            self.settle()
            for node in self.nodes:
                core = self.hosts[node].root
                if isinstance(core, Raft) and core.role == LEADER:
                    return node
        raise AssertionError("nobody leads after ten virtual seconds")

    def settle(self) -> None:
        """Step every node that has inputs, all of them in one step, until nobody has any."""
        while any(self.inboxes):
            for node in self.nodes:
                if inputs := self.inboxes[node]:
                    self.inboxes[node] = []
                    self.steps += 1
                    self._act(node, self.hosts[node].step(inputs, self.now))

    def _act(self, node: int, turn: Turn) -> None:
        for send in (*turn.early, *turn.sends):
            item = Received(node, send.message, send.path)
            for to in send.to:
                self.messages += to != node
                self.inboxes[to].append(item)
        for timer in turn.timers:
            if timer.at is None:
                self.timers.pop((node, timer.key), None)
            else:
                self.timers[node, timer.key] = timer.at
        for output in turn.outputs:
            if isinstance(output, Decided):
                self.committed[node] += len(output.entries)


def raft(batch: int, seconds: float) -> tuple[float, float, float]:
    """Messages, steps and committed values a CPU second; each batch is committed everywhere before the next one."""
    group = Group()
    leader = group.elect()
    values = tuple(bytes([i & 255]) * 64 for i in range(batch))
    messages, first_steps, committed = group.messages, group.steps, group.committed[leader]
    began = time.process_time()
    while (took := time.process_time() - began) < seconds:
        for _ in range(100):
            group.inboxes[leader].append(Submitted(values))
            group.settle()
    done = group.committed[leader] - committed
    assert done > 0
    assert done % batch == 0, (done, batch)
    return (group.messages - messages) / took, (group.steps - first_steps) / took, done / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0)
    chosen = parser.parse_args()
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"Python {platform.python_version()}, msgspec {msgspec.__version__}, {os.cpu_count()} CPUs, load {load}")
    report("make, dispatch and answer one message, no Host", measure(STYLES, chosen.rounds, 20_000))
    for batch in (BATCH, 1):
        report("Host.step, a message", measure(tree_variants(batch), chosen.rounds, 10_000))
    print("\nthree nodes of Raft in memory in one process, values of 64 bytes, a CPU second")
    for batch in (1, BATCH):
        messages, taken, values = raft(batch, chosen.seconds)
        print(f"  {batch:4} values a submit {messages:9,.0f} messages {taken:9,.0f} steps {values:9,.0f} values")


if __name__ == "__main__":
    main()
