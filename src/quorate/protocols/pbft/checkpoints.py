"""Checkpoints (§4.3): how far a quorum has executed, what may be forgotten then, and snapshots.

Every ``checkpoint_batches`` a node signs how far it is: sequence number, index, and the *history*, a hash over the
digests of all batches so far. Execution is deterministic, so equal histories are equal states, and a checkpoint costs
no look at the state. A quorum's checkpoints make it stable: orders up to it are forgotten, and the water marks move.

Snapshots are rarer, at checkpoints that follow from the order alone, so that nodes have the same ones. Two are kept,
and the batches after the older.
"""

from __future__ import annotations

from typing import Any

import msgspec

from quorate.kernel import Key
from quorate.parts.log.configuration import Nodes
from quorate.parts.log.replicated import SnapshotInfo, TakeSnapshot
from quorate.parts.votes.certificate import Certificate, Collector
from quorate.protocols.pbft.group import point_of
from quorate.protocols.pbft.messages import (
    CHECKPOINT,
    Checkpoint,
    Executed,
    Image,
    Stable,
    checkpoint_statement,
)
from quorate.protocols.pbft.normal import NormalCase
from quorate.protocols.pbft.replica import TERM, taken

SNAPSHOT = "snapshot"


class Diverged(RuntimeError):
    """A quorum proved another state than this node has. It must not go on; its data or the group cannot be trusted."""


class Checkpoints(NormalCase):
    """The part of a node that makes and learns checkpoints."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._taking: tuple[Image, Nodes] | None = None

    # --- ours ---

    def _make_checkpoint(self) -> None:
        self._points[self.executed] = (self.index, self.history)
        if self.executed > self.low and self.is_member:
            message = self._checkpoint_at(self.executed)
            self._collector_at(self.executed, message).add_verified(self.env.id, message.signature)
            self._send_others(message)
        self._look_at(self.executed)

    def _checkpoint_at(self, sequence: int) -> Checkpoint:
        index, history = self._points[sequence]
        signature = self.keys.sign(CHECKPOINT, checkpoint_statement(sequence, index, history))
        return Checkpoint(sequence, index, history, signature)

    # --- of all ---

    def on_checkpoint(self, sender: int, m: Checkpoint) -> None:
        """§4.3: count it. One beyond the water marks comes again as a Stable, when this node says where it is."""
        if not self.low < m.sequence <= self.high or m.sequence % self.config.checkpoint_batches:
            return
        if not self.group.has(sender):
            self._blame(sender, "makes a checkpoint, and is no member")
            return
        here = self._checkpoints.get(m.sequence, {})
        statement = checkpoint_statement(m.sequence, m.index, m.history)
        if any(sender in collector.nodes() for other, collector in here.items() if other != statement):
            self._blame(sender, "makes two checkpoints at one number")
            return
        if statement not in here and not self.keys.verify(sender, CHECKPOINT, statement, m.signature):
            self._blame(sender, "makes a checkpoint with a signature that is wrong")  # and leaves nothing here
            return
        if self._collector_at(m.sequence, m).add(sender, m.signature):
            self._look_at(m.sequence)

    def _collector_at(self, sequence: int, m: Checkpoint) -> Collector:
        here = self._checkpoints.setdefault(sequence, {})
        statement = checkpoint_statement(m.sequence, m.index, m.history)
        collector = here.get(statement)
        if collector is None:
            collector = here[statement] = self.group.collector(CHECKPOINT, statement, self._blame)
        return collector

    def _look_at(self, sequence: int) -> None:
        for collector in list(self._checkpoints.get(sequence, {}).values()):
            if collector.certificate is not None:
                self._learn_stable(collector.certificate)
                return

    def on_stable(self, sender: int, m: Stable) -> None:
        """A checkpoint that others have."""
        if point_of(m.certificate)[0] <= self.low:
            return
        if not self.group.is_stable(m.certificate):
            self._blame(sender, "sends a checkpoint that is not proven")
            return
        self._learn_stable(m.certificate)

    def _learn_stable(self, certificate: Certificate) -> None:
        sequence, index, history = point_of(certificate)
        if sequence <= self.low or self._stalled is not None:
            return
        if sequence > self.executed:
            self._catch_up(certificate)
            return
        mine = self._points.get(sequence)
        if mine is not None and mine != (index, history):
            raise Diverged(
                f"node {self.env.id} executed {mine[0]} requests up to batch {sequence}, and a quorum proved {index} "
                "with another history: compare its data with theirs"
            )
        self._make_stable(certificate)

    def _make_stable(self, certificate: Certificate) -> None:
        """§4.3: the quorum's checkpoint takes the place of what led to it."""
        self.stable = certificate
        low = self.low
        first = max(self._recorded, self.base) + 1
        digests = tuple(self.log[sequence] for sequence in range(first, low + 1))
        self._recorded = max(self._recorded, low)
        self.env.persist(Executed(certificate, first, digests))
        self._drop_ordered()
        self._drop_batches()
        self._switch_if_stable()
        self._take_proposals()

    # --- snapshots ---

    def _is_snapshot_due(self, size_bytes: int) -> bool:
        """Decided by the order alone, whether one can be taken or not: nodes must have some in common."""
        self._bytes_since_due += size_bytes
        if self.executed % self.config.checkpoint_batches:
            return False
        is_switch = self.executed == self.switch_at  # else who is behind could not tell who votes
        few = self.executed - self._due_at < self.config.snapshot_batches
        if few and self._bytes_since_due < self.config.snapshot_bytes and not is_switch:
            return False
        self._due_at, self._bytes_since_due = self.executed, 0
        return True

    def _take_snapshot(self) -> None:
        if self._taking is not None:
            return
        self._taking = self._image_now(), self.nodes
        keep = self.images[-1].index if self.images else 0
        self.env.work(SNAPSHOT, TakeSnapshot(self.index, TERM, keep))

    def _image_now(self) -> Image:
        """What a snapshot of the state now is, but for its file."""
        return Image(
            *(self.executed, self.index, self.history, 0, bytes(32)),
            *(self.group.members, self.group.epoch, self.next_members, self.switch_at),
            *(self.group.began_at, self.group.past_members),
        )

    def on_done(self, key: Key, result: Any) -> None:
        """A snapshot is durable; or it is not, and the next one may be."""
        if key != SNAPSHOT:
            super().on_done(key, result)
            return
        taking, self._taking = self._taking, None
        if taking is None or not isinstance(result, SnapshotInfo) or result.index != taking[0].index:
            return
        image, nodes = taking
        if self.images and image.sequence <= self.images[-1].sequence:
            return  # a newer one came from others meanwhile
        image = msgspec.structs.replace(image, size_bytes=result.size_bytes, digest=result.digest)
        self.env.persist(taken(image, nodes))
        self._keep_image(image, nodes, fetched=False)
