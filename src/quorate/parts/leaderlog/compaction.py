"""Compaction: when a replicated log takes a snapshot, and how one travels in pieces to who lags behind the log.

A snapshot is taken when the log since the last one has grown by a number of entries, or by as many bytes as that one
had (within bounds), so that writing snapshots costs no more than writing the log (Ongaro's dissertation, §5.1.3). Each
piece of a transfer is asked for by its offset, so that a transfer resumes after a crash of either end.
"""

from __future__ import annotations

from typing import Any

from quorate.kernel import Env, Failed
from quorate.parts.leaderlog.followers import Progress, Transfer
from quorate.parts.log.replicated import Chunk, ReadChunk, SnapshotInfo, TakeSnapshot, WriteChunk, Written

SNAPSHOT = "snapshot"
INSTALL = "install"
CHUNK = "chunk"

TRANSFER_PATIENCE_BEATS = 10
"""Heartbeats without an answer after which a piece of a snapshot is sent again."""


class Compactor:
    """Counts what was delivered since the last snapshot, and has one taken at a time."""

    def __init__(self, env: Env, entries_max: int, bytes_min: int, bytes_max: int) -> None:
        self._env = env
        self._entries_max = entries_max
        self._bytes_min = bytes_min
        self._bytes_max = bytes_max
        self._entries = 0
        self._bytes = 0
        self._snapshot_bytes = 0
        self._busy = False

    def delivered(self, entries: int, size_bytes: int) -> None:
        """The log grew by so much that the App was given."""
        self._entries += entries
        self._bytes += size_bytes

    def restart(self) -> None:
        """A snapshot from elsewhere stands for all that was delivered."""
        self._entries = self._bytes = 0

    @property
    def is_due(self) -> bool:
        """Whether the log has outgrown a limit, and no snapshot is being taken."""
        enough_bytes = min(max(self._bytes_min, self._snapshot_bytes), self._bytes_max)
        return not self._busy and (self._entries >= self._entries_max or self._bytes >= enough_bytes)

    def take(self, index: int, term: int) -> None:
        """Have the state written as it is at ``index``, the last that was delivered."""
        self._busy = True
        self._entries = self._bytes = 0
        self._env.work(SNAPSHOT, TakeSnapshot(index, term))

    def taken(self, result: Any) -> SnapshotInfo | None:
        """The job ended: the snapshot, or None where there is none."""
        self._busy = False
        if not isinstance(result, SnapshotInfo):
            return None
        self._snapshot_bytes = result.size_bytes
        return result


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

    def progressed(self, node: int, progress: Progress, index: int, next_offset: int, complete: bool) -> bool:
        """The follower says how far it has come: True when the snapshot is there, else the next piece is read."""
        transfer = progress.transfer
        if transfer is None or transfer.index != index:
            return False
        transfer.idle_beats = 0
        if complete:
            progress.transfer = None
        elif next_offset != transfer.next_offset:
            transfer.next_offset = next_offset
            self._read(node, transfer)
        return complete

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
