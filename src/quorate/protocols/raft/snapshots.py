"""Snapshots: what stands for the beginning of the log, here and on its way to a follower (chapter 5).

When one is taken, and how it travels, is shared with Multi-Paxos: ``parts/leaderlog/compaction.py``. It travels in
pieces, each asked for by its offset, so that a transfer resumes; figure 5.3 sends them in order.
"""

from __future__ import annotations

from typing import Any

from quorate.kernel import Env
from quorate.parts.leaderlog.compaction import Compactor, Transfers
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.log.entries import Entry
from quorate.protocols.raft.messages import InstallSnapshot, RaftConfig, SnapshotProgress
from quorate.protocols.raft.state import ServerState


class LogCompaction:
    """One server's snapshots: taken, sent and received."""

    def __init__(self, env: Env, config: RaftConfig, state: ServerState, transfers: Transfers) -> None:
        self._env = env
        self._state = state
        self._transfers = transfers
        self._compactor = Compactor(env, config)

    # --- taking one (§5.1) ---

    def delivered(self, index: int, entries: list[Entry], size_bytes: int) -> None:
        """The App was given these, the last at ``index``; §5.1.3: when it is time, its state is written."""
        self._compactor.delivered(index, entries, size_bytes)

    def taken(self, result: Any) -> None:
        """A snapshot is durable: drop what it stands for, but keep a tail for followers that are a little behind."""
        info = self._compactor.taken(result)
        if info is not None and info.index > self._state.snapshot_index:
            self._state.compact(info.index, info.term, *self._compactor.base(self._state.log, info.index))

    # --- sending one (§5.3) ---

    def send_piece(self, node: int, result: Any, followers: Followers) -> None:
        """A piece was read, for a follower that lags behind the log."""
        chunk = self._transfers.piece(followers.get(node), result, self._state.snapshot_index)
        if chunk is not None:
            # A snapshot is durable and of committed entries only.
            self._env.send_now(node, InstallSnapshot(self._state.term, chunk))

    # --- receiving one (§5.3) ---

    def on_install_snapshot(self, sender: int, m: InstallSnapshot) -> None:
        """§5.3: store the piece; ask for the next when it is stored."""
        chunk = m.chunk
        if chunk.index <= self._state.commit_index:
            self._env.send(sender, SnapshotProgress(self._state.term, chunk.index, chunk.total_bytes, True))
        else:
            self._transfers.store(chunk)

    def stored(self, result: Any, leader: int | None) -> None:
        """A piece is stored: ``leader``, if there is one to follow, is told. The last one makes the snapshot ours."""
        written = self._transfers.stored(result)
        if written is None:
            return
        if written.complete and written.index > self._state.commit_index:
            self._compactor.restart()
            self._state.install(written.index, written.term)
        if leader is not None:
            progress = SnapshotProgress(self._state.term, written.index, written.next_offset, written.complete)
            self._env.send(leader, progress)
