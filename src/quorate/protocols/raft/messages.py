"""Raft's messages, durable records and configuration.

Names follow Ongaro's dissertation (figure 3.1 and the sections given below). Terms and indexes are natural numbers; the
decoder has checked types and ranges before a message reaches the core, and the core checks what they mean.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from quorate.kernel import NodeId
from quorate.parts.leaderlog.acquaintances import NodesKnown
from quorate.parts.leaderlog.config import ENTRIES_PER_MESSAGE_MAX, LeaderConfig
from quorate.parts.leaderlog.proposals import Propose
from quorate.parts.leaderlog.reads import ReadReply, ReadRequest
from quorate.parts.leaderlog.returns import KnownReturns, Return, Returned, ReturningAs
from quorate.parts.leaderlog.transfers import Wanted
from quorate.parts.log.configuration import MEMBERS_MAX, Nodes
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Chunk
from quorate.parts.wire import Index, Natural, Term

MemberNumbers = Annotated[tuple[NodeId, ...], Meta(max_length=MEMBERS_MAX)]


class PreVote(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Would you vote for me in this term? (§9.6). Changes no state at either end."""

    term: Term
    last_index: Index
    last_term: Term


class PreVoteReply(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Granted: the term asked for. Refused: the voter's own term."""

    term: Term
    granted: bool


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Vote for me in this term (§3.4)."""

    term: Term
    last_index: Index
    last_term: Term


class RequestVoteWithLeave(RequestVote, frozen=True, array_like=True, tag=True, gc=False):
    """The same though you hear a leader: it asked me to stand (§3.10)."""


class Vote(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The answer to RequestVote, with the voter's term."""

    term: Term
    granted: bool


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Entries that follow the one at ``prev_index``, and how far the leader has committed (§3.5)."""

    term: Term
    prev_index: Index
    prev_term: Term
    entries: Annotated[list[Entry], Meta(max_length=ENTRIES_PER_MESSAGE_MAX)]
    commit_index: Index


class AppendWithheld(AppendEntries, frozen=True, array_like=True, tag=True, gc=False):
    """The same for a witness: its commands are without their data (``witnesses.py``)."""


class Appended(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The sender's log agrees with the leader's up to ``index``, durably."""

    term: Term
    index: Index


class AppendedAs(Appended, frozen=True, array_like=True, tag=True, gc=False):
    """The same from a node that lost its memory once; ``counts``: it has returned (``parts/leaderlog/returns.py``)."""

    incarnation: ReturningAs
    counts: bool


class Conflict(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """No entry of that term at ``prev_index``. The logs may agree at or below ``hint_index``, of ``hint_term``."""

    term: Term
    prev_index: Index
    hint_index: Index
    hint_term: Term


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """I lead (§3.4). ``round`` asks for an answer, which confirms reads (§6.4); 0 asks for none.

    ``commit_index`` is no higher than what the receiver is known to hold.
    """

    term: Term
    commit_index: Index
    round: Natural


class HeartbeatReply(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """In this term you lead, as of that round."""

    term: Term
    round: Natural


class Forgot(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """You lead in this term, but my word counts for nothing: I lost what I promised. My log ends at ``last_index``."""

    term: Term
    incarnation: ReturningAs
    last_index: Index


class InstallSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A piece of the leader's snapshot, for one who lags behind its log (§5.3)."""

    term: Term
    chunk: Chunk


class Configured(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The configuration of the log up to some index: that of the entry at ``index`` (``configurations.py``)."""

    index: Index
    epoch: Index
    members: MemberNumbers
    next_members: MemberNumbers
    nodes: Nodes


class InstallSnapshotAfter(InstallSnapshot, frozen=True, array_like=True, tag=True, gc=False):
    """The same, and which nodes returned before it."""

    returns: KnownReturns


class InstallSnapshotAmong(InstallSnapshotAfter, frozen=True, array_like=True, tag=True, gc=False):
    """The same where members have changed: who votes after it, and which nodes there are (§4.1, §5.1)."""

    configuration: Configured


class InstallCut(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """For a witness that lags behind the log: what a snapshot at ``index`` says of it, without any state (§5.3)."""

    term: Term
    index: Index
    index_term: Term
    returns: KnownReturns
    configuration: Configured


class SnapshotProgress(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The next piece that is wanted of the snapshot at ``index``; ``complete`` when all is durable."""

    term: Term
    index: Index
    next_offset: Natural
    complete: bool


class ServeSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """I lead, and nothing comes of my snapshots at a follower: send it a piece of yours."""

    term: Term
    wanted: Wanted


class SnapshotPiece(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A piece of the sender's snapshot, which the leader of that term asked it to send."""

    term: Term
    chunk: Chunk


class SnapshotPieceAfter(SnapshotPiece, frozen=True, array_like=True, tag=True, gc=False):
    """The same, and which nodes returned before it."""

    returns: KnownReturns


class SnapshotPieceAmong(SnapshotPieceAfter, frozen=True, array_like=True, tag=True, gc=False):
    """The same where members have changed."""

    configuration: Configured


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """I lead, and am about to stop: stand at once (§3.10)."""

    term: Term


MESSAGES = (
    PreVote,
    PreVoteReply,
    RequestVote,
    Vote,
    AppendEntries,
    Appended,
    Conflict,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    SnapshotProgress,
    ServeSnapshot,
    SnapshotPiece,
    Propose,
    ReadRequest,
    ReadReply,
    TimeoutNow,
    RequestVoteWithLeave,
    AppendedAs,
    Forgot,
    InstallSnapshotAfter,
    SnapshotPieceAfter,
    InstallSnapshotAmong,
    SnapshotPieceAmong,
    NodesKnown,
    AppendWithheld,
    InstallCut,
)


class HardState(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """``currentTerm`` and ``votedFor`` of figure 3.1."""

    term: Term
    vote: NodeId | None


class Entries(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """From ``first_index`` on, the log is these entries; whatever stood there or after is gone."""

    first_index: Index
    entries: list[Entry]


class Snapshotted(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A durable snapshot stands at ``index``; the log starts after ``base_index``, which is not above it."""

    index: Index
    term: Term
    base_index: Index
    base_term: Term


class SnapshottedAfter(Snapshotted, frozen=True, array_like=True, tag=True, gc=False):
    """The same, and which nodes returned up to ``index``."""

    returns: KnownReturns


class SnapshottedAmong(SnapshottedAfter, frozen=True, array_like=True, tag=True, gc=False):
    """The same where members have changed: the configuration of the log up to ``index``."""

    configuration: Configured


class Witness(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """This server keeps no state, for good: what it records of commands is without their data."""


RECORDS = (HardState, Entries, Snapshotted, SnapshottedAfter, Returned, SnapshottedAmong, Witness)


def returns_of(snapshot: InstallSnapshot | SnapshotPiece | Snapshotted) -> tuple[Return, ...]:
    """Which nodes returned before it."""
    after = InstallSnapshotAfter | SnapshotPieceAfter | SnapshottedAfter
    return snapshot.returns if isinstance(snapshot, after) else ()


def configuration_of(snapshot: InstallSnapshot | SnapshotPiece | Snapshotted) -> Configured | None:
    """That of the log up to it; None: that of the founders."""
    among = InstallSnapshotAmong | SnapshotPieceAmong | SnapshottedAmong
    return snapshot.configuration if isinstance(snapshot, among) else None


class RaftConfig(LeaderConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a log kept by a leader has; §9.3 discusses the choice of time-outs."""
