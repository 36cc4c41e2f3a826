"""The batteries on simulated clusters of five nodes, under all faults: the dict linearizable, all of them the same
on every node, and no state without what it promises.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from quorate.kernel import App
from quorate.machines.objects.calls import Returned, decode_outcome, encode_call
from quorate.machines.objects.machine import ObjectMachine, Replicated, command, marked
from quorate.machines.state_machine import StateMachine
from quorate.objects import (
    Barrier,
    Counter,
    Election,
    Lock,
    PriorityQueue,
    Queue,
    RateLimiter,
    ReplicatedDict,
    ReplicatedList,
    ReplicatedSet,
)
from quorate.parts.crypto.keys import Scheme
from quorate.protocols import REGISTRY
from quorate.protocols.raft.invariants import RaftInvariants
from quorate.service.replica import Replica
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.checkers.history import LinearizableHistory
from quorate.sim.options import Options, parse_faults
from quorate.sim.run import RunOutcome, simulate
from quorate.sim.trial import Trial
from quorate.sim.workload import Answer, Op
from quorate.trials.drivers import Dialect
from quorate.trials.protocols import equipment_of
from quorate.trials.subjects import ServiceSubject

RAFT = REGISTRY["raft"]
SEEDS = (7, 9, 10)
"""With crashes, partitions, pauses and clocks that jump, and yet much that is committed; 9 and 10 have snapshots."""
Call = tuple[str, list[Any]]


class DictDialect(Dialect):
    """Registers in a ReplicatedDict. A cas that expects nothing is a setdefault."""

    def operation(self, op: Op) -> bytes:
        if op.f == "write":
            return encode_call("put", [op.key, op.value])
        expected, value = op.value
        if expected is None:
            return encode_call("setdefault", [op.key, value])
        return encode_call("compare_and_set", [op.key, expected, value])

    def question(self, op: Op) -> bytes:
        return encode_call("get", [op.key])

    def answer(self, op: Op, data: bytes) -> Answer:
        outcome = decode_outcome(data)
        assert isinstance(outcome, Returned), outcome
        if op.f == "cas" and op.value[0] is None:
            return Answer("ok", outcome.value == op.value[1])
        return Answer("ok", True if op.f == "write" else outcome.value)


class CallDialect(Dialect):
    """Calls that follow from the number of the operation. What is raised is an answer too."""

    def __init__(self, kind: type[Replicated], calls: Callable[[int], Call]) -> None:
        self._calls = calls
        self._read = next(name for name in sorted(marked(kind, "read"), reverse=True) if name in READS)

    def operation(self, op: Op) -> bytes:
        name, args = self._calls(op.value if op.f == "write" else op.value[1])
        return encode_call(name, args)

    def question(self, op: Op) -> bytes:
        return encode_call(self._read)

    def answer(self, op: Op, data: bytes) -> Answer:
        return Answer("ok", True)


READS = ("__len__", "get", "holder", "leader", "waiting")


class Battery(ServiceSubject):
    """One class on every node."""

    def __init__(
        self, kind: type[Replicated], dialect: Dialect, holds: Callable[[Any], bool], *, is_register: bool = False
    ) -> None:
        super().__init__()
        self._kind = kind
        self._dialect = dialect
        self._holds = holds
        self._is_register = is_register
        self.final: Any = None

    def machine(self, node: int) -> StateMachine:
        return ObjectMachine(self._kind)

    def dialect(self) -> Dialect:
        return self._dialect

    def checkers(self, protocol: Sequence[Checker], scheme: Scheme | None) -> list[Checker]:
        checkers = super().checkers(protocol, scheme)
        return [one for one in checkers if self._is_register or not isinstance(one, LinearizableHistory)]

    def digest(self, app: App) -> bytes | None:
        assert isinstance(app, Replica)
        assert isinstance(app.machine, ObjectMachine)
        self.final = app.machine.instance
        if not self._holds(self.final):
            raise Violation("invariant", f"{self._kind.__name__}: {vars(self.final)}")
        return msgspec.msgpack.encode(app.machine.digests(), order="sorted")


def simulated(subject: Battery, seed: int) -> RunOutcome:
    options = Options(seed=seed, faults=parse_faults("all"), duration_s=10.0)
    return simulate(Trial(RAFT.make(equipment_of("raft").simulation), subject, options, (RaftInvariants,)))


def is_heap(heap: list[Any], places: dict[Any, int]) -> bool:
    is_ordered = all(heap[(at - 1) // 2] <= heap[at] for at in range(1, len(heap)))
    return is_ordered and dict(places) == {entry[-1]: at for at, entry in enumerate(heap)}


def no_job_is_lost(queue: Any) -> bool:
    line = list(queue.line.values()) if isinstance(queue, Queue) else [entry[-1] for entry in queue.line]
    if not is_heap(queue.leases, queue.lease_places) or len(queue.taken) != len(queue.leases):
        return False
    return sorted([*line, *queue.taken.values()]) == sorted(queue.jobs)


def limits(limiter: Any) -> bool:
    newest = {key: max(slices) for key, slices in limiter.passed.items()}
    in_heap = {key: number for number, key in limiter.newest}
    return is_heap(limiter.newest, limiter.places) and newest == in_heap


def job_call(kind: type[Any], n: int) -> Call:
    """Put about as many as are taken; most tokens are those of a job that is taken."""
    if n % 5 < 2:
        return "put", [n] if kind is Queue else [n, n * 7 % 3]
    if n % 5 < 4:
        return "take", [0.5 * (n % 7) + 0.1]
    return ("nack" if n % 3 == 0 else "ack"), [n // 3 - n % 4]


def lease_call(grant: str, end: str) -> Callable[[int], Call]:
    def calls(n: int) -> Call:
        if n % 3 == 0:
            return grant, ["abc"[n % 7 % 3], 0.2 * (n % 5) + 0.01]
        return (end, [n // 8]) if n % 3 == 1 else ("renew", [n // 8, 0.2])

    return calls


BATTERIES: dict[type[Replicated], tuple[Callable[[int], Call], Callable[[Any], bool]]] = {
    Counter: (lambda n: ("add", [n]), lambda c: c.value > 0),
    ReplicatedList: (
        lambda n: ("pop", []) if n % 4 == 0 else ("insert", [n % 6 - 3, n]),
        lambda found: len(found.entries) == len(set(found.entries)) > 0,
    ),
    ReplicatedSet: (
        lambda n: ("discard", [n % 10]) if n % 3 == 0 else ("add", [n % 30]),
        lambda found: 0 < len(found.entries) <= 30,
    ),
    Queue: (lambda n: job_call(Queue, n), no_job_is_lost),
    PriorityQueue: (lambda n: job_call(PriorityQueue, n), no_job_is_lost),
    Lock: (lease_call("acquire", "release"), lambda lock: lock.token > 0),
    Election: (lease_call("campaign", "resign"), lambda election: election.token > 0),
    Barrier: (
        lambda n: ("leave", ["abcd"[n % 4]]) if n % 9 == 0 else ("arrive", ["abcd"[n % 4], 3]),
        lambda barrier: len(barrier.arrived) < 3 and barrier.generation > 0,
    ),
    RateLimiter: (
        lambda n: ("configure", [3, 0.5, 4]) if n % 50 == 1 else ("allow", ["abcdef"[n % 6], n % 2 + 1]),
        limits,
    ),
}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dict_is_linearizable(seed: int) -> None:
    subject = Battery(ReplicatedDict, DictDialect(), lambda found: len(found.entries) > 0, is_register=True)
    outcome = simulated(subject, seed)
    assert outcome.holds, outcome.text
    assert not outcome.undecided
    assert outcome.answered > 20


@pytest.mark.parametrize("kind", BATTERIES)
def test_a_battery_is_the_same_on_all_nodes(kind: type[Replicated]) -> None:
    calls, holds = BATTERIES[kind]
    committed = 0
    for seed in SEEDS:
        subject = Battery(kind, CallDialect(kind, calls), holds)
        outcome = simulated(subject, seed)
        assert outcome.holds, outcome.text
        committed += outcome.committed
    assert committed > 50 * len(SEEDS)


NUMBERS = itertools.count()


class Forked(Queue):
    """With a bug: its leases end by something that is in no log."""

    @command
    def renew(self, token: int, lease_s: float = 60.0) -> None:
        self.tail += next(NUMBERS)

    put = Queue.put


class Forgetful(Queue):
    """With a bug: a job that is given back is lost."""

    @command
    def nack(self, token: int) -> None:
        self._check(token)
        self._give_back(token)


def test_a_queue_that_differs_by_node_is_found() -> None:
    subject = Battery(Forked, CallDialect(Forked, lambda n: ("renew", [n])), lambda queue: True)
    assert simulated(subject, SEEDS[1]).violated == "convergence"


def test_a_queue_that_loses_jobs_is_found() -> None:
    subject = Battery(Forgetful, CallDialect(Forgetful, lambda n: job_call(Queue, n)), no_job_is_lost)
    outcome = simulated(subject, SEEDS[2])
    assert outcome.violated == "invariant", outcome.text
