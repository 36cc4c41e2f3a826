"""Snapshots: what stands for the beginning of the log, here and on its way (Chandra and others 2007, §5.5).

A snapshot says whose votes count after it, and which nodes have come and gone, as the slots that said so are gone
with it.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

from msgspec.structs import replace

from quorate.kernel import Env
from quorate.parts.ballot import Ballot
from quorate.parts.leaderlog.compaction import Compactor
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.leaderlog.returns import Return, Returns
from quorate.parts.leaderlog.transfers import Receiving, Serving, Transfers, Wanted
from quorate.parts.log.configuration import FOUNDERS_ALONE, Nodes
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Chunk, Restored, SnapshotInfo, Written
from quorate.parts.wire import Index
from quorate.protocols.multipaxos.acceptor import Acceptor
from quorate.protocols.multipaxos.membership import Spans
from quorate.protocols.multipaxos.messages import (
    InstallSnapshot,
    InstallSnapshotAfter,
    InstallSnapshotAmong,
    Membership,
    MultiPaxosConfig,
    ServeSnapshot,
    SnapshotPiece,
    SnapshotPieceAfter,
    Snapshotted,
    SnapshottedAfter,
    SnapshottedAmong,
    nodes_of,
    returns_of,
)

SNAPSHOTS_NOTED = 4

Known: TypeAlias = tuple[tuple[Membership, ...], Nodes, tuple[Return, ...]]
"""Whose votes count after a snapshot, which nodes there are, and who returned before it."""


class Snapshots:
    """Those of one node."""

    transfers_class: ClassVar[type[Transfers]] = Transfers

    def __init__(self, env: Env, config: MultiPaxosConfig, acceptor: Acceptor, members: Spans) -> None:
        self._env = env
        self._acceptor = acceptor
        self._members = members
        self.compactor = Compactor(env, config)
        self._known: dict[int, Known] = {}
        self._offered: tuple[Index, Known] = (0, ((), FOUNDERS_ALONE, ()))
        self.returns = Returns()
        """Of all nodes, by what is chosen."""
        self._serving = Serving(env, acceptor, self.compactor, config.chunk_bytes)
        self._receiving = Receiving(env)
        self.transfers = self.transfers_class(env, acceptor.log, self._ask)

    # --- records ---

    def restore(self, record: Snapshotted) -> None:
        """The members as of the snapshot; the acceptor has restored the rest."""
        self._start_from(record.index, (record.memberships, nodes_of(record), returns_of(record)))

    def record(self) -> Snapshotted | None:
        """What a checkpoint begins with."""
        acceptor, log = self._acceptor, self._acceptor.log
        if not acceptor.snapshot_index:
            return None
        known = self._known[acceptor.snapshot_index]
        return _snapshotted(acceptor.snapshot_index, acceptor.snapshot_term, log.base_index, log.base_term, known)

    def _start_from(self, index: int, known: Known) -> None:
        memberships, nodes, returns = known
        self._note(index, known)
        self._members.replace(memberships, nodes)
        self.returns.start_from(returns)

    def _note(self, index: int, known: Known) -> None:
        """Of a few snapshots, as an older one may be on its way to somebody."""
        self._known[index] = known
        for old in sorted(self._known)[:-SNAPSHOTS_NOTED]:
            if old not in self.compactor.held:
                del self._known[old]

    # --- taking one ---

    def delivered(self, index: int, entries: list[Entry], size_bytes: int) -> None:
        """The App was given these, the last at ``index``."""
        self.compactor.delivered(index, entries, size_bytes)

    def taken(self, result: Any, followers: Followers | None) -> None:
        """A snapshot is durable: drop what it stands for, but for what ``followers`` need, where this node leads."""
        info = self.compactor.taken(result)
        if info is not None and info.index > self._acceptor.snapshot_index:
            self._compact(info, followers)

    @property
    def is_full(self) -> bool:
        """Whether the log takes nothing until a snapshot is written."""
        return self.compactor.is_full(self._acceptor.log)

    def _compact(self, info: SnapshotInfo, followers: Followers | None) -> None:
        base, base_term = self.compactor.base(self._acceptor.log, info.index, followers)
        index = info.index
        known = self._members.known_at(index), self._members.nodes_at(index), self.returns.until(index)
        self._note(info.index, known)
        self._acceptor.compact(_snapshotted(info.index, info.term, base, base_term, known))
        self._members.forget_before(info.index)

    # --- sending one ---

    def _ask(self, source: int, wanted: Wanted) -> None:
        """As the leader: have this node send a piece, or another one. The acceptor's ballot is ours then."""
        if source == self._env.id:
            self._serving.serve(self._acceptor.ballot, wanted)
        else:
            # A question: the ballot is durable, and so is what is chosen.
            self._env.send_now(source, ServeSnapshot(self._acceptor.ballot, wanted))

    def on_serve_snapshot(self, m: ServeSnapshot) -> None:
        """The leader that we follow wants a piece sent."""
        self._serving.serve(m.ballot, m.wanted)

    def send_piece(self, node: int, result: Any, ballot: Ballot | None, followers: Followers | None) -> None:
        """A piece was read, for a node that needs slots which are only in a snapshot.

        ``ballot``: of the leader that there is now, if there is one. ``followers``: if that is this node.
        """
        served = self._serving.read(node, result)
        if served is None or ballot is None or served[0] != ballot:
            return
        _, wanted, chunk = served
        known = self._known.get(chunk.index)
        if known is None:
            self.compactor.release(chunk.index)
            self._serving.serve(ballot, replace(wanted, offset=0))  # too old: begin again with the newest
            return
        if followers is None:
            # A snapshot is durable and of chosen values only.
            self._env.send_now(node, _piece(ballot, chunk, known))
        elif self.transfers.is_ours(followers.get(node)):
            # The same.
            self._env.send_now(node, _part(ballot, chunk, known))

    # --- receiving one ---

    def store(self, m: InstallSnapshot | SnapshotPiece) -> str | None:
        """Have a piece stored; returns what is wrong with it, if it is."""
        known = (m.memberships, nodes_of(m), returns_of(m))
        try:
            self._members.check(m.memberships, nodes_of(m))
        except ValueError:
            return "sent a snapshot with memberships that cannot be"
        if self._receiving.store(m.chunk):
            self._offered = (m.chunk.index, known)
        return None

    def stored(self, result: Any) -> Written | None:
        """The job ended: how far the snapshot has come, or None where that failed."""
        return self._receiving.stored(result)

    def install(self, written: Written) -> bool:
        """A piece is stored. True where that was the last, and the snapshot now stands for all up to it."""
        index, known = self._offered
        if not written.complete or written.index != index or index <= self._acceptor.chosen_index:
            return False
        self._start_from(index, known)
        self._acceptor.compact(_snapshotted(index, written.term, index, written.term, known))
        self._acceptor.settle_returns(known[2])
        self.compactor.restart()
        self._env.deliver(Restored(index, written.term))
        return True


def _piece(ballot: Ballot, chunk: Chunk, known: Known) -> SnapshotPiece:
    memberships, nodes, returns = known
    if returns:
        return SnapshotPieceAfter(ballot, chunk, memberships, nodes, returns)
    return SnapshotPiece(ballot, chunk, memberships, nodes)


def _part(ballot: Ballot, chunk: Chunk, known: Known) -> InstallSnapshot:
    memberships, nodes, returns = known
    if returns:
        return InstallSnapshotAfter(ballot, chunk, memberships, nodes, returns)
    if nodes:
        return InstallSnapshotAmong(ballot, chunk, memberships, nodes)
    return InstallSnapshot(ballot, chunk, memberships)


def _snapshotted(index: int, term: int, base_index: int, base_term: int, known: Known) -> Snapshotted:
    memberships, nodes, returns = known
    if returns:
        return SnapshottedAfter(index, term, base_index, base_term, memberships, nodes, returns)
    if nodes:
        return SnapshottedAmong(index, term, base_index, base_term, memberships, nodes)
    return Snapshotted(index, term, base_index, base_term, memberships)
