"""What Paxos sends, what it makes durable, and how it is configured."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec

from quorate.kernel import NodeId
from quorate.parts.ballot import NO_BALLOT, Ballot
from quorate.parts.bounds import TIMES, BoundedConfig, Bounds
from quorate.parts.quorum.choice import MajorityChoice, QuorumChoice


class PaxosConfig(BoundedConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who plays which role, and times in seconds of the local clock. All nodes must be given the same.

    The empty tuple means every node. ``quorum``: which acceptors promise, and which choose; see
    ``parts/quorum/choice.py``. A proposer waits ``retry_s`` for a quorum, and each time it fails a longer random
    time more, up to ``retry_s_max``. A learner that knows nothing asks every ``ask_s``; None if somebody else tells it.
    """

    bounds: ClassVar[Mapping[str, Bounds]] = {"retry_s": TIMES, "retry_s_max": TIMES, "ask_s": TIMES}

    proposers: tuple[NodeId, ...] = ()
    acceptors: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()
    quorum: QuorumChoice = MajorityChoice()
    retry_s: float = 0.2
    retry_s_max: float = 3.2
    ask_s: float | None = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.retry_s > self.retry_s_max:
            raise ValueError(f"retry_s is {self.retry_s}: it must be at most retry_s_max, {self.retry_s_max}")
        if self.learners and not set(self.proposers) <= set(self.learners):
            raise ValueError("proposers must be learners as well: else they never know when to stop")
        if self.learners and not self.proposers:
            raise ValueError("where learners are named name the proposers too, among the learners")

    def players(self, role: tuple[NodeId, ...], peers: Sequence[int]) -> tuple[int, ...]:
        """The nodes of a role. Raises ValueError where one is not a peer."""
        if unknown := sorted(set(role) - set(peers)):
            raise ValueError(f"nodes {unknown} have a role and are not in the group {list(peers)}")
        return tuple(sorted(set(role))) or tuple(peers)


# --- messages: the decoder checks types and ranges, the handlers check what they mean ---


class Prepare(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Phase 1a, to acceptors: promise to accept nothing below this ballot; what have you accepted?"""

    ballot: Ballot


class Promise(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Phase 1b, to the proposer: promised. The highest ballot accepted so far (or NO_BALLOT) and its value."""

    ballot: Ballot
    accepted: Ballot = NO_BALLOT
    value: bytes = b""


class Accept(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Phase 2a, to acceptors: accept this value in this ballot."""

    ballot: Ballot
    value: bytes


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Phase 2b, to learners: this acceptor accepted the value in this ballot."""

    ballot: Ballot
    value: bytes


class Nack(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """To the proposer: your ballot is too low, a higher one was promised. An optimisation (§2.5)."""

    ballot: Ballot
    promised: Ballot


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """From a learner to acceptors and learners: what have you accepted, or learnt?"""


class Decided(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """This value is chosen: whoever still works on it can stop."""

    value: bytes


# --- records ---


class Begun(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The proposer used this ballot, and must use no ballot up to it again."""

    ballot: Ballot


class Promised(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The acceptor accepts nothing below this ballot."""

    ballot: Ballot


class Voted(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The acceptor accepted the value in this ballot, which it thereby also promised."""

    ballot: Ballot
    value: bytes


MESSAGES = (Prepare, Promise, Accept, Accepted, Nack, Ask, Decided)
RECORDS = (Begun, Promised, Voted)
