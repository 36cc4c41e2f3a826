"""Peer: what an Outbox knows of one other node. Everything in it is the peer's claim."""

from __future__ import annotations

from quorate.parts.reliable.messages import EpochBeat


class Peer:
    """``life`` is the latest that showed; epochs are those that the peer said in its life ``told_life``."""

    __slots__ = (
        "_backoff",
        "_has_progress",
        "acknowledged",
        "echo",
        "epoch",
        "held_from",
        "life",
        "opened_at",
        "opened_to",
        "resend_from",
        "resent_at",
        "seen",
        "tick",
        "told_life",
    )

    def __init__(self, ahead_max: int) -> None:
        self.life = 0
        self.told_life = 0
        """The life of the last beat; 0: none came yet."""
        self.epoch = 0
        self.held_from = 0
        self.tick = 0
        """Its newest beat."""
        # What it has of ours.
        self.acknowledged: dict[int, int] = {}
        """By epoch, a mask of numbers."""
        self.echo = 0
        """Our newest beat that it heard."""
        self.opened_to = ahead_max
        """The last epoch whose Letters were let go: all that are sent from now on leave at once."""
        self.opened_at: dict[int, int] = {}
        """By epoch, the beat before it was let go."""
        self.resent_at = 0
        """The beat before the last resend."""
        self.resend_from = 0
        """The beat before which nothing is sent again."""
        self._backoff = 1
        self._has_progress = True
        # What we have of its.
        self.seen: dict[int, int] = {}
        """By epoch, a mask of numbers."""

    def takes(self, epoch: int, ahead_max: int) -> bool:
        """Whether it has use for messages of this epoch now."""
        return self.epoch <= epoch <= self.epoch + ahead_max

    def begin(self, life: int) -> None:
        """A later life than we knew: it has forgotten our messages and begun new numbers."""
        self.life = life
        self.tick = 0
        self.seen = {}
        self.acknowledged = {}
        self._has_progress = True

    def learn(self, beat: EpochBeat) -> bool:
        """Where it says it is. True if it is in another epoch than before. Beats of one life come in any order."""
        if beat.life > self.life:
            self.begin(beat.life)
        before = self.epoch
        if beat.life > self.told_life:  # a new life knows best, even where it is behind the old one
            self.told_life = beat.life
            self.epoch, self.held_from = beat.epoch, beat.held_from
        self.epoch = max(self.epoch, beat.epoch)
        self.held_from = max(self.held_from, beat.held_from)
        self.tick = max(self.tick, beat.tick)
        if self.epoch == before:
            return False
        self._has_progress = True
        for epochs in (self.acknowledged, self.opened_at):
            for old in [epoch for epoch in epochs if epoch < self.epoch]:
                del epochs[old]
        return True

    def acknowledge(self, epoch: int, numbers: int) -> None:
        """It has these numbers of the epoch."""
        known = self.acknowledged.get(epoch, 0)
        if numbers & ~known:
            self.acknowledged[epoch] = known | numbers
            self._has_progress = True

    def has_resent(self, tick: int, backoff_max: int) -> None:
        """Something was sent again. Wait longer where nothing came of the last time."""
        self._backoff = 1 if self._has_progress else min(2 * self._backoff, backoff_max)
        self._has_progress = False
        self.resent_at = tick
        self.resend_from = tick + self._backoff

    def seen_from(self, epoch: int, ahead_max: int) -> tuple[bytes, ...]:
        """What came of it, for a beat; empty sets at the end are left out."""
        masks = [self.seen.get(each, 0) for each in range(epoch, epoch + ahead_max + 1)]
        while masks and not masks[-1]:
            masks.pop()
        return tuple([mask.to_bytes((mask.bit_length() + 7) // 8, "little") for mask in masks])

    def forget_seen_below(self, epoch: int) -> None:
        """We have left these epochs."""
        for old in [each for each in self.seen if each < epoch]:
            del self.seen[old]
