"""LogSubject: what every replicated log is put to the test with.

Clients read and write a few keys through sessions. What they saw must be linearizable, what they were told is done must
be in the log that all nodes agree on, and after healing every node has applied the same and holds the same state.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from random import Random
from typing import Any

from quorate.kernel import App, Rng
from quorate.parts.crypto.keys import Scheme
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.checkers.durability import Durability
from quorate.sim.checkers.history import LinearizableHistory
from quorate.sim.checkers.log import LogAgreement
from quorate.sim.checkers.once import Once
from quorate.sim.checkers.validity import Validity
from quorate.sim.clients import Clients
from quorate.sim.ground import Ground
from quorate.sim.workload import Driver, Generator, Results, Subject, Workload

CONVERGENCE = "convergence"
NAMED_MAX = 16
"""Of more nodes than that the text of a violation names only the first and the last."""


class LogSubject(Subject):
    """A key-value service above a log. Give it an App and a Driver."""

    model: str = "kv"
    """The sequential model that histories are checked against: a name in ``sim.checkers.models.MODELS``."""

    @abstractmethod
    def driver(self, client: int, rng: Rng, nodes: tuple[int, ...], patience_s: float) -> Driver:
        """A fresh client, which knows these nodes and waits so long, more or less, before it tries another way."""

    def generator(self, rng: Random, keys: int) -> Generator:
        """What clients ask for, on so many keys."""
        return Generator(rng, keys)

    def greeting(self, node: Any) -> Any:
        """What a node says on each new link. When it would say something else, it hangs up."""
        return None

    def at_door(self, node: Any, request: Any) -> Any:
        """A node's response to a request that needs no App; None: the App is to have it."""
        return None

    def identities(self, data: bytes) -> tuple[Hashable, ...]:
        """Which operations (see ``Driver.identity``) the command in a log entry carries."""
        return ()

    def digest(self, app: App) -> bytes | None:
        """A digest of a node's state; equal on nodes that applied the same. None: the App has none."""
        return None

    def repeated(self, app: App) -> str | None:
        """An operation that took effect twice on this node. None: there is none, or the App cannot tell."""
        return None

    # --- as the base says ---

    def workload(self, world: Ground[Any]) -> Workload:
        """Clients, each with one operation at a time."""
        return Clients(world, self)

    def checkers(self, protocol: Sequence[Checker], scheme: Scheme | None) -> list[Checker]:
        """Agreement first, and what clients saw last."""
        log = LogAgreement()
        return [
            log,
            *([] if scheme is None else [Validity(scheme)]),
            *protocol,
            Durability(log, self.identities),
            Once(self.repeated),
            LinearizableHistory(self.model),
        ]

    def converged(self, world: Ground[Any]) -> bool:
        """Whether all honest nodes have applied the same, and then their states are equal."""
        if any(node.app.is_midway for node in world.honest):
            return False  # what it was given last is not yet what its state is
        first = world.honest[0]
        if any(node.applied != first.applied for node in world.honest):
            return False
        stateful = [node for node in world.honest if not node.is_stateless]
        digests = [self.digest(node.app) for node in stateful]
        for node, digest in zip(stateful, digests, strict=True):
            if digest != digests[0]:
                both = f"node {stateful[0].id} and node {node.id}"
                raise Violation(CONVERGENCE, f"{both} applied the same up to {first.applied}, but differ in state")
        return True

    def missing(self, world: Ground[Any]) -> str:
        """How far the nodes are."""
        applied = [node.applied for node in world.honest]
        if len(applied) > NAMED_MAX:
            return f"of {len(applied)} nodes the last has applied up to {min(applied)}, the first up to {max(applied)}"
        return f"the nodes have applied up to {applied}"

    def results(self, world: Ground[Any]) -> Results:
        """What was committed, and how the search for a linearization went."""
        history = world.workload.history
        log = next((checker for checker in world.checkers if isinstance(checker, LogAgreement)), None)
        search = next((checker for checker in world.checkers if isinstance(checker, LinearizableHistory)), None)
        return Results(
            committed=0 if log is None else len(log.agreed),
            undecided=search is not None and search.undecided,
            counts={"unknown": sum(event.type == "info" for event in history), **world.workload.counts},
            data=_data(world, log),
        )


def _data(world: Ground[Any], log: LogAgreement | None) -> Iterator[bytes]:
    """The agreed log, then the history."""
    for entry in () if log is None else log.agreed:
        yield entry.data
    for event in world.workload.history:
        yield f"{event.type} {event.process} {event.f} {event.key} {event.value!r} {event.time}".encode()
