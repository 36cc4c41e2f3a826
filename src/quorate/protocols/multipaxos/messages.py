"""What Multi-Paxos sends, what it makes durable, and how it is configured.

The phases have the names of Lamport 2001; a slot is one instance, and its value a log entry. Slots and rounds are
natural numbers; the decoder has checked types and ranges before a message reaches the core, and the core checks what
they mean.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from quorate.kernel import NodeId
from quorate.parts.ballot import Ballot
from quorate.parts.bounds import Bounds
from quorate.parts.leaderlog.acquaintances import NodesKnown
from quorate.parts.leaderlog.config import ENTRIES_PER_MESSAGE_MAX, LeaderConfig
from quorate.parts.leaderlog.proposals import Propose
from quorate.parts.leaderlog.reads import ReadReply, ReadRequest
from quorate.parts.leaderlog.returns import KnownReturns, Return, Returned, ReturningAs
from quorate.parts.leaderlog.transfers import Wanted
from quorate.parts.log.configuration import FOUNDERS_ALONE, Nodes
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Chunk
from quorate.parts.quorum.choice import MajorityChoice, QuorumChoice
from quorate.parts.wire import Index, Natural, Term

ALPHA_MAX = 65_536
RUNS_PER_MESSAGE_MAX = 65_536
MEMBERSHIPS_MAX = 65_536


class Run(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Values that were accepted in one ballot, in consecutive slots."""

    ballot: Ballot
    first_slot: Index
    entries: Annotated[list[Entry], Meta(max_length=ENTRIES_PER_MESSAGE_MAX)]


