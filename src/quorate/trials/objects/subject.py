"""A person's replicated class as the subject of a simulated run: ``quorate sim counter.py:Counter``.

How it works. Each life of each node loads the file anew, with a salt of its own (``rewriting``). After each entry of
the log every node is compared with a reference, one object that is fed the same log and is replicated nowhere: its
digests, its answer, now and then all that it holds, and its ``@invariant`` methods. The reference also watches what
commands look at outside. Real clocks and real chance are what they are, so a run whose class uses them need not repeat
exactly; all others do.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

from quorate.kernel import App, Rng
from quorate.machines.objects.context import SEED_BYTES
from quorate.machines.objects.machine import Replicated, encode_call, kinds_of
from quorate.machines.state_machine import StateMachine
from quorate.parts.crypto.keys import Scheme
from quorate.parts.log.configuration import Reconfigurable
from quorate.protocols.traits import CRASH, Traits
from quorate.service.audits import Audits
from quorate.service.sessions import GONE
from quorate.sim.checkers.base import Checker
from quorate.sim.checkers.history import LinearizableHistory
from quorate.sim.checkers.once import Once
from quorate.sim.ground import Ground
from quorate.sim.workload import Answer, Driver, Generator, Op, Wants, Workload
from quorate.trials.drivers import Dialect, ServiceDriver
from quorate.trials.objects.loading import ObjectFile
from quorate.trials.objects.made_up import ObjectGenerator
from quorate.trials.objects.outside import Glances
from quorate.trials.objects.reference import (
    Reference,
    ToldAlike,
    WatchedMachine,
    WatchedReplica,
    watched_replica,
)
from quorate.trials.subjects import SESSIONS_MAX, ServiceSubject

STAMPS_FROM_NS: Final = 1_700_000_000 * 10**9
"""What callers say that the time is: it counts where members cannot be believed."""
AUDIT_ENTRIES: Final = 64
"""Between points, at which nodes compare themselves through the log: short runs are to have some."""


class ObjectDialect(Dialect):
    """Against an object: an operation's key is the method, its value ``(args, kwargs)``."""

    def __init__(self, kind: type[Replicated]) -> None:
        self._kinds = kinds_of(kind)
        self._version = kind.version
        self._calls = 0

    def operation(self, op: Op) -> bytes:
        """As the base says; what false clients write has no arguments, and mostly no method."""
        args, kwargs = op.value if isinstance(op.value, tuple) else ((), {})
        self._calls += 1
        seed, stamp = self._calls.to_bytes(SEED_BYTES), STAMPS_FROM_NS + self._calls
        return encode_call(op.key, args, kwargs, self._kinds, version=self._version, seed=seed, stamp=stamp)

    def question(self, op: Op) -> bytes:
        """As the base says."""
        return self.operation(op)

    def answer(self, op: Op, data: bytes) -> Answer:
        """Its bytes: what they mean is compared, not looked into."""
        return Answer("ok", data)


class ObjectDriver(ServiceDriver):
    """A client that notes what it was told."""

    told: dict[Hashable, bytes]

    def take(self) -> Wants | None:
        """As the base says."""
        wants = super().take()
        if wants is not None and wants.answer is not None and wants.answer.type == "ok":
            identity = self.identity()
            if identity is not None:
                self.told[identity] = wants.answer.value
        return wants


class ObjectSubject(ServiceSubject):
    """One class, on every node."""

    def __init__(self, file: ObjectFile, seed: int, traits: Traits = CRASH, scheme: Scheme | None = None) -> None:
        super().__init__(traits, scheme)
        self._file = file
        self._seed = seed
        self._lives = 0
        self._world: Ground[Any] | None = None
        self._told: dict[Hashable, bytes] = {}
        self._kind = file.load(b"reference")
        self._dialect = ObjectDialect(self._kind)
        machine = WatchedMachine(self._kind)
        machine.outside = Glances(file.path)
        self._replica = watched_replica(machine, self._scheme is not None, SESSIONS_MAX, None)
        self._reference = Reference(self._replica, machine)

    def machine(self, node: int) -> StateMachine:
        """A fresh object of a module of its own."""
        self._lives += 1
        return WatchedMachine(self._file.load(f"{self._seed}/{node}/{self._lives}".encode()))

    def app(self, node: int, rng: Rng) -> App:
        """A Replica that is compared with the reference, and audits itself as a real one does."""
        machine = self.machine(node)
        assert isinstance(machine, WatchedMachine)
        audits = Audits(node, lambda: self._voters(node), entries=AUDIT_ENTRIES)
        replica = watched_replica(machine, self._scheme is not None, SESSIONS_MAX, audits)
        replica.node, replica.reference = node, self._reference
        return replica

    def _voters(self, node: int) -> Sequence[int]:
        assert self._world is not None
        core = self._world.nodes[node].host.root
        return core.in_force().voters.members if isinstance(core, Reconfigurable) else self._world.peers

    def workload(self, world: Ground[Any]) -> Workload:
        """As the base says."""
        self._world = world
        return super().workload(world)

    def generator(self, rng: Random, keys: int) -> Generator:
        """Calls of the class's methods."""
        return ObjectGenerator(rng, self._kind)

    def dialect(self) -> Dialect:
        """That of objects."""
        return self._dialect

    def driver(self, client: int, rng: Rng, nodes: tuple[int, ...], patience_s: float) -> Driver:
        """As the base says."""
        driver = ObjectDriver(self._dialect, rng, nodes, patience_s, lambda: self.signer(client), self.client)
        driver.told = self._told
        return driver

    def checkers(self, protocol: Sequence[Checker], scheme: Scheme | None) -> list[Checker]:
        """Of the base's, those that do not look for registers."""
        checkers = super().checkers(protocol, scheme)
        kept = [checker for checker in checkers if not isinstance(checker, LinearizableHistory | Once)]
        return [*kept, ToldAlike(self._told, self._answers)]

    def _answers(self) -> Mapping[Hashable, bytes]:
        """What the reference's sessions remember."""
        return dict(_remembered(self._replica))

    def digest(self, app: App) -> bytes | None:
        """Compared with the reference; equal to it, they are equal to each other. Raises Violation."""
        assert isinstance(app, WatchedReplica)
        assert isinstance(app.machine, WatchedMachine)
        self._reference.compare_all(app.node, app.applied_index, app.machine)
        return b"".join(app.machine.digests().values())


def _remembered(replica: WatchedReplica) -> Iterator[tuple[Hashable, bytes]]:
    """The answers by session and serial that are still in the table."""
    table = replica.sessions.decode(replica.sessions.encode())
    for number, session in table:
        for serial, data in session.results.items():
            if data is not GONE:
                yield (number, serial), data
