"""Traits: what may be expected of a protocol, one by one, so that whoever uses it asks for what it means.

A node needs keys or it does not, clients believe one answer or count them, members change or stay: these go together in
the protocols that we have, and need not in those to come.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

import msgspec


class Fault(Enum):
    """What a faulty node may do."""

    CRASH = "crash"
    """Stop, and come back with what was durable."""
    BYZANTINE = "byzantine"
    """Anything at all, in league with others, but forge signatures."""


class Synchrony(Enum):
    """What is assumed of message delays and clocks (Dwork, Lynch and Stockmeyer 1988)."""

    SYNCHRONOUS = "synchronous"
    """Every message arrives within a known time; safety may rest on it."""
    PARTIAL = "partially synchronous"
    """From some unknown moment on. Progress rests on it, safety does not."""
    ASYNCHRONOUS = "asynchronous"
    """Nothing; progress takes chance (Fischer, Lynch and Paterson 1985)."""


NODES_A_FAULT: Final = {
    (Fault.CRASH, Synchrony.SYNCHRONOUS): 1,
    (Fault.CRASH, Synchrony.PARTIAL): 2,
    (Fault.CRASH, Synchrony.ASYNCHRONOUS): 2,
    (Fault.BYZANTINE, Synchrony.SYNCHRONOUS): 2,
    (Fault.BYZANTINE, Synchrony.PARTIAL): 3,
    (Fault.BYZANTINE, Synchrony.ASYNCHRONOUS): 3,
}
"""One more than k f nodes tolerate f faults: the bounds of Dwork, Lynch and Stockmeyer, with signatures."""


class FaultModel(msgspec.Struct, frozen=True):
    """Which faults a protocol tolerates, and under which assumption."""

    fault: Fault = Fault.CRASH
    synchrony: Synchrony = Synchrony.PARTIAL

    def faults(self, nodes: int) -> int:
        """How many faulty nodes so many tolerate."""
        return (nodes - 1) // NODES_A_FAULT[self.fault, self.synchrony]

    def nodes(self, faults: int) -> int:
        """How many nodes it takes to tolerate so many faulty ones."""
        return NODES_A_FAULT[self.fault, self.synchrony] * faults + 1


class Signers(msgspec.Struct, frozen=True):
    """Who signs what is shown to others. The links between nodes are authenticated besides, where nodes have keys."""

    nodes: bool = False
    """Their messages, so that a third node can be shown them."""
    clients: bool = False
    """Their requests (``parts/requests.py``)."""


class Belief(Enum):
    """How a client comes to believe an answer."""

    LEADER = "the word of the node that it asked"
    VOTES = "f + 1 equal answers"


class Value(Enum):
    """What a value must be to get into the log."""

    OPAQUE = "any bytes"
    SIGNED_REQUESTS = "commands of one client under its signature"
    RAW_TRANSACTIONS = "whatever the application says is a transaction"


class Members(msgspec.Struct, frozen=True):
    """Whether members change, and how; by default they are fixed."""

    value: Callable[..., bytes] | None = None
    """Makes the value that, submitted like any other, names others. It takes what ``encode_change`` takes."""
    by_admin: bool = False
    """Whether an administrator must sign it, whose key the config names in ``admins``."""
    may_be_witnesses: bool = False
    """Whether nodes can join that vote and keep no state."""

    @property
    def can_change(self) -> bool:
        """Whether they are not fixed."""
        return self.value is not None


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """All of them. The defaults are those of a log that tolerates crashes. Raises ValueError where they contradict."""

    fault_model: FaultModel = FaultModel()
    signers: Signers = Signers()
    belief: Belief = Belief.LEADER
    value: Value = Value.OPAQUE
    members: Members = Members()

    def __post_init__(self) -> None:
        if self.is_byzantine and self.belief is Belief.LEADER:
            raise ValueError("the node that a client asks may lie: belief must be VOTES")
        if self.value is Value.SIGNED_REQUESTS and not self.signers.clients:
            raise ValueError("requests are signed by clients: signers must name them")
        if self.members.by_admin and not self.signers.clients:
            raise ValueError("an administrator signs as a client does: signers must name clients")

    @property
    def is_byzantine(self) -> bool:
        """Whether nodes may lie."""
        return self.fault_model.fault is Fault.BYZANTINE

    @property
    def has_keys(self) -> bool:
        """Whether nodes have keys: to sign, to check what others sign, or to know who is at the end of a link."""
        return self.signers.nodes or self.signers.clients or self.is_byzantine

    def faults(self, nodes: int) -> int:
        """How many faulty nodes so many tolerate; this follows from the fault model."""
        return self.fault_model.faults(nodes)

    def liars(self, nodes: int) -> int:
        """How many lying nodes so many tolerate: none where the faults are crashes."""
        return self.faults(nodes) if self.is_byzantine else 0


CRASH: Final = Traits()
"""Crashes of a minority; clients believe the leader, and values are opaque."""

SIGNED_BYZANTINE: Final = Traits(
    fault_model=FaultModel(Fault.BYZANTINE, Synchrony.PARTIAL),
    signers=Signers(nodes=True, clients=True),
    belief=Belief.VOTES,
    value=Value.SIGNED_REQUESTS,
)
"""Lies of less than a third; nodes and clients sign, and clients count answers (Castro and Liskov 1999)."""