class Membership(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """From this slot on, these nodes are the acceptors that count."""

    first_slot: Index
    members: tuple[NodeId, ...]


Memberships = Annotated[tuple[Membership, ...], Meta(max_length=MEMBERSHIPS_MAX)]


# --- messages ---


class Poll(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Would you promise me a ballot? I know all up to ``chosen_index``. Changes no state at either end."""

    serial: Natural
    chosen_index: Index


class PollReply(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Yes or no, and the highest ballot promised so far."""

    serial: Natural
    granted: bool
    promised: Ballot


class Prepare(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Phase 1a, for all slots at once: promise this ballot. What have you accepted from ``first_slot`` on?"""

    ballot: Ballot
    first_slot: Index


class PrepareWithLeave(Prepare, frozen=True, array_like=True, tag=True, gc=False):
    """The same in place of a leader that asked for it. ``leave`` is its ballot, in which it reads by no lease any more:
    a node that heard that leader, and no other, need not wait."""

    leave: Ballot


class Promise(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Phase 1b: promised, and what was accepted from ``first_slot`` on. More from ``next_slot`` on; 0: that is all."""

    ballot: Ballot
    first_slot: Index
    runs: Annotated[list[Run], Meta(max_length=RUNS_PER_MESSAGE_MAX)]
    next_slot: Index


class PromiseAs(Promise, frozen=True, array_like=True, tag=True, gc=False):
    """The same of a node that lost its memory once, and has returned (``parts/leaderlog/returns.py``)."""

    incarnation: ReturningAs


class Nack(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Your ballot is too low, a higher one was promised (Lamport 2001, §2.5)."""

    ballot: Ballot
    promised: Ballot


class Behind(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Your Prepare asks for what I do not have any more, or far too much: all up to ``chosen_index`` is chosen."""

    ballot: Ballot
    chosen_index: Index


class Accept(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Phase 2a, for consecutive slots; and all up to ``chosen_index`` is chosen. Without values, asks for an answer."""

    ballot: Ballot
    first_slot: Index
    entries: Annotated[list[Entry], Meta(max_length=ENTRIES_PER_MESSAGE_MAX)]
    chosen_index: Index


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Phase 2b: each slot up to this one was accepted in this ballot, or is known to be chosen."""

    ballot: Ballot
    slot: Index


class AcceptedAs(Accepted, frozen=True, array_like=True, tag=True, gc=False):
    """The same of a node that lost its memory once; ``counts``: it has returned."""

    incarnation: ReturningAs
    counts: bool


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """I lead, and all up to ``chosen_index`` is chosen. ``round`` asks for an answer, which confirms reads; 0: none."""

    ballot: Ballot
    chosen_index: Index
    round: Natural


class HeartbeatReply(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """I have promised nothing higher, as of that round."""

    ballot: Ballot
    round: Natural


class InstallSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A piece of the leader's snapshot, and whose votes count after it."""

    ballot: Ballot
    chunk: Chunk
    memberships: Memberships


class InstallSnapshotAmong(InstallSnapshot, frozen=True, array_like=True, tag=True, gc=False):
    """The same where nodes have come or gone: which there are after the snapshot."""

    nodes: Nodes


class InstallSnapshotAfter(InstallSnapshotAmong, frozen=True, array_like=True, tag=True, gc=False):
    """The same, and which nodes returned before it."""

    returns: KnownReturns


class SnapshotProgress(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The next piece that is wanted of the snapshot at ``index``; ``complete`` when all is durable."""

    ballot: Ballot
    index: Index
    next_offset: Natural
    complete: bool


class ServeSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """I lead, and nothing comes of my snapshots at a node: send it a piece of yours."""

    ballot: Ballot
    wanted: Wanted


class SnapshotPiece(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A piece of the sender's snapshot, which the leader with that ballot asked it to send; the rest as there."""

    ballot: Ballot
    chunk: Chunk
    memberships: Memberships
    nodes: Nodes


class SnapshotPieceAfter(SnapshotPiece, frozen=True, array_like=True, tag=True, gc=False):
    """The same, and which nodes returned before it."""

    returns: KnownReturns


class TakeOver(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """I lead with this ballot, read by no lease from now on, and am about to stop: begin phase 1 at once."""

    ballot: Ballot


MESSAGES = (
    Poll,
    PollReply,
    Prepare,
    Promise,
    Nack,
    Accept,
    Accepted,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    InstallSnapshotAmong,
    SnapshotProgress,
    ServeSnapshot,
    SnapshotPiece,
    Behind,
    Propose,
    ReadRequest,
    ReadReply,
    TakeOver,
    PrepareWithLeave,
    PromiseAs,
    AcceptedAs,
    InstallSnapshotAfter,
    SnapshotPieceAfter,
    NodesKnown,
)


# --- records ---


class Promised(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Nothing below this ballot is accepted, and it is used no more. All up to ``chosen_index`` was known chosen."""

    ballot: Ballot
    chosen_index: Index


class Voted(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Accepted in this ballot, which is thereby promised. All up to ``chosen_index`` was known to be chosen before."""

    ballot: Ballot
    first_slot: Index
    entries: list[Entry]
    chosen_index: Index


class Snapshotted(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A durable snapshot stands at ``index``; the log starts after ``base_index``, which is not above it."""

    index: Index
    term: Term
    base_index: Index
    base_term: Term
    memberships: Memberships


class SnapshottedAmong(Snapshotted, frozen=True, array_like=True, tag=True, gc=False):
    """The same where nodes have come or gone: which there are after the snapshot."""

    nodes: Nodes


class SnapshottedAfter(SnapshottedAmong, frozen=True, array_like=True, tag=True, gc=False):
    """The same, and which nodes returned up to ``index``."""

    returns: KnownReturns


RECORDS = (Promised, Voted, Snapshotted, SnapshottedAmong, SnapshottedAfter, Returned)


def returns_of(snapshot: InstallSnapshot | SnapshotPiece | Snapshotted) -> tuple[Return, ...]:
    """Which nodes returned before it."""
    after = InstallSnapshotAfter | SnapshotPieceAfter | SnapshottedAfter
    return snapshot.returns if isinstance(snapshot, after) else ()


def nodes_of(snapshot: InstallSnapshot | SnapshotPiece | Snapshotted) -> Nodes:
    """Which nodes there are after it, besides the founders."""
    among = InstallSnapshotAmong | SnapshotPiece | SnapshottedAmong
    return snapshot.nodes if isinstance(snapshot, among) else FOUNDERS_ALONE


class MultiPaxosConfig(LeaderConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a log kept by a leader has, and what follows. All nodes must be given the same.

    ``quorum``: see ``parts/quorum/choice.py``. ``alpha``: so many slots may be open, and so many after the one that
    names new members these begin to count. For as long as a lease nobody promises another ballot; see
    docs/protocols/multipaxos.md.
    """

    bounds: ClassVar[Mapping[str, Bounds]] = {**LeaderConfig.bounds, "alpha": Bounds(1, ALPHA_MAX)}

    quorum: QuorumChoice = MajorityChoice()
    alpha: int = 8192

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.members:
            self.quorum.build(self.members)  # refuses a pair that does not meet as early as it can be known
