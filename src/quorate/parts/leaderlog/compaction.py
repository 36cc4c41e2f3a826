"""Compaction: when a replicated log takes a snapshot, and how much of the log stays before it.

A snapshot is taken when the log since the last one has grown by as many bytes as that one had (within bounds), so that
writing snapshots costs no more than writing the log (Ongaro's dissertation, §5.1.3); or by a number of entries, as each
takes its time at a start, and by so many times that number as the last one was larger than the smallest that bytes make
due; or when one is wanted for somebody whom an older one does not help. How they travel: ``transfers.py``.

A snapshot that is a mark (ADR 0042) has few bytes, so it is taken as often as the bounds allow.

While a snapshot travels, compaction takes nothing away that the transfer needs. The file is *held*, so that the job
that writes the next one spares it, and so is the log behind it, within ``hold_bytes_max``. A source holds the files
that it reads for others; the leader holds the log (``followers.py`` knows for which followers).

The log is in memory, and a snapshot takes time to write. So the log is *full* at ``log_bytes_max`` while one is being
written, and takes nothing until that is done. It is never full without one: then nothing would empty it.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from quorate.kernel import Env
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.log.entries import Entry, Log, size_of
from quorate.parts.log.replicated import SnapshotInfo, TakeSnapshot

SNAPSHOT = "snapshot"
FULL = "the log in memory is full until a snapshot is written"

HELD_MAX = 2
"""How many snapshots are held for transfers, besides those that a restart needs. Each takes its size on the disk."""
HELD_S = 60.0
"""How long after a piece was asked for the file is held, and the log after the follower was heard: it may have been cut
off, or be restarting."""


class Compactor:
    """Counts what was delivered since the last snapshot, and has one taken at a time."""

    def __init__(self, env: Env, config: LeaderConfig) -> None:
        self._env = env
        self._config = config
        self._entries = 0
        self._bytes = 0
        self._snapshot_bytes = 0
        self._bytes_taken = 0
        """Of the log, when the snapshot that is being written was taken."""
        self._busy = False
        # The last that was delivered.
        self._index = self._term = 0
        self.wanted_index = 0
        """From where on a snapshot is wanted; 0: none is."""
        self._held: dict[int, float] = {}
        """Snapshots that travel, by index, and when a piece of each was asked for last."""

    def delivered(self, index: int, entries: list[Entry], size_bytes: int) -> None:
        """The App was given these, the last at ``index``. When it is time, have its state written as it is there."""
        self._entries += len(entries)
        self._bytes += size_bytes
        self._index, self._term = index, entries[-1].term
        if self._is_due():
            self._take()

    def want(self, index: int) -> None:
        """A snapshot at ``index`` or beyond is wanted, and there is none."""
        self.wanted_index = index

    def settle(self) -> None:
        """Once a step, when all of it is delivered: have the snapshot taken that is wanted."""
        if 0 < self.wanted_index <= self._index:
            self._take()

    def _take(self) -> None:
        if not self._busy:
            self._busy = True
            self._bytes_taken = self._bytes
            self.restart()
            self._env.work(SNAPSHOT, TakeSnapshot(self._index, self._term, held=self.held or UNSET))

    def _is_due(self) -> bool:
        config = self._config
        enough_bytes = min(max(config.snapshot_bytes_min, self._snapshot_bytes), config.snapshot_bytes_max)
        times = enough_bytes // config.snapshot_bytes_min if config.snapshot_bytes_min else 1
        enough_bytes = min(enough_bytes, config.log_bytes_max // 2)
        return self._entries >= times * config.snapshot_entries or self._bytes >= enough_bytes

    def restart(self) -> None:
        """A snapshot stands for all that was delivered."""
        self._entries = self._bytes = self.wanted_index = 0

    def taken(self, result: Any) -> SnapshotInfo | None:
        """The job ended: the snapshot, or None where there is none."""
        self._busy = False
        if not isinstance(result, SnapshotInfo):
            self._bytes += self._bytes_taken  # what comes next tries again, before the log grows as much once more
            return None
        self._snapshot_bytes = result.size_bytes
        return result

    def is_full(self, log: Log) -> bool:
        """Whether the log takes nothing now: it has as many bytes as it may, and the snapshot that will let most of
        them go is being written."""
        return self._busy and log.size_bytes >= self._config.log_bytes_max

    # --- what transfers need ---

    @property
    def held(self) -> tuple[int, ...]:
        """The indexes of the snapshots that are on their way to somebody, ascending."""
        now = self._env.now
        self._held = {index: asked_at for index, asked_at in self._held.items() if now - asked_at < HELD_S}
        return tuple(sorted(self._held))

    def hold(self, index: int, first_index: int) -> None:
        """A piece of this snapshot is wanted: its file stays for a while, unless too many others do.

        Those before ``first_index`` are of no use any more.
        """
        held = self._held = {other: self._held[other] for other in self.held if other >= first_index}
        if index in held or len(held) < HELD_MAX:
            held[index] = self._env.now

    def release(self, index: int) -> None:
        """The file cannot be read, or is not there."""
        self._held.pop(index, None)

    def base(self, log: Log, index: int, followers: Followers | None) -> tuple[int, int]:
        """Up to where a durable snapshot at ``index`` makes the log unneeded, and the term there.

        A tail stays, for followers that are a little behind; and what those need that are sent a snapshot, unless that
        is too much: then they begin again with a newer one.
        """
        base = log.tail(index, self._config.keep_entries, self._config.keep_bytes)
        needed = base if followers is None else followers.needed(log.base_index, base, self._env.now - HELD_S)
        if needed < base:
            held_bytes = log.size_bytes - size_of(log.slice(log.base_index + 1, needed))
            base = needed if held_bytes <= self._config.hold_bytes_max else base
        term = log.term_at(base)
        assert term is not None
        return base, term
