"""Snapshots: what stands for the beginning of the log, here and on its way (Chandra and others 2007, §5.5).

A snapshot says whose votes count after it, and which nodes have come and gone, as the slots that said so are gone
with it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from quorate.kernel import Env
from quorate.parts.leaderlog.compaction import Compactor, Transfers
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.log.configuration import FOUNDERS_ALONE, Nodes
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Restored, SnapshotInfo, Written
from quorate.parts.wire import Index
from quorate.protocols.multipaxos.acceptor import Acceptor
from quorate.protocols.multipaxos.membership import Spans
from quorate.protocols.multipaxos.messages import (
    InstallSnapshot,
    InstallSnapshotAmong,
    Membership,
    MultiPaxosConfig,
    Snapshotted,
    SnapshottedAmong,
    nodes_of,
)

SNAPSHOTS_NOTED = 4

Known: TypeAlias = tuple[tuple[Membership, ...], Nodes]
"""Whose votes count after a snapshot, and which nodes there are."""


class Snapshots:
    """Those of one node."""

    def __init__(self, env: Env, config: MultiPaxosConfig, acceptor: Acceptor, members: Spans) -> None:
        self._env = env
        self._acceptor = acceptor
        self._members = members
        self._compactor = Compactor(env, config)
        self._known: dict[int, Known] = {}
        self._offered: tuple[Index, Known] = (0, ((), FOUNDERS_ALONE))
        self.transfers = Transfers(env, config.chunk_bytes)

    # --- records ---

    def restore(self, record: Snapshotted) -> None:
        """The members as of the snapshot; the acceptor has restored the rest."""
        self._start_from(record.index, (record.memberships, nodes_of(record)))

    def record(self) -> Snapshotted | None:
        """What a checkpoint begins with."""
        acceptor, log = self._acceptor, self._acceptor.log
        if not acceptor.snapshot_index:
            return None
        known = self._known[acceptor.snapshot_index]
        return _snapshotted(acceptor.snapshot_index, acceptor.snapshot_term, log.base_index, log.base_term, known)

    def _start_from(self, index: int, known: Known) -> None:
        self._note(index, known)
        self._members.replace(*known)

    def _note(self, index: int, known: Known) -> None:
        """Of a few snapshots, as an older one may be on its way to somebody."""
        self._known[index] = known
        for old in sorted(self._known)[:-SNAPSHOTS_NOTED]:
            del self._known[old]

    # --- taking one ---

    def delivered(self, index: int, entries: list[Entry], size_bytes: int) -> None:
        """The App was given these, the last at ``index``."""
        self._compactor.delivered(index, entries, size_bytes)

    def taken(self, result: Any) -> None:
        """A snapshot is durable: drop what it stands for."""
        info = self._compactor.taken(result)
        if info is not None and info.index > self._acceptor.snapshot_index:
            self._compact(info)

    def _compact(self, info: SnapshotInfo) -> None:
        base, base_term = self._compactor.base(self._acceptor.log, info.index)
        known = self._members.known_at(info.index), self._members.nodes_at(info.index)
        self._note(info.index, known)
        self._acceptor.compact(_snapshotted(info.index, info.term, base, base_term, known))
        self._members.forget_before(info.index)

    # --- sending one ---

    def send_piece(self, node: int, result: Any, ballot: tuple[int, int], followers: Followers) -> None:
        """A piece was read, for a node that needs slots which are only in the snapshot."""
        progress, index = followers.get(node), self._acceptor.snapshot_index
        chunk = self.transfers.piece(progress, result, index)
        if chunk is None or progress is None:
            return
        known = self._known.get(chunk.index)
        if known is None:
            self.transfers.begin(node, progress, index)  # too old: begin again with the newest
            return
        memberships, nodes = known
        message = InstallSnapshot(ballot, chunk, memberships)
        # A snapshot is durable and of chosen values only.
        self._env.send_now(node, InstallSnapshotAmong(ballot, chunk, memberships, nodes) if nodes else message)

    # --- receiving one ---

    def store(self, m: InstallSnapshot) -> str | None:
        """Have a piece stored; returns what is wrong with it, if it is."""
        known = (m.memberships, nodes_of(m))
        try:
            self._members.check(*known)
        except ValueError:
            return "sent a snapshot with memberships that cannot be"
        self._offered = (m.chunk.index, known)
        self.transfers.store(m.chunk)
        return None

    def stored(self, written: Written) -> bool:
        """A piece is stored. True where that was the last, and the snapshot now stands for all up to it."""
        index, known = self._offered
        if not written.complete or written.index != index or index <= self._acceptor.chosen_index:
            return False
        self._start_from(index, known)
        self._acceptor.compact(_snapshotted(index, written.term, index, written.term, known))
        self._compactor.restart()
        self._env.deliver(Restored(index, written.term))
        return True


def _snapshotted(index: int, term: int, base_index: int, base_term: int, known: Known) -> Snapshotted:
    memberships, nodes = known
    if nodes:
        return SnapshottedAmong(index, term, base_index, base_term, memberships, nodes)
    return Snapshotted(index, term, base_index, base_term, memberships)
