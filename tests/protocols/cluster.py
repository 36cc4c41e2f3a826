"""Cluster: several Hosts, their disks, snapshots and a network, in virtual time. The least that runs a whole group.

Two ways to drive it. *By hand*: ``fire`` a timer, ``deliver`` a link, ``step`` an input; nothing else moves. *By time*:
``run`` a number of seconds; messages take ``delay_s``, disks ``sync_s``, and timers run out by themselves. Everything
that a node decides is compared with what the others decided, so every run is a test of agreement.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from quorate.kernel import (
    ROOT,
    Asked,
    Core,
    Done,
    Env,
    Fired,
    Input,
    Job,
    Key,
    Path,
    Received,
    Record,
    Send,
    Submitted,
    Timer,
    Turn,
)
from quorate.parts.crypto.keys import Keyring, VerifyBatch
from quorate.parts.log.entries import COMMAND, Entry
from quorate.parts.log.replicated import (
    Decided,
    ReadChunk,
    ReadPiece,
    Restored,
    Screen,
    Screened,
    TakeCommonSnapshot,
    TakeSnapshot,
    WriteChunk,
)
from quorate.sim.snapshot_store import SimSnapshots

from tests.kernel.machine import OneNode, Outputs

STEPS_MAX = 100_000


class Flight(msgspec.Struct, frozen=True):
    """A message on its way; it arrives at ``at`` where time runs, else when it is delivered by hand."""

    at: float
    sender: int
    to: int
    message: Any


class Commands(Outputs):
    """The simplest App: it lists the commands that it is given."""

    def output(self, value: Any, path: Path = ROOT) -> None:
        super().output(value, path)
        member = self.node
        assert isinstance(member, Member)
        if isinstance(value, Decided):
            assert value.first_index == member.applied_index + 1, (value, member.applied_index)
            for entry in value.entries:
                member.applied_index += 1
                member.cluster.decide(member.node, member.applied_index, entry)
                if entry.kind == COMMAND:
                    member.applied.append(entry.data)


class Member(OneNode):
    """One node, with timers and a snapshot store."""

    def __init__(self, cluster: "Cluster", make: Callable[[Env], Core], node: int, peers: tuple[int, ...]) -> None:
        self.cluster = cluster
        self.up = True
        self.held = False
        """Whether what is written waits for ``sync``."""
        self.lazy = False
        """Whether jobs wait for ``work``."""
        self.store = SimSnapshots()
        self.syncs: list[tuple[float, int]] = []
        super().__init__(make, node, peers, seed=cluster.seed * 1000 + node)

    def boot(self, now: float = 0.0) -> None:
        self.timers: dict[Key, float] = {}
        self.jobs: list[tuple[Job, bytes]] = []
        """What is to be done, and the state as it was when it was asked for."""
        self.applied: list[bytes] = []
        self.applied_index = 0
        super().boot(now)

    def make_app(self) -> Commands:
        return Commands(self)

    @property
    def core(self) -> Any:
        """The root core, to look at."""
        return self.host.root

    def synced(self, frames: int) -> None:
        """The first ``frames`` frames of the journal are durable."""
        self.durable = max(self.durable, frames)
        self.shell.durable(self.durable)

    # --- Machine ---

    def send(self, sends: Sequence[Send]) -> None:
        super().send(sends)
        self.cluster.sent(self.node, sends)

    def append(self, records: Sequence[Record]) -> int:
        sequence = super().append(records)
        if not self.held:
            if self.cluster.sync_s:
                self.syncs.append((self.cluster.now + self.cluster.sync_s, sequence))
            else:
                self.sync()
        return sequence

    def set_timers(self, timers: Sequence[Timer]) -> None:
        for timer in timers:
            self.timers.pop(timer.key, None)
            if timer.at is not None:
                self.timers[timer.key] = timer.at

    def begin(self, job: Job) -> None:
        state = b""
        if isinstance(job.work, TakeSnapshot):  # of the state after this Turn's outputs, before the next one's
            assert job.work.index == self.applied_index, (job, self.applied_index)
            state = msgspec.msgpack.encode(self.applied)
        self.jobs.append((job, state))

    def load(self, value: Restored, path: Path) -> None:
        data = self.store.data(value.index)
        assert data is not None, f"no snapshot at {value.index}"
        self.outputs.append(value)
        self.applied = msgspec.msgpack.decode(data, type=list[bytes])
        self.applied_index = value.index
        self.shell.loaded(lambda: None, path)

    def do(self, job: Job, state: bytes) -> Done:
        """Do a job with the snapshot store, which is durable at once."""
        work = job.work
        result: Any
        if isinstance(work, TakeSnapshot):
            piece_bytes = work.piece_bytes if isinstance(work, TakeCommonSnapshot) else 0
            result = self.store.file(work.index, work.term, state, work.keep_index or 0, piece_bytes, work.held or ())
        elif isinstance(work, VerifyBatch):
            assert self.cluster.keyring is not None
            result = self.cluster.keyring.verify_batch(work)
        elif isinstance(work, Screen):  # there are no sessions
            result = Screened(())
        elif isinstance(work, ReadChunk):
            result = self.store.read(work)
        elif isinstance(work, ReadPiece):
            result = self.store.read_piece(work)
        else:
            assert isinstance(work, WriteChunk)
            result = self.store.write(work)
        return Done(job.key, result, job.path)


class Cluster:
    """Nodes 1 to ``size``. ``make`` builds each one's root core; ``journals`` are records that a node starts with.

    ``delay_s`` is the shortest and the longest time that a message takes, or says it of each message.
    """

    def __init__(
        self,
        make: Callable[[Env], Core],
        size: int,
        *,
        seed: int = 0,
        delay_s: tuple[float, float] | Callable[[Any], tuple[float, float]] = (0.0, 0.0),
        sync_s: float = 0.0,
        journals: dict[int, list[Any]] | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        self.keyring = keyring
        self.peers = tuple(range(1, size + 1))
        self.seed = seed
        self.rng = random.Random(seed)
        self.now = 0.0
        self.delay_s = delay_s if callable(delay_s) else lambda message: delay_s
        self.sync_s = sync_s
        self.network: list[Flight] = []
        self.cut_links: set[tuple[int, int]] = set()
        self.loses: Callable[[Flight], bool] = lambda flight: False
        self.decided: dict[int, Entry] = {}
        self._make = make
        self.watch: Callable[[int, Turn], None] = lambda node, turn: None
        """Sees every Turn."""
        self.members: dict[int, Member] = {}
        for node in self.peers:
            member = self.members[node] = Member(self, make, node, self.peers)
            if journals and journals.get(node):
                member.journal = [[Record((), value)] for value in journals[node]]
                self.network = [flight for flight in self.network if flight.sender != node]
                member.boot(self.now)

    def join(self, node: int) -> Member:
        """A new node starts, told of those that run; they do not know it yet."""
        told = tuple(other for other, member in self.members.items() if member.up)
        member = self.members[node] = Member(self, self._make, node, (*told, node))
        return member

    def __getitem__(self, node: int) -> Member:
        return self.members[node]

    # --- what happened ---

    def sent(self, sender: int, sends: Iterable[Send]) -> None:
        """Messages left a node: put on their way, or lost. To itself a node loses nothing and waits for nothing."""
        for send in sends:
            assert send.path == ()
            for to in send.to:
                delay = 0.0 if to == sender else self.rng.uniform(*self.delay_s(send.message))
                flight = Flight(self.now + delay, sender, to, send.message)
                if to == sender or ((sender, to) not in self.cut_links and not self.loses(flight)):
                    self.network.append(flight)

    def decide(self, node: int, index: int, entry: Entry) -> None:
        """A node says that the entry at an index is decided for ever: all must say the same."""
        known = self.decided.setdefault(index, entry)
        assert known == entry, f"node {node} decides {entry} at {index}, where {known} is decided"

    # --- by hand ---

    def step(self, node: int, *inputs: Input) -> None:
        """Inputs to one node, and the jobs that they cause."""
        member = self.members[node]
        self.watch(node, member.step(*inputs, now=self.now))
        if not member.lazy:
            self.work(node)

    def work(self, node: int) -> None:
        """Do a node's jobs, and those that they cause in turn."""
        member = self.members[node]
        while member.jobs:
            self.watch(node, member.step(member.do(*member.jobs.pop(0)), now=self.now))

    def submit(self, node: int, *values: bytes) -> None:
        """Submit values at a node."""
        self.step(node, Submitted(values))

    def read(self, node: int, *tokens: int) -> None:
        """Ask for reads at a node."""
        self.step(node, Asked(tokens))

    def fire(self, node: int, key: Key) -> None:
        """Let time pass until this timer of the node does something; no other timer runs out meanwhile."""
        member = self.members[node]
        for _ in range(STEPS_MAX):
            self.now = max(self.now, member.timers.pop(key))
            before = (len(member.sent), len(member.journal), len(member.outputs))
            self.step(node, Fired(key))
            if before != (len(member.sent), len(member.journal), len(member.outputs)):
                return  # else an Alarm that was put off has only set itself again
            if key not in member.timers:
                return
        raise AssertionError(f"timer {key} of node {node} never does anything")

    def arrive(self, flight: Flight) -> None:
        """One message arrives; whom a node does not know, it does not hear."""
        member = self.members.get(flight.to)
        if member is not None and member.up and flight.sender in member.host.roster.members:
            self.step(flight.to, Received(flight.sender, flight.message))

    def take(self, sender: int | None = None, to: int | None = None) -> list[Flight]:
        """Messages on their way on a link (None: any), taken out, in the order in which they were sent."""
        taken = [f for f in self.network if sender in (None, f.sender) and to in (None, f.to)]
        self.network = [f for f in self.network if not (sender in (None, f.sender) and to in (None, f.to))]
        return taken

    def deliver(self, sender: int | None = None, to: int | None = None) -> None:
        """Deliver what is on its way on a link now."""
        for flight in self.take(sender, to):
            self.arrive(flight)

    def calm(self) -> None:
        """Deliver until nothing is on its way."""
        for _ in range(STEPS_MAX):
            if not self.network:
                return
            self.arrive(self.network.pop(0))
        raise AssertionError("the cluster does not come to rest")

    def cut(self, *groups: tuple[int, ...]) -> None:
        """Cut all links between different groups; what is on its way there is lost."""
        for one in groups:
            for other in groups:
                if one is not other:
                    self.cut_links |= {(a, b) for a in one for b in other}
        self.network = [f for f in self.network if (f.sender, f.to) not in self.cut_links]

    def heal(self) -> None:
        """All links work."""
        self.cut_links.clear()

    def crash(self, node: int, lucky: int = 0) -> None:
        """The process ends; what was not durable is lost, but for the first ``lucky`` frames of it."""
        member = self.members[node]
        member.up = False
        member.timers.clear()
        member.syncs.clear()
        member.crash(lucky)
        self.network = [f for f in self.network if not f.sender == f.to == node]

    def restart(self, node: int) -> None:
        """A new life, from the journal."""
        member = self.members[node]
        member.up, member.held = True, False
        member._seed += 1_000_003
        member.boot(self.now)

    # --- by time ---

    def run(self, duration_s: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; True as soon as ``until`` holds, False where it never did."""
        end = self.now + duration_s
        for _ in range(STEPS_MAX):
            if until():
                return True
            event = self._next(end)
            if event is None:
                self.now = end
                return until()
            event()
        raise AssertionError(f"more than {STEPS_MAX} events in {duration_s} s")

    def _next(self, end: float) -> Callable[[], None] | None:
        """The earliest event; a message before a disk before a timer of the same time."""
        at, event = end, None
        for member in self.members.values():
            for key, due in member.timers.items():
                if due <= at:
                    at, event = due, self._timer(member, key, due)
            if member.syncs and member.syncs[0][0] <= at:
                at, event = member.syncs[0][0], self._sync(member, *member.syncs[0])
        if self.network:
            flight = min(self.network, key=lambda f: f.at)
            if flight.at <= at:
                event = self._flight(flight)
        return event

    def _timer(self, member: Member, key: Key, due: float) -> Callable[[], None]:
        def event() -> None:
            self.now = due
            del member.timers[key]
            self.step(member.node, Fired(key))

        return event

    def _sync(self, member: Member, due: float, frames: int) -> Callable[[], None]:
        def event() -> None:
            self.now = due
            del member.syncs[0]
            member.synced(frames)
            self.work(member.node)

        return event

    def _flight(self, flight: Flight) -> Callable[[], None]:
        def event() -> None:
            self.now = max(self.now, flight.at)
            self.network.remove(flight)
            self.arrive(flight)

        return event
