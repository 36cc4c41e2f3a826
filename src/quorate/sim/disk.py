"""The simulated disk of one node: a journal with group commit, and what a crash leaves of it.

A frame is the records of one Turn and is atomic. One sync covers every frame that was queued when it began. At a
crash, of the frames that are not durable yet a random prefix survives: a later frame never without the earlier ones,
and a torn frame not at all (the real journal cuts it by its checksum). A checkpoint is a frame that replaces all before
it the moment it is durable.

A disk may be worse than that. A sync may fail: the node hears that its disk broke, and nothing of that sync or of a
later one counts. A sync may hang: it reports nothing, and ends when the disk is released, or with the process. A sync
may lie: it reports success, and if power fails while it lies, what it reported is gone. And what was durable may be
damaged, which a node finds when it starts (``damage.py``).
"""

from collections.abc import Callable, Sequence
from random import Random

from quorate.kernel import Record
from quorate.sim.damage import UNNOTICED, Damage, Medium, Refusal, read_damaged

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
        self.broke: Callable[[str], None] = lambda why: None
        """Hears that a sync failed."""
        self.journal: list[Sequence[Record]] = []
        """The durable frames since the last checkpoint, which is the first."""
        self.numbers: list[int] = []
        """By frame, with which write it came."""
        self.begins_with_checkpoint = False
        self.acknowledged = 0
        """How many frames of the journal a node counts on: it heard that they are durable, or started with them."""
        self.damage: list[Damage] = []
        self.is_failing = False
        """Whether the next sync fails."""
        self.is_hung = False
        """Whether no sync ends."""
        self._overdue: int | None = None
        """While it hangs, the epoch of the sync that would have ended."""
        self._writes = 0
        self._honest: int | None = None
        """While syncs lie, how many of the writes are durable."""
        self._is_forgetful = False
        self.syncs = self.frames_lost = self.checkpoints = self.sync_errors = self.syncs_hung = 0
        self.hangs = self.stalls = 0

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
        else:
            self.stalls += 1

    def hang(self) -> None:
        """From now on no sync ends, and nobody is told."""
        self.is_hung = True
        self.hangs += 1

    @property
    def is_overdue(self) -> bool:
        """Whether it hangs, and a sync should have ended."""
        return self._overdue is not None

    def release(self) -> None:
        """What should have ended ends now."""
        self.is_hung = False
        if self._overdue is not None:
            epoch, self._overdue = self._overdue, None
            self._end(epoch)

    def lie(self, is_lying: bool) -> None:
        """Report syncs that do not take place; or be honest again, and write what is owed."""
        self._honest = self._writes if is_lying else None

    def lose_power(self) -> int:
        """What was reported in a lie is gone: how many frames. ``crash`` as well."""
        if self._honest is None:
            return 0
        honest, self._honest = self._honest, None
        kept = sum(1 for number in self.numbers if number <= honest)
        lost = len(self.journal) - kept
        self._is_forgetful = lost > 0
        return lost

    def recover(self, medium: Medium | None) -> Sequence[Sequence[Record]]:
        """The frames with which a node starts. Raises Refusal if it cannot, or must not."""
        if self._is_forgetful:
            raise Refusal(UNNOTICED, "syncs were reported that did not take place, and power failed")
        frames: Sequence[Sequence[Record]] = self.journal
        if self.damage and medium is not None and self.journal:
            frames = read_damaged(self, medium)
            del self.journal[len(frames) :], self.numbers[len(frames) :]
        self.acknowledged = len(self.journal)
        return frames

    def crash(self) -> None:
        """The process is gone, and of what it wrote a prefix survives."""
        pending = self._syncing + self._queued
        kept = int(self._rng.random() * (len(pending) + 1))
        self._keep(pending[:kept])
        self.frames_lost += len(pending) - kept
        self._queued, self._syncing = [], []
        self._epoch += 1
        self._written = 0
        self.is_hung, self._overdue = False, None

    def keep(self, frames: int) -> None:
        """What follows so many frames of the journal is set aside, with all damage. ``crash`` first."""
        del self.journal[frames:], self.numbers[frames:]
        self.damage.clear()
        self.acknowledged = len(self.journal)

    @property
    def is_sound(self) -> bool:
        """Whether all that it has reported is there, and undamaged."""
        return not self.damage and self._honest is None and not self._is_forgetful

    def lose(self) -> None:
        """All that was ever written is gone. ``crash`` first."""
        self.journal.clear()
        self.numbers.clear()
        self.damage.clear()
        self.begins_with_checkpoint = False
        self.acknowledged = 0

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
        if self.is_hung:
            self._overdue = epoch
            self.syncs_hung += 1
        elif self.is_failing:
            self.is_failing = False
            self.sync_errors += 1
            self.failed()
        else:
            self._done()

    def failed(self) -> None:
        """A sync failed. Of what it was to write any part may be there, and no later sync is to be believed."""
        self.broke("a sync failed: input/output error")

    def _done(self) -> None:
        done, self._syncing = self._syncing, []
        self._keep(done)
        self.acknowledged = len(self.journal)
        self._begin()
        self.synced(done[-1][0])

    def _keep(self, frames: Sequence[DiskFrame]) -> None:
        if not frames:
            return
        self._writes += 1
        for _, records, replaces in frames:
            if replaces:
                self.journal.clear()
                self.numbers.clear()
                self.damage.clear()  # a new file
                self.begins_with_checkpoint = True
                self.acknowledged = 0
            self.journal.append(records)
            self.numbers.append(self._writes)
