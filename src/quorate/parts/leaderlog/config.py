"""LeaderConfig: the times and limits of a log that a leader keeps, whichever protocol elects it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from quorate.kernel import NodeId
from quorate.parts.bounds import BYTES_MAX, COUNT_MAX, COUNTS, MESSAGE_SIZES, SIZES, TIMES, BoundedConfig, Bounds
from quorate.parts.leaderlog.reads import TOKENS_PER_READ_MAX

ENTRIES_PER_MESSAGE_MAX = 65_536

ELECTION = "election"
"""The timer of one that hears from no leader."""
HEARTBEAT = "heartbeat"
"""The timer of one that leads."""


class LeaderConfig(BoundedConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times in seconds of the local clock, sizes in bytes.

    A follower that hears nothing for between ``election_timeout_s_min`` and ``election_timeout_s_max`` (None: twice the
    shortest) stands for election. The defaults suit a round trip well below 50 ms and processes that may be late by as
    much. Commands leave at once and not with heartbeats, so the interval of these says only how soon a leader is
    missed, and what a cluster costs that nobody uses. One whose connection to the leader ended waits for one to two
    ``hang_up_s`` before it asks the others whether it could lead (``watch.py``). A snapshot is taken when the log since
    the last one has ``snapshot_entries`` (several times as many where the last one was large), or as many bytes as that
    one (within the bounds given), so that writing snapshots costs no more than writing the log.

    The log is kept in memory, so it is bounded in bytes. Behind a snapshot ``keep_entries`` stay, of ``keep_bytes`` at
    most, for followers that are a little behind. A snapshot is also taken when half of ``log_bytes_max`` has come since
    the last. If the log reaches ``log_bytes_max`` before that one is written, the leader refuses commands and a
    follower takes no entries until it is. While a snapshot is on its way to a follower, and until that follower has
    caught up, the leader keeps the log that the follower needs next, as long as that is no more than
    ``hold_bytes_max``: so much may be written during a transfer, or it begins again with a newer snapshot.

    ``lease_s`` (None: no leases; the same on all nodes): for so long after a leader was heard no other is elected, so
    that it reads without asking. That holds only if clocks run at a rate within ``clock_drift`` of true time and are
    never set. ``preferred``: the nodes that are to lead if they can, the first of them rather than the second, and each
    of them rather than one that is not named (``preference.py``; the same on all nodes).

    ``founders``: the nodes that the cluster began with, once others have joined it (empty: all that a node is told of
    at its start). ``members``: the first of them whose votes count (empty: every founder); other nodes learn, and do
    not vote. All nodes must be given the same of both.
    """

    bounds: ClassVar[Mapping[str, Bounds]] = {
        "heartbeat_s": TIMES,
        "election_timeout_s_min": TIMES,
        "election_timeout_s_max": TIMES,
        "hang_up_s": TIMES,
        "message_bytes_max": MESSAGE_SIZES,
        "message_entries_max": Bounds(1, ENTRIES_PER_MESSAGE_MAX),
        "inflight_messages_max": COUNTS,
        "inflight_bytes_max": SIZES,
        "uncommitted_bytes_max": SIZES,
        "snapshot_entries": COUNTS,
        "snapshot_bytes_min": Bounds(0, BYTES_MAX),
        "snapshot_bytes_max": SIZES,
        "keep_entries": Bounds(0, COUNT_MAX),
        "chunk_bytes": MESSAGE_SIZES,
        "reads_pending_max": Bounds(1, TOKENS_PER_READ_MAX),
        "keep_bytes": Bounds(0, BYTES_MAX),
        "hold_bytes_max": Bounds(0, BYTES_MAX),
        "log_bytes_max": SIZES,
    }

    heartbeat_s: float = 0.3
    election_timeout_s_min: float = 0.6
    election_timeout_s_max: float | None = None
    hang_up_s: float = 0.1
    message_bytes_max: int = 1 << 20
    message_entries_max: int = 8192
    inflight_messages_max: int = 128
    inflight_bytes_max: int = 16 << 20
    uncommitted_bytes_max: int = 64 << 20
    snapshot_entries: int = 100_000
    snapshot_bytes_min: int = 128 << 20
    snapshot_bytes_max: int = 512 << 20
    keep_entries: int = 5_000
    chunk_bytes: int = 1 << 20
    reads_pending_max: int = 65_536
    keep_bytes: int = 32 << 20
    log_bytes_max: int = 1 << 30
    hold_bytes_max: int = 256 << 20
    lease_s: float | None = None
    clock_drift: float = 0.1
    preferred: tuple[NodeId, ...] = ()
    members: tuple[NodeId, ...] = ()
    founders: tuple[NodeId, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.heartbeat_s * 2 <= self.election_timeout_s_min:
            raise ValueError(
                f"heartbeat_s is {self.heartbeat_s}, election_timeout_s_min {self.election_timeout_s_min}: "
                "the timeout must be at least two heartbeats, or one lost message costs an election: set both"
            )
        if self.election_timeout_s_max is not None and self.election_timeout_s_max < self.election_timeout_s_min:
            raise ValueError(
                f"election_timeout_s_max is {self.election_timeout_s_max}, below election_timeout_s_min "
                f"{self.election_timeout_s_min}: leave it out for twice the shortest"
            )
        if not 0 <= self.clock_drift < 1:
            raise ValueError(f"clock_drift is {self.clock_drift}: it must be at least 0 and below 1")
        if self.lease_s is not None and not 0 < self.lease_s <= self.election_timeout_s_min:
            raise ValueError(
                f"lease_s is {self.lease_s}: it must be above 0 and at most election_timeout_s_min, "
                f"{self.election_timeout_s_min}, for which nobody stands after hearing a leader"
            )
        if len(set(self.preferred)) < len(self.preferred):
            raise ValueError(f"preferred is {list(self.preferred)}: name each node once")
        if self.snapshot_bytes_min > self.snapshot_bytes_max:
            raise ValueError(
                f"snapshot_bytes_min is {self.snapshot_bytes_min}, above snapshot_bytes_max {self.snapshot_bytes_max}"
            )

    def rank(self, node: int, missed: int | None = None) -> int:
        """How many of the preferred nodes are to lead rather than this one, ``missed`` not counted."""
        before = self.preferred[: self.preferred.index(node)] if node in self.preferred else self.preferred
        return len(before) - (missed in before)

    def within(self, log_bytes_max: int) -> LeaderConfig:
        """The same with no more than so many bytes of log in memory, and of what is on its way into it."""
        return self.but(
            log_bytes_max=min(self.log_bytes_max, log_bytes_max),
            keep_bytes=min(self.keep_bytes, log_bytes_max // 8),
            hold_bytes_max=min(self.hold_bytes_max, log_bytes_max // 4),
            uncommitted_bytes_max=min(self.uncommitted_bytes_max, log_bytes_max // 4),
            inflight_bytes_max=min(self.inflight_bytes_max, log_bytes_max // 8),
        )
