"""The simulated disk of one node: a journal with group commit, and what a crash leaves of it.

A frame is the records of one Turn and is atomic. One sync covers every frame that was queued when it began. At a
crash, of the frames that are not durable yet a random prefix survives: a later frame never without the earlier ones,
and a torn frame not at all (the real journal cuts it by its checksum). A checkpoint is a frame that replaces all before
it the moment it is durable.
"""

from collections.abc import Callable, Sequence
from random import Random

from quorate.kernel import Record

DiskFrame = tuple[int, Sequence[Record], bool]
"""Sequence number, records, whether they replace everything before."""


class Disk:
    """Survives the crashes of its node. ``schedule(delay_s, action)`` runs an action later."""

    def __init__(self, rng: Random, sync_s: float, schedule: Callable[[float, Callable[[], None]], None]) -> None:
        self._rng = rng
        self._schedule = schedule
        self._queued: list[DiskFrame] = []
        self._syncing: list[DiskFrame] = []
        self._epoch = 0
        self._written = 0
        self.sync_s = sync_s
        self.slowness = 1.0
        self.stalled: str | None = None
        """Why no frame is taken, while none is."""
        self.synced: Callable[[int], None] = lambda sequence: None
        """Hears up to which frame all is durable."""
        self.journal: list[Sequence[Record]] = []
        """The durable frames since the last checkpoint, which is the first."""
        self.syncs = self.frames_lost = self.checkpoints = 0

    def append(self, records: Sequence[Record]) -> int:
        """Queue a frame; returns its sequence number."""
        return self._queue(records, False)

    def replace(self, records: Sequence[Record]) -> int:
        """Queue a checkpoint."""
        self.checkpoints += 1
        return self._queue(records, True)

    def stall(self, why: str | None) -> None:
        """Take no more frames, or take them again (None). A sync that began still ends."""
        self.stalled = why
        if why is None:
            self._begin()

    def crash(self) -> None:
        """The process is gone, and of what it wrote a prefix survives."""
        pending = self._syncing + self._queued
        kept = int(self._rng.random() * (len(pending) + 1))
        self._keep(pending[:kept])
        self.frames_lost += len(pending) - kept
        self._queued, self._syncing = [], []
        self._epoch += 1
        self._written = 0

    def _queue(self, records: Sequence[Record], replaces: bool) -> int:
        self._written += 1
        self._queued.append((self._written, records, replaces))
        if not self._syncing:
            self._begin()
        return self._written

    def _begin(self) -> None:
        if self._syncing or not self._queued or self.stalled is not None:
            return
        self._syncing, self._queued = self._queued, []
        self.syncs += 1
        delay = self.sync_s * self.slowness * (0.5 + self._rng.random())
        epoch = self._epoch
        self._schedule(delay, lambda: self._end(epoch))

    def _end(self, epoch: int) -> None:
        if epoch != self._epoch:
            return
        done, self._syncing = self._syncing, []
        self._keep(done)
        self._begin()
        self.synced(done[-1][0])

    def _keep(self, frames: Sequence[DiskFrame]) -> None:
        for _, records, replaces in frames:
            if replaces:
                self.journal.clear()
            self.journal.append(records)
