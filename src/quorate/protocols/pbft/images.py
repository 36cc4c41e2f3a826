"""Images: the snapshots that this node takes.

They are rarer than checkpoints, and taken at those that follow from the order alone, so that nodes have the same ones.
Two are kept, and the batches after the older; besides those that travel (``holding.py``). Where some could not be
taken, for want of space, nodes may have none in common: one more is taken, where the order stands still, when a node
asks that cannot go on without.

When the log is nearly full, one is taken at the next checkpoint, whether it is due or not. If there is no room for a
batch when it is written, nothing before it is kept. Others may not have that one, so it counts as none in common.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from quorate.kernel import Env
from quorate.parts.log.configuration import Nodes
from quorate.parts.log.replicated import SnapshotInfo, TakeCommonSnapshot
from quorate.protocols.pbft.history import TERM, History
from quorate.protocols.pbft.holding import Holding
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import Image, PbftConfig
from quorate.protocols.pbft.view import CurrentView

SNAPSHOT = "snapshot"


class Images:
    """When one is due, and the one that is being taken."""

    def __init__(
        self, env: Env, config: PbftConfig, view: CurrentView, log: MessageLog, history: History, holding: Holding
    ) -> None:
        self._env = env
        self._config = config
        self._view = view
        self._log = log
        self._history = history
        self._holding = holding
        self._due_at = 0  # the number of the one that was due last
        self._bytes_since_due = 0
        self._bytes = 0  # of requests, in this life
        self._bytes_at: dict[int, int] = {}  # the same when a snapshot was due, by its number
        self._taking: tuple[Image, Nodes, list[Image]] | None = None  # and those that stay besides
        self.is_alone = False
        """Whether the only one here is one that was taken for want of room, so that others may not have it."""

    def stand_at(self, sequence: int) -> None:
        """The state is that of a snapshot at this number."""
        self._due_at, self._bytes_since_due = sequence, 0
        self._bytes_at[sequence] = self._bytes

    def is_due(self, size_bytes: int) -> bool:
        """After a batch of this size was executed. To be asked after every batch, recovered ones too.

        Decided by the order alone, whether one can be taken or not: nodes must have some in common.
        """
        self._bytes += size_bytes
        self._bytes_since_due += size_bytes
        config, executed = self._config, self._history.executed
        if executed % config.checkpoint_batches:
            return False
        is_switch = executed == self._history.switch_at  # else who is behind could not tell who votes
        few = executed - self._due_at < config.snapshot_batches
        if few and self._bytes_since_due < config.snapshot_bytes and not is_switch:
            return False
        self.stand_at(executed)
        return True

    @property
    def is_wanted(self) -> bool:
        """After a batch was executed: whether it is time to make room."""
        return self._log.is_nearly_full and not self._history.executed % self._config.checkpoint_batches

    @property
    def is_newest_old(self) -> bool:
        """Whether there is no snapshot of the state as it is."""
        images = self._history.images
        return not images or images[-1].sequence < self._history.executed

    def take(self) -> None:
        """Of the state as it is, unless one is being taken."""
        if self._taking is not None:
            return
        history = self._history
        held = self._to_hold()
        self._taking = self._image_now(), history.nodes, held
        self._log.is_making_room = True
        keep = history.images[-1].index if history.images else 0
        spared = tuple(image.index for image in held) or UNSET
        piece_bytes = self._config.chunk_bytes
        self._env.work(SNAPSHOT, TakeCommonSnapshot(history.index, TERM, keep, spared, piece_bytes=piece_bytes))

    def _to_hold(self) -> list[Image]:
        """The snapshots that travel, as far as there is not too much behind them. What is behind one of an earlier life
        is not known, and so too much."""
        numbers, too_long_ago = self._holding.numbers, self._bytes - self._config.hold_bytes_max
        return [
            image
            for image in self._history.stored
            if image.sequence in numbers and self._bytes_at.get(image.sequence, -1) >= max(0, too_long_ago)
        ]

    def _image_now(self) -> Image:
        """What a snapshot of the state now is, but for its file."""
        history, group = self._history, self._view.group
        return Image(
            *(*history.point, 0, bytes(32)),
            *(group.members, group.epoch, history.next_members, history.switch_at),
            *(group.began_at, group.past_members),
        )

    def taken(self, result: Any) -> None:
        """A snapshot is durable; or it is not, and the next one may be."""
        taking, self._taking = self._taking, None
        self._log.is_making_room = False
        if taking is None or not isinstance(result, SnapshotInfo) or result.index != taking[0].index:
            return
        image, nodes, held = taking
        images = self._history.images
        if images and image.sequence <= images[-1].sequence:
            return  # a newer one came from others meanwhile
        image = msgspec.structs.replace(
            image,
            size_bytes=result.size_bytes,
            digest=result.digest,
            root=result.root,
            piece_bytes=self._config.chunk_bytes,
        )
        self.is_alone = not self._log.has_space
        kept = () if self._log.is_nearly_full else [old.sequence for old in held]
        self._history.record_image(image, nodes, fetched=self.is_alone, held=kept)
        if self._log.is_nearly_full:
            self._log.drop_batches(self._history.low, self._history.digests.values())
        first = self._history.stored[0].sequence
        self._bytes_at = {sequence: size for sequence, size in self._bytes_at.items() if sequence >= first}
