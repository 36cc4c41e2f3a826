"""History: what was executed and what proves it, snapshots, and what follows from the order: who is to vote, and when.

Durable: ``Executed`` (a stable checkpoint and the order up to it), ``Taken`` and ``TakenAmong`` (snapshots),
``Footing`` (a checkpoint ahead on which votes rest). After a crash the order is executed again up to the stable
checkpoint; what is beyond it is committed again.

``Execution`` advances it, ``Checkpoints`` makes a checkpoint stable, ``Images`` and ``ImageTransfer`` add snapshots,
``EpochMembers`` sets who is to vote and which nodes there are, and ``CatchUp`` takes up what is ahead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from quorate.kernel import Env
from quorate.parts.log.configuration import FOUNDERS_ALONE, Nodes
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft.group import point_of
from quorate.protocols.pbft.messages import NO_HISTORY, Executed, Footing, Image, Taken, TakenAmong, extend

TERM = 0
"""Of entries: replicas may execute a batch in different views."""


class History:
    """Every part may read the public attributes. They change by the methods here; where one is set, it says by whom."""

    def __init__(self, env: Env, window: int) -> None:
        """``window``: how many batches may be ordered beyond a stable checkpoint."""
        self._env = env
        self._window = window
        # Durable.
        self.stable: Certificate | None = None
        self.low = 0
        """§4.2, the low water mark h: the number of the last stable checkpoint."""
        self.footing: Certificate | None = None
        """§4.4: the checkpoint that a new view began with, if this node has not reached it yet."""
        self.images: list[Image] = []
        """The newest two snapshots."""
        self.base = 0
        """The number of the older one, or of the only one if it came from others."""
        self.digests: dict[int, bytes] = {}
        """Of the batches that were executed after ``kept_after``, by sequence number."""
        # Volatile.
        self.held: list[Image] = []
        """Snapshots before those two that travel to other nodes (``holding.py``), by number."""
        self.cut_off: list[Image] = []
        """One from before a crash, of which the journal no longer has what follows it: others may have the same one."""
        # Recovered up to the stable checkpoint.
        self.executed = 0
        self.index = 0
        """Of the last request in the order."""
        self.digest = NO_HISTORY
        """A hash over the digests of all batches so far: equal ones are equal states."""
        self.recorded = 0
        """The last sequence number whose digest is in a record."""
        self.ahead: Certificate | None = None
        """The latest checkpoint that is proven and not reached."""
        self.came_at = float("-inf")
        """When something came last that was missing here: a batch to execute, or a piece of a snapshot."""
        self._proofs: dict[int, Certificate] = {}  # checkpoints in the journal, until it is recovered
        # Follows from what was executed.
        self.next_members: tuple[int, ...] = ()
        """Who votes after the checkpoint at ``switch_at`` (0: no change is under way)."""
        self.switch_at = 0
        self.switches: dict[int, Certificate] = {}
        """The checkpoints at which members changed, as far as others may need them."""
        self._since: dict[int, int] = {}  # by such a checkpoint, after which one those began to vote who made it
        self.nodes = FOUNDERS_ALONE
        """Which nodes have come and gone. Set by ``EpochMembers``."""
        self.nodes_at: dict[int, Nodes] = {}
        """The same as of each of the images, by sequence number."""
        self.began_at = 0
        """The checkpoint after which the present members vote. Set by ``EpochMembers``."""

    @property
    def is_founded(self) -> bool:
        """Whether this node can prove a checkpoint to the present members.

        Not yet if it goes on from a snapshot of their epoch, and its stable checkpoint is of members before them.
        """
        return self.low >= self.began_at

    @property
    def high(self) -> int:
        """§4.2, the high water mark H. New members begin after a checkpoint that is stable."""
        if not self.is_founded:
            return self.low
        high = self.low + self._window
        return min(high, self.switch_at) if self.switch_at else high

    @property
    def point(self) -> tuple[int, int, bytes]:
        """Sequence, index and history, as a checkpoint states them."""
        return self.executed, self.index, self.digest

    @property
    def kept_after(self) -> int:
        """The number after which the order is here, with its batches: ``base``, or that of the oldest that travels."""
        return self.held[0].sequence if self.held else self.base

    @property
    def shown(self) -> Certificate | None:
        """§4.4: the latest stable checkpoint known here on which votes rest. What prepared is shown from there on."""
        return self.footing or self.stable

    def is_beyond_switch(self, sequence: int) -> bool:
        """Whether others vote there than those whom this node knows: it cannot tell what proves anything there."""
        return self.switch_at != 0 and sequence > self.switch_at

    @property
    def is_switching(self) -> bool:
        """Whether the old members have executed all that they order, and the new ones do not vote yet."""
        return self.switch_at != 0 and self.executed >= self.switch_at

    # --- execution ---

    def advance(self, digest: bytes, count: int) -> None:
        """The next batch, of so many requests, is executed."""
        self.executed += 1
        self.index += count
        self.digest = extend(self.digest, digest)
        self.digests[self.executed] = digest
        self.came_at = self._env.now

    def note_piece(self) -> None:
        """A piece of a snapshot has come."""
        self.came_at = self._env.now

    def stand_on(self, image: Image) -> None:
        """The state is that of this snapshot."""
        self.executed, self.index, self.digest = image.sequence, image.index, image.history

    # --- checkpoints ---

    def stabilize(self, certificate: Certificate) -> None:
        """§4.3: a quorum has executed up to here, and so has this node."""
        self._set_stable(certificate)
        first = max(self.recorded, self.base) + 1
        digests = tuple(self.digests[sequence] for sequence in range(first, self.low + 1))
        self.recorded = max(self.recorded, self.low)
        self._env.persist(Executed(certificate, first, digests))

    def _set_stable(self, certificate: Certificate | None) -> None:
        self.stable, self.low = certificate, point_of(certificate)[0]
        if self.low >= point_of(self.footing)[0]:
            self.footing = None

    def find_footing(self, certificate: Certificate) -> None:
        """§4.4: a new view begins with this checkpoint. If it is not reached here, it is durable before a vote is."""
        if point_of(certificate)[0] > max(self.low, point_of(self.footing)[0]):
            self.footing = certificate
            self._env.persist(Footing(certificate))

    def lose_footing(self) -> None:
        """Those who made the checkpoint on which votes rest had no vote there."""
        self.footing = None

    def look_ahead(self, certificate: Certificate) -> None:
        """A checkpoint beyond what this node executed is proven."""
        if point_of(certificate)[0] > point_of(self.ahead)[0]:
            self.ahead = certificate

    def forget_ahead(self) -> None:
        """Those who made the checkpoint that was ahead had no vote there."""
        self.ahead = None

    def reached(self) -> Certificate | None:
        """The checkpoint that was ahead, once this node is there; it is ahead no more."""
        if self.ahead is None or point_of(self.ahead)[0] > self.executed:
            return None
        reached, self.ahead = self.ahead, None
        return reached

    # --- members ---

    def change_members(self, members: tuple[int, ...], at: int) -> None:
        """These are to vote after the checkpoint at that number. With none and 0, no change is under way."""
        self.next_members, self.switch_at = members, at

    def switched(self) -> None:
        """The checkpoint of the change is stable: keep it for those who are behind."""
        if (proof := self._proofs.get(self.switch_at, self.stable)) is not None:
            self.switches[self.switch_at] = proof
            self._since[self.switch_at] = self.began_at

    def proof_for(self, stable: int, executed: int) -> Certificate | None:
        """The checkpoint that a node that is this far can check: the next change of members, or else the last one.

        None if its next change is before a snapshot that this node went on from, and the proof was not kept.
        """
        switch = min((s for s in self.switches if s > stable and s >= executed), default=0)
        proof, since = (self.switches[switch], self._since[switch]) if switch else (self.stable, self.began_at)
        return None if executed < since else proof

    def drop_switches(self) -> None:
        """Those that only a node needs which must fetch a snapshot anyway."""
        for sequence in [s for s in self.switches if s < self.kept_after]:
            del self.switches[sequence], self._since[sequence]

    # --- snapshots ---

    def record_image(self, image: Image, nodes: Nodes, *, fetched: bool, held: Collection[int] = ()) -> None:
        """A snapshot is durable: our own, or fetched from others. Those at the numbers ``held`` stay besides."""
        self._env.persist(_taken(image, nodes, fetched))
        self._keep_image(image, nodes, fetched, held)

    def _keep_image(self, image: Image, nodes: Nodes, fetched: bool, held: Collection[int] = ()) -> None:
        self.cut_off = []
        before = () if fetched else (*self.held, *self.images[:-1])
        self.held = [old for old in before if old.sequence in held]
        if fetched:
            self.base = image.sequence
            self.recorded = max(self.recorded, image.sequence)
        elif self.images:
            self.base = self.images[-1].sequence
        self.images = [image] if fetched else [*self.images[-1:], image]
        self.nodes_at[image.sequence] = nodes
        self.nodes_at = {kept.sequence: self.nodes_at[kept.sequence] for kept in self.stored}
        for sequence in [s for s in self.digests if s <= self.kept_after]:
            del self.digests[sequence]

    @property
    def stored(self) -> list[Image]:
        """All snapshots that are here, by number."""
        return [*self.cut_off, *self.held, *self.images]

    # --- recovery ---

    def restore(self, record: Executed | Taken | TakenAmong | Footing) -> None:
        """One durable record."""
        if isinstance(record, Footing):
            self.footing = record.certificate
            return
        if isinstance(record, Executed):
            self.digests.update(enumerate(record.digests, record.first))
            self._set_stable(record.certificate)
            if record.certificate is not None:
                self._proofs[self.low] = record.certificate
        else:
            nodes = record.nodes if isinstance(record, TakenAmong) else FOUNDERS_ALONE
            self._keep_image(record.image, nodes, record.fetched)

    def image_records(self) -> Iterator[Taken | TakenAmong]:
        """The snapshots as they are now."""
        for image in [*self.cut_off, *self.images]:
            fetched = image.sequence == self.base and not self.cut_off  # what is cut off is found out again
            yield _taken(image, self.nodes_at[image.sequence], fetched=fetched)

    def order_records(self) -> Iterator[Executed | Footing]:
        """The order after the older snapshot, as far as it is recorded."""
        first = self.base + 1
        for certificate in [*self.switches.values(), self.stable]:
            last = self.recorded if certificate is self.stable else point_of(certificate)[0]
            yield Executed(certificate, first, tuple(self.digests[s] for s in range(first, last + 1)))
            first = max(first, last + 1)
        if self.footing is not None:
            yield Footing(self.footing)

    def take_up_image(self) -> None:
        """The newest snapshot may be newer than the last checkpoint that became stable: then it is the only one.

        Else the journal may have the proof of the change after which the members of the snapshot voted.
        """
        image = self.images[-1]
        epoch, since = (self.images[0].epoch, self.images[0].began_at) if len(self.images) > 1 else (0, 0)
        if image.epoch == epoch + 1 and (proof := self._proofs.get(image.began_at)) is not None:
            self.switches[image.began_at], self._since[image.began_at] = proof, since
        if any(sequence not in self.digests for sequence in range(self.base + 1, image.sequence + 1)):
            nodes_at, older = self.nodes_at, self.images[:-1]
            self._keep_image(image, nodes_at[image.sequence], fetched=True)
            self.cut_off = older
            self.nodes_at.update({old.sequence: nodes_at[old.sequence] for old in older})

    def recovered(self) -> None:
        """All that the journal proves was executed. Raises ValueError if that is not what its checkpoint says."""
        if self.low == self.executed and point_of(self.stable) != self.point:
            raise ValueError(f"the journal's batches are not those of its checkpoint at {self.low}")
        self.recorded = max(self.executed, self.low)
        self._proofs.clear()


def _taken(image: Image, nodes: Nodes, fetched: bool) -> Taken | TakenAmong:
    return TakenAmong(image, fetched, nodes) if nodes else Taken(image, fetched)
