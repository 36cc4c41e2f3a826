"""Subject and Workload: the seam between the simulator and what is put to the test.

A Subject makes the App of each node and the Workload of a run, names its checkers, and says when all has come right.
The simulator knows no more of it than that.

For subjects that serve clients there are operations on keys (read, write, cas) and histories of them. The simulator
knows neither the requests of a service nor its sessions: the Driver of each client makes requests of operations, and
answers of responses. Requests and responses are opaque here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Literal

import msgspec

from quorate.kernel import App, Rng
from quorate.parts.crypto.keys import Scheme
from quorate.sim.checkers.base import Checker
from quorate.sim.ground import Ground
from quorate.sim.history.events import Event


class Op(msgspec.Struct, frozen=True):
    """One operation. ``value`` is None for a read, the new value for a write, (expected, new) for a cas."""

    f: Literal["read", "write", "cas"]
    key: str
    value: Any = None


class Answer(msgspec.Struct, frozen=True):
    """How an operation ended. ``ok``: it took place, with ``value`` (what was read; True or False for a cas).

    ``fail``: it certainly did not and will not. ``info``: nobody knows.
    """

    type: Literal["ok", "fail", "info"]
    value: Any = None


class Wants(msgspec.Struct, frozen=True):
    """What a Driver wants done, in this order; by node."""

    sends: Sequence[tuple[int, Any]] = ()
    hangups: Sequence[int] = ()
    dials: Sequence[int] = ()
    answer: Answer | None = None
    """The end of the operation."""


class Driver(ABC):
    """One client, which has one operation under way at most. Pure: no clock, no I/O.

    It reaches nodes over links: it dials, and is told of each link that is there, could not be made, or is lost.
    Retries, timeouts and what to believe are its business. After each input, ``take`` what it wants.
    """

    is_linked: bool = True
    """Whether it uses links. If not, it sends to any node at any time, and is told of no link."""

    @abstractmethod
    def begin(self, op: Op, now: float, deadline: float) -> None:
        """Start an operation, which is to end by the deadline."""

    @abstractmethod
    def extend(self, deadline: float) -> None:
        """What is under way may take longer."""

    @abstractmethod
    def receive(self, node: int, response: Any, now: float) -> None:
        """A response of a node."""

    @abstractmethod
    def tick(self, now: float) -> None:
        """Time has passed."""

    @abstractmethod
    def take(self) -> Wants | None:
        """What it wants, since it was last asked; None: nothing."""

    @property
    @abstractmethod
    def wake_at(self) -> float:
        """When to call ``tick``, at the latest."""

    def opened(self, node: int, greeting: Any, now: float) -> None:  # noqa: B027 (optional)
        """A link is there, on which the node greeted."""

    def unreached(self, node: int, why: str, now: float) -> None:  # noqa: B027 (optional)
        """A link could not be made."""

    def lost(self, node: int, why: str, now: float) -> None:  # noqa: B027 (optional)
        """A link has ended."""

    def identity(self) -> Hashable | None:
        """What ``Subject.identities`` will say of the command that this operation put into the log; None: unknown."""
        return None


class Workload:
    """All that comes to the nodes of one run from outside. This one is nothing: nobody asks for anything."""

    def __init__(self) -> None:
        self.operations = 0
        """How many operations began."""
        self.answered = 0
        """How many of them ended well."""
        self.history: list[Event] = []
        """What clients asked and were told, if that is to be checked."""
        self.acknowledged: dict[Hashable, Op] = {}
        """By identity, what clients were told is done."""
        self.counts: dict[str, int] = {}
        """What else happened, by name, and how often."""

    @property
    def are_idle(self) -> bool:
        """Whether every operation has ended and none will begin."""
        return True

    def start(self) -> None:
        """The run begins: plan what will come."""

    def finish(self) -> None:
        """All is healed: begin nothing more, and come to an end."""

    def crashed(self, node: int) -> None:
        """The process of a node is gone, and its links with it."""

    def hush(self, until_s: float) -> None:
        """Begin nothing before that time, unless the end comes first."""

    def missing(self) -> str:
        """What has not ended, for a person; empty if there is nothing."""
        return ""


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """What a subject adds to a RunOutcome. ``data`` becomes part of its digest."""

    committed: int = 0
    undecided: bool = False
    counts: Mapping[str, int] = {}
    data: Iterable[bytes] = ()


class Subject(ABC):
    """What is put to the test: what stands above each core, what comes from outside, and which promises are checked.

    One subject serves one run. Only ``app`` must be there; without the rest nobody asks for anything, nothing but the
    protocol's own invariants is checked, and after healing nothing is waited for. ``LogSubject`` has the rest for
    replicated logs.
    """

    is_open: bool = False
    """Whether nodes are strangers to each other: see ``sim.strangers``."""
    doers: Mapping[type, Any] = {}
    """By type, how jobs are done that neither the runtime nor the App does: see ``sim.jobs.Doer``."""

    @abstractmethod
    def app(self, node: int, rng: Rng) -> App:
        """A fresh App for a node that starts. What it keeps in itself is gone with a crash; see ``crashed``."""

    def workload(self, world: Ground[Any]) -> Workload:
        """What comes from outside. The world has its nodes by now, but none of them has started."""
        return Workload()

    def checkers(self, protocol: Sequence[Checker], scheme: Scheme | None) -> list[Checker]:
        """Fresh checkers, in the order in which they look; ``protocol`` are those of the protocol's inner state.

        With ``scheme`` nodes may lie, and requests are signed.
        """
        return list(protocol)

    def converged(self, world: Ground[Any]) -> bool:
        """Whether, after healing, all has come right. Asked again and again. Raises Violation where it never can."""
        return True

    def missing(self, world: Ground[Any]) -> str:
        """What has not come right, for a person."""
        return "the nodes have not converged"

    def crashed(self, node: int, rng: Rng) -> None:  # noqa: B027 (optional)
        """The process of a node is gone. A store that outlives it loses now what it has not synced.

        ``node`` is the number that ``app`` was given, and ``rng`` this crash's own.
        """

    def results(self, world: Ground[Any]) -> Results:
        """What the run came to, after its end or its first violation."""
        return Results()

    def close(self) -> None:  # noqa: B027 (optional)
        """The run is over, and nobody looks at it any more: give back what it has open."""


class Generator:
    """Operations on a few keys, with values that are never used twice."""

    __slots__ = ("_keys", "_rng", "_seen", "_values", "_weights")

    def __init__(self, rng: Random, keys: int) -> None:
        self._rng = rng
        self._keys = tuple(f"k{number}" for number in range(keys))
        self._seen: dict[str, Any] = {}
        self._values = 0
        reads = rng.uniform(0.1, 0.7)
        self._weights = (reads, reads + (1 - reads) * rng.uniform(0.2, 1.0))

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys."""
        return self._keys

    def next(self) -> Op:
        """The next operation. A cas expects what was last seen, so that it has a chance."""
        rng = self._rng
        key = self._keys[int(rng.random() * len(self._keys))]
        draw = rng.random()
        if draw < self._weights[0]:
            return Op("read", key)
        self._values += 1
        if draw < self._weights[1]:
            return Op("write", key, self._values)
        return Op("cas", key, (self._seen.get(key), self._values))

    def saw(self, op: Op, answer: Answer) -> None:
        """Remember the newest value that a client knows of."""
        if answer.type != "ok":
            return
        if op.f == "read":
            self._seen[op.key] = answer.value
        elif op.f == "write":
            self._seen[op.key] = op.value
        elif answer.value:
            self._seen[op.key] = op.value[1]
