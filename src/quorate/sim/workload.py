"""Workload: what clients ask for, and the seam to whatever serves them.

The simulator knows operations on keys (read, write, cas) and histories. It knows neither a service's requests nor
its sessions: a Subject makes the App of each node and a Driver for each client, and a Driver turns operations into
requests and replies into answers. Requests and replies are opaque here.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from random import Random
from typing import Any, Literal

import msgspec

from quorate.kernel import App, Rng


class Op(msgspec.Struct, frozen=True):
    """One operation. ``value`` is None for a read, the new value for a write, (expected, new) for a cas."""

    f: Literal["read", "write", "cas"]
    key: str
    value: Any = None


class Request(msgspec.Struct, frozen=True):
    """Something to send to a node, or to all of them. ``node`` is a hint, usually who leads; None: whichever."""

    payload: Any
    node: int | None = None
    everywhere: bool = False


class Answer(msgspec.Struct, frozen=True):
    """How an operation ended. ``ok``: it took place, with ``value`` (what was read; True or False for a cas).

    ``fail``: it certainly did not and will not. ``info``: nobody knows.
    """

    type: Literal["ok", "fail", "info"]
    value: Any = None


class Driver(ABC):
    """The session of one client, which has one operation under way at most. Pure: no clock, no I/O."""

    @abstractmethod
    def begin(self, op: Op) -> Request:
        """Start an operation."""

    @abstractmethod
    def receive(self, reply: Any, node: int) -> Answer | Request | None:
        """Take a node's reply: the operation's end, or a request to send instead, or None where it is of no use yet."""

    @abstractmethod
    def retry(self) -> Request:
        """The operation timed out: the same again, with the same session and serial number."""

    @abstractmethod
    def give_up(self) -> None:
        """Forget the operation. Its outcome stays unknown; later replies to it are of no use."""

    def identity(self) -> Hashable | None:
        """What ``Subject.identities`` will say of the command that this operation put into the log; None: unknown."""
        return None


class Subject(ABC):
    """What is put to the test above the log."""

    doers: Mapping[type, Any] = {}
    """By type, how jobs are done that neither the runtime nor the App does: see ``sim.jobs.Doer``."""
    model: str = "kv"
    """The sequential model that histories are checked against: a name in ``sim.checkers.models.MODELS``."""

    @abstractmethod
    def app(self, node: int, rng: Rng) -> App:
        """A fresh App for a node that starts. Whatever it keeps is gone with a crash."""

    @abstractmethod
    def driver(self, client: int, rng: Rng) -> Driver:
        """A fresh session."""

    def identities(self, data: bytes) -> tuple[Hashable, ...]:
        """Which operations (see ``Driver.identity``) the command in a log entry carries."""
        return ()

    def digest(self, app: App) -> bytes | None:
        """A digest of a node's state; equal on nodes that applied the same. None: the App has none."""
        return None

    def repeated(self, app: App) -> str | None:
        """An operation that took effect twice on this node. None: there is none, or the App cannot tell."""
        return None


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
