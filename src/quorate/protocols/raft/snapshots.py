"""Snapshots: what stands for the beginning of the log, here and on its way to a follower (chapter 5).

When one is taken, and how it travels, is shared with Multi-Paxos: ``parts/leaderlog/compaction.py``, ``transfers.py``.
It travels in pieces, each asked for by its offset, so that a transfer resumes; figure 5.3 sends them in order. If
nothing arrives of the leader's, it has another server send one (``ServeSnapshot``); in the paper only leaders do. But a
snapshot is of committed entries, which every leader's log has (§3.6.3), so it does not matter who wrote it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec.structs import replace

from quorate.kernel import Env
from quorate.parts.leaderlog.compaction import Compactor
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.leaderlog.returns import Return
from quorate.parts.leaderlog.transfers import Receiving, Serving, Transfers, Wanted
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Chunk
from quorate.protocols.raft.messages import (
    Configured,
    InstallCut,
    InstallSnapshot,
    InstallSnapshotAfter,
    InstallSnapshotAmong,
    RaftConfig,
    ServeSnapshot,
    SnapshotPiece,
    SnapshotPieceAfter,
    SnapshotPieceAmong,
    SnapshotProgress,
    configuration_of,
    returns_of,
)
from quorate.protocols.raft.state import ServerState


class LogCompaction:
    """One server's snapshots: taken, sent and received."""

    transfers_class: ClassVar[type[Transfers]] = Transfers

    def __init__(self, env: Env, config: RaftConfig, state: ServerState) -> None:
        self._env = env
        self._config = config
        self._state = state
        self.compactor = Compactor(env, config)
        self._serving = Serving(env, state, self.compactor, config.chunk_bytes)
        self._receiving = Receiving(env)
        self._offered: tuple[tuple[Return, ...], Configured | None] = ((), None)
        """Of the snapshot of which a piece is being stored: who returned before it, and the configuration there."""
        self.transfers = self.transfers_class(env, state.log, self._ask)

    # --- taking one (§5.1) ---

    def delivered(self, index: int, entries: list[Entry], size_bytes: int) -> None:
        """The App was given these, the last at ``index``; §5.1.3: when it is time, its state is written."""
        self.compactor.delivered(index, entries, size_bytes)

    def taken(self, result: Any, followers: Followers) -> None:
        """A snapshot is durable: drop what it stands for, but for what followers need that are behind."""
        info = self.compactor.taken(result)
        if info is not None and info.index > self._state.snapshot_index:
            self._state.compact(info.index, info.term, *self.compactor.base(self._state.log, info.index, followers))
            self._state.configurations.forget_before(min((*self.compactor.held, info.index)))

    def witnessed(self, index: int) -> None:
        """A witness has no state to write: once as much is committed as makes others take one, its log begins there."""
        state = self._state
        if index - state.snapshot_index >= self._config.snapshot_entries:
            term = state.log.term_at(index)
            assert term is not None
            state.compact(index, term, index, term)
            state.configurations.forget_before(index)

    @property
    def is_full(self) -> bool:
        """Whether the log takes no entries until a snapshot is written."""
        return self.compactor.is_full(self._state.log)

    # --- sending one (§5.3) ---

    def _ask(self, source: int, wanted: Wanted) -> None:
        """As the leader: have this server send a piece, or another one."""
        if source == self._env.id:
            self._serving.serve(self._state.term, wanted)
        else:
            # A question: the term is durable since the election, and so is what is committed.
            self._env.send_now(source, ServeSnapshot(self._state.term, wanted))

    def on_serve_snapshot(self, m: ServeSnapshot) -> None:
        """The leader of our term wants a piece sent."""
        self._serving.serve(m.term, m.wanted)

    def send_piece(self, node: int, result: Any, leader: int | None, followers: Followers) -> None:
        """A piece was read, for a follower that lags behind the log; the term for which it was is over, perhaps."""
        served = self._serving.read(node, result)
        term = self._state.term
        if served is None or leader is None or served[0] != term:
            return
        _, wanted, chunk = served
        known = self._state.configurations.at(chunk.index)
        if known is None:
            self.compactor.release(chunk.index)
            self._serving.serve(term, replace(wanted, offset=0))  # too old: begin again with the newest
            return
        returns, configuration = self._state.returns.until(chunk.index), known.recorded() if known.index else None
        if leader != self._env.id:
            # A snapshot is durable and of committed entries only.
            self._env.send_now(node, _piece(term, chunk, returns, configuration))
        elif self.transfers.is_ours(followers.get(node)):
            # The same.
            self._env.send_now(node, _part(term, chunk, returns, configuration))

    # --- receiving one (§5.3) ---

    def take_piece(self, sender: int, leader: int, m: InstallSnapshot | SnapshotPiece) -> None:
        """§5.3: store the piece, whoever sent it; the leader has the next one sent when it is stored."""
        chunk, configuration = m.chunk, configuration_of(m)
        if self._state.is_witness:
            self._env.blame(sender, "sent state to a witness")
            return
        if configuration is not None and not self._may_be(sender, configuration, chunk.index):
            return
        if chunk.index <= self._state.commit_index:
            self._env.send(leader, SnapshotProgress(self._state.term, chunk.index, chunk.total_bytes, True))
        elif self._receiving.store(chunk):
            self._offered = returns_of(m), configuration

    def _may_be(self, sender: int, configuration: Configured, index: int) -> bool:
        try:
            self._state.configurations.check(configuration, index)
        except ValueError as error:
            self._env.blame(sender, f"sent a snapshot with {error}")
            return False
        return True

    def take_cut(self, sender: int, m: InstallCut) -> bool:
        """As a witness: what a snapshot says of the log, without the state. Whether the log agrees up to there now."""
        if not self._may_be(sender, m.configuration, m.index):
            return False
        if m.index > self._state.commit_index:
            self._state.install(m.index, m.index_term, m.returns, m.configuration)
        return True

    def stored(self, result: Any, leader: int | None) -> None:
        """A piece is stored: ``leader``, if there is one to follow, is told. The last one makes the snapshot ours."""
        written = self._receiving.stored(result)
        if written is None:
            return
        if written.complete and written.index > self._state.commit_index:
            self.compactor.restart()
            self._state.install(written.index, written.term, *self._offered)
        if leader is not None:
            progress = SnapshotProgress(self._state.term, written.index, written.next_offset, written.complete)
            self._env.send(leader, progress)


def _piece(term: int, chunk: Chunk, returns: tuple[Return, ...], configuration: Configured | None) -> SnapshotPiece:
    if configuration is not None:
        return SnapshotPieceAmong(term, chunk, returns, configuration)
    return SnapshotPieceAfter(term, chunk, returns) if returns else SnapshotPiece(term, chunk)


def _part(term: int, chunk: Chunk, returns: tuple[Return, ...], configuration: Configured | None) -> InstallSnapshot:
    if configuration is not None:
        return InstallSnapshotAmong(term, chunk, returns, configuration)
    return InstallSnapshotAfter(term, chunk, returns) if returns else InstallSnapshot(term, chunk)
