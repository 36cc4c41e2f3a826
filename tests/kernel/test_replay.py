"""Recovery by inputs: a host that was restored is as if it had not crashed, whatever happened to it before."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from quorate.kernel import (
    Asked,
    Done,
    Fired,
    Host,
    Met,
    Misbehaved,
    Name,
    Parted,
    Path,
    Received,
    Record,
    Stalled,
    Submitted,
    Turn,
    Unmet,
)
from quorate.sim.chance import streams

from tests.kernel.trees import (
    Act,
    Counted,
    Deliver,
    Draw,
    Hand,
    Later,
    Look,
    Meet,
    Noise,
    Office,
    Part,
    Retire,
    Say,
    Spawn,
    Teller,
)

# --- what hypothesis may have cores do ---

DEPTH = 3
"""How deep programs are nested in programs."""
DESKS: list[Path] = [(("desk", 0),), (("desk", 1),), (("shelf", 0), ("desk", 0))]
CLERKS: list[Path] = [(*desk, ("clerk", n)) for desk in DESKS for n in (0, 1)]
PATHS: list[Path] = [(), *DESKS, *DESKS, (("shelf", 0),), *CLERKS, *[(*clerk, ("clerk", 0)) for clerk in CLERKS]]
SIMPLE = (Draw, Look, Act, Retire, Meet, Part)
NESTED = (Spawn, Spawn, Hand, Hand, Deliver, Deliver, Later)


def program(rng: Random, depth: int = DEPTH) -> Say:
    """A program with so many programs inside each other."""
    return Say(rng.randrange(100), tuple(verb(rng, depth) for _ in range(rng.randrange(4))))


def verb(rng: Random, depth: int) -> Any:
    kind: Any = rng.choice(NESTED if depth and rng.random() < 0.6 else SIMPLE)
    if kind in (Spawn, Hand):
        return kind(child(rng), program(rng, depth - 1))
    if kind in (Deliver, Later):
        return kind(program(rng, depth - 1))
    if kind is Retire:
        return kind(child(rng))
    if kind in (Meet, Part):
        return kind(rng.randrange(3, 6))
    return kind()


def child(rng: Random) -> Name:
    return rng.choice(("desk", "clerk", "clerk", "shelf")), rng.randrange(2)


def an_input(rng: Random) -> Any:
    path = rng.choice(PATHS)
    draw = rng.randrange(14)
    if draw > 5:
        return Received(rng.randrange(1, 5), program(rng), path)
    return (
        Received(rng.randrange(1, 5), Noise(), path),
        Fired("t", path),
        Done("w", Counted(rng.randrange(100)), path),
        Submitted((b"v",), path),
        Asked((7,), path),
        Stalled(rng.choice((None, "disk full"))),
    )[draw]


def an_open_input(rng: Random) -> Any:
    """What an open roster reports, or anything else."""
    node = rng.randrange(1, 4)
    draw = rng.randrange(12)
    if draw > 4:
        return an_input(rng)
    return (
        Met(node, b"key", f"host:{node}", outbound=rng.random() < 0.5),
        Met(node, b"key", f"host:{node}", outbound=rng.random() < 0.5),
        Parted(node, "hung up"),
        Unmet("host:9", "nobody there"),
        Misbehaved(node, "sent nonsense"),
    )[draw]


def state_of(host: Host) -> dict[Path, Any]:
    """All that a Host holds of what is recovered by inputs; nothing of it changes with the Host."""
    found, fork = {}, host.fork()
    for path, core in fork.cores.items():
        if core.env.is_journaled:
            assert isinstance(core, Teller)
            pending = [(say.number, len(say.verbs)) for say in core.pending]
            waiting = [each for each in fork._parking._waiting.items() if each[0][: len(path)] == path]
            chance = core.env.rng.getrandbits(64)
            found[path] = [core.log, pending, core.ever, core.env.peers, core.env.others, chance, sorted(waiting)]
    return found


def in_any_order(turn: Turn) -> list[list[str]]:
    """The effects of a Turn."""
    return [sorted(map(repr, effects)) for effects in msgspec.structs.astuple(turn)[:-1]]


randoms = st.randoms(use_true_random=True)


class Crashing(RuleBasedStateMachine):
    """One host lives on; what would be restored from its journal must be the same at every crash."""

    whole = False
    is_open = False
    draw = staticmethod(an_input)

    def __init__(self) -> None:
        super().__init__()
        self.life = 0
        self.now = 0.0
        self.host = self._make()
        self.everything: list[Record] = []
        """The journal as if no checkpoint ever replaced it."""
        self.journal: list[Record] = []
        self._note(self.host.start(0.0, 0).records)

    def _make(self) -> Host:
        life = 0 if self.whole else self.life  # a real node draws from the seed that is recorded
        node, peers = (0, ()) if self.is_open else (1, (1, 2, 3))
        return Host(Office, node, peers, streams(life), by_inputs=self.whole, is_open=self.is_open)

    def _note(self, records: Any) -> None:
        self.everything += records
        self.journal += records

    def _restored(self, records: list[Record]) -> Host:
        host = self._make()
        for record in records:
            host.restore(record, self.now)
        return host

    @initialize(rng=randoms)
    def open(self, rng: Random) -> None:
        """Most of what is to come is for cores that are there."""
        opened = [
            Received(2, Say(0, (Spawn(name, program(rng)),))) for name in (("desk", 0), ("desk", 1), ("shelf", 0))
        ]
        meets = [Met(2, b"key", "host:2", outbound=True)] if self.is_open else []
        self.step([*meets, *opened, Received(2, Say(0, (Spawn(("desk", 0), program(rng)),)), (("shelf", 0),))])

    @rule(rng=randoms)
    def hear(self, rng: Random) -> None:
        for _ in range(rng.randrange(1, 6)):
            self.step([self.draw(rng) for _ in range(rng.randrange(1, 5))])

    def step(self, items: list[Any]) -> None:
        self.now += 1.0
        self._note(self.host.step(items, self.now, int(self.now) * 10**9).records)

    @rule()
    def checkpoint(self) -> None:
        if not self.whole:  # whose journal is its state
            self.journal = list(self.host.checkpoint())

    @rule(from_checkpoint=st.booleans())
    def crash(self, from_checkpoint: bool) -> None:
        self.life += 1
        before = state_of(self.host)
        short, long = self._restored(self.journal), self._restored(self.everything)
        assert state_of(short) == before
        assert state_of(long) == before
        if not self.is_open:  # links are those of one life
            assert short.roster.peers == long.roster.peers == self.host.roster.peers
        self.now += 100.0
        starts = [host.start(self.now, 5) for host in (short, long)]
        assert in_any_order(starts[0]) == in_any_order(starts[1]), "a checkpoint may bring cores in another order"
        assert state_of(short) == state_of(long)
        self.host = short if from_checkpoint else long
        self._note(starts[0].records)


class CrashingOpen(Crashing):
    """The same among strangers."""

    is_open = True
    draw = staticmethod(an_open_input)


class CrashingWhole(Crashing):
    """The whole host is recovered by inputs."""

    whole = True


class CrashingWholeOpen(CrashingOpen):
    """That among strangers."""

    whole = True


def machine(crashing: type[Crashing], examples: int = 20) -> Any:
    """A test of it."""
    case: Any = type(crashing.__name__, (crashing,), {}).TestCase  # hypothesis has one for each class
    case.settings = settings(max_examples=examples, stateful_step_count=20, deadline=None, report_multiple_bugs=False)
    return case


TestSubtrees = machine(Crashing)
TestSubtreesOfAnOpenRoster = machine(CrashingOpen)
TestWholeHosts = machine(CrashingWhole)
TestWholeHostsOfAnOpenRoster = machine(CrashingWholeOpen)

TestSubtreesAtLength = pytest.mark.slow(machine(Crashing, 50))
TestSubtreesOfAnOpenRosterAtLength = pytest.mark.slow(machine(CrashingOpen, 50))
TestWholeHostsAtLength = pytest.mark.slow(machine(CrashingWhole, 50))
TestWholeHostsOfAnOpenRosterAtLength = pytest.mark.slow(machine(CrashingWholeOpen, 50))
