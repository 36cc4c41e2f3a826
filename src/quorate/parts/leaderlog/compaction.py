"""Compaction: when a replicated log takes a snapshot, and how one travels in pieces to who lags behind the log.

A snapshot is taken when the log since the last one has grown by a number of entries, or by as many bytes as that one
had (within bounds), so that writing snapshots costs no more than writing the log (Ongaro's dissertation, §5.1.3). Each
piece of a transfer is asked for by its offset, so that a transfer resumes after a crash of either end.
"""

from __future__ import annotations

from typing import Any

from quorate.kernel import Env, Failed
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.leaderlog.followers import Followers, Progress, Transfer
from quorate.parts.log.entries import Entry, Log
from quorate.parts.log.replicated import Chunk, ReadChunk, SnapshotInfo, TakeSnapshot, WriteChunk, Written

SNAPSHOT = "snapshot"
INSTALL = "install"
CHUNK = "chunk"

TRANSFER_PATIENCE_BEATS = 10
"""Heartbeats without an answer after which a piece of a snapshot is sent again."""


class Compactor:
    """Counts what was delivered since the last snapshot, and has one taken at a time."""

    def __init__(self, env: Env, config: LeaderConfig) -> None:
        self._env = env
        self._config = config
        self._entries = 0
        self._bytes = 0
        self._snapshot_bytes = 0
        self._busy = False

    def delivered(self, index: int, entries: list[Entry], size_bytes: int) -> None:
        """The App was given these, the last at ``index``. When it is time, have its state written as it is there."""
        self._entries += len(entries)
        self._bytes += size_bytes
        if not self._busy and self._is_due():
            self._busy = True
            self.restart()
            self._env.work(SNAPSHOT, TakeSnapshot(index, entries[-1].term))

    def _is_due(self) -> bool:
        config = self._config
        enough_bytes = min(max(config.snapshot_bytes_min, self._snapshot_bytes), config.snapshot_bytes_max)
        return self._entries >= config.snapshot_entries or self._bytes >= enough_bytes

    def restart(self) -> None:
        """A snapshot stands for all that was delivered."""
        self._entries = self._bytes = 0

    def taken(self, result: Any) -> SnapshotInfo | None:
        """The job ended: the snapshot, or None where there is none."""
        self._busy = False
        if not isinstance(result, SnapshotInfo):
            return None
        self._snapshot_bytes = result.size_bytes
        return result

    def base(self, log: Log, index: int) -> tuple[int, int]:
        """Up to where a durable snapshot at ``index`` makes the log unneeded, and the term there.

        A tail stays, for followers that are a little behind.
        """
        base = max(log.base_index, index - self._config.keep_entries)
        term = log.term_at(base)
        assert term is not None
        return base, term


class Transfers:
    """Both ends of the snapshots that travel. Who sends keeps its side in the follower's Progress."""

    def __init__(self, env: Env, chunk_bytes: int) -> None:
        self._env = env
        self._chunk_bytes = chunk_bytes
        self._installing = False

    # --- who sends ---

    def begin(self, node: int, progress: Progress, index: int) -> None:
        """What the follower needs next is only in the snapshot, which stands at ``index``."""
        progress.transfer = Transfer(index)
        self._read(node, progress.transfer)

    def piece(self, progress: Progress | None, result: Any, snapshot_index: int) -> Chunk | None:
        """A job has read a piece: what to send, if it is still wanted."""
        if progress is None or progress.transfer is None:
            return None
        if isinstance(result, Failed):
            # Replaced by a newer snapshot, most likely: the next nudge begins again with that.
            progress.transfer = Transfer(snapshot_index)
        elif isinstance(result, Chunk) and result.index == progress.transfer.index:
            return result
        return None

    def nudge(self, node: int, progress: Progress) -> None:
        """A heartbeat: after some without an answer the piece is read and sent again."""
        transfer = progress.transfer
        if transfer is None:
            return
        transfer.idle_beats += 1
        if transfer.idle_beats >= TRANSFER_PATIENCE_BEATS:
            transfer.idle_beats = 0
            self._read(node, transfer)

    def progressed(self, node: int, followers: Followers, index: int, next_offset: int, complete: bool) -> None:
        """A follower says how far it has come: the next piece is read, or it has all and gets what follows."""
        progress = followers[node]
        progress.active_at = self._env.now
        transfer = progress.transfer
        if transfer is None or transfer.index != index:
            return
        transfer.idle_beats = 0
        if complete:
            progress.transfer = None
            followers.installed(node, index)
        elif next_offset != transfer.next_offset:
            transfer.next_offset = next_offset
            self._read(node, transfer)

    def _read(self, node: int, transfer: Transfer) -> None:
        self._env.work((CHUNK, node), ReadChunk(transfer.index, transfer.next_offset, self._chunk_bytes))

    # --- who receives ---

    def store(self, chunk: Chunk) -> None:
        """Have a piece stored; while one is being stored others are dropped."""
        if not self._installing:
            self._installing = True
            work = WriteChunk(chunk.index, chunk.term, chunk.offset, chunk.data, chunk.total_bytes)
            self._env.work(INSTALL, work)

    def stored(self, result: Any) -> Written | None:
        """The job ended: how far the snapshot has come, or None where that failed."""
        self._installing = False
        return result if isinstance(result, Written) else None
