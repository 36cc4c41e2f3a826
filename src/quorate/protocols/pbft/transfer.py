"""Catching up: what was lost is sent again, and a node that fell behind fetches what was decided (thesis §5.2, §5.3).

Once a beat every node says how far it is. Who is ahead answers with what the other lacks: the view, a stable
checkpoint, its own votes. Nothing of it is believed without proof.

A node that a stable checkpoint has left behind asks for the digests of the batches up to it. The checkpoint's history
proves them, they prove the batches, and these are executed without a vote. Where the others do not have them any more,
they offer snapshots; one that f + 1 nodes name is that of a correct node, and its digest proves the pieces.

A node that joins knows the founders as the first members. Where these are gone it believes f + 1 of the nodes that it
was told of, until it has a stable checkpoint: that these are the cluster is its administrator's word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from quorate.kernel import Failed, Key
from quorate.parts.log.configuration import FOUNDERS_ALONE, Nodes
from quorate.parts.log.replicated import Chunk, ReadChunk, Restored, WriteChunk, Written
from quorate.parts.quorum import Byzantine
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft.group import point_of
from quorate.protocols.pbft.messages import (
    OFFER,
    BatchOf,
    FetchBatch,
    FetchImage,
    FetchLog,
    Image,
    ImagePiece,
    LogOf,
    Offer,
    OfferAmong,
    Stable,
    Status,
    digest_of,
    extend,
    offer_among_statement,
    offer_statement,
)
from quorate.protocols.pbft.replica import BEAT, TERM, taken
from quorate.protocols.pbft.views import Views

RESENT_MAX = 16
"""Slots of which a node's own votes are sent again in answer to one Status."""
FETCHED_MAX = 16
"""Batches that are asked for at a time."""
PATIENCE_BEATS = 5
SERVE = "serve"
INSTALL = "install"

Still: TypeAlias = tuple[Image, Nodes]
"""A snapshot, and which nodes there are after it."""


class Transfer(Views):
    """The part of a node that catches up, and helps others to."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.ahead: Certificate | None = None  # the latest checkpoint that is proven and not reached
        self._proven: dict[int, bytes] = {}  # digests up to a proven checkpoint, by sequence number
        self._wanted: dict[bytes, float] = {}  # batches asked for, and when
        self._executed_at_beat = 0
        self._offers: dict[int, tuple[Still, ...]] = {}
        self._image: Image | None = None  # that is being fetched
        self._image_nodes = FOUNDERS_ALONE
        is_newcomer = self.env.id not in self.founders
        self._told = Byzantine(self.env.others).weak if is_newcomer and self.env.others else None
        self._source = 0
        self._offset = 0
        self._idle_beats = 0
        self._is_writing = False
        self._serving: set[int] = set()
        self._helped: dict[int, float] = {}  # whose Status was answered, and when

    # --- the beat ---

    def _beat(self) -> None:
        self.env.set_timer(BEAT, self.config.beat_s)
        if self._stalled is not None:
            return
        self._send_others(Status(self.view, self.is_changing, self.executed, self.low))
        self._pass_on()
        is_behind = self.ahead is not None or self._image is not None
        if is_behind and self.executed == self._executed_at_beat:
            self._seek()
        else:
            self._idle_beats = 0
        self._executed_at_beat = self.executed

    def on_status(self, sender: int, m: Status) -> None:
        """Help whoever is behind; once a beat, however often it asks."""
        if self.env.now - self._helped.get(sender, float("-inf")) < self.config.beat_s / 2:
            return
        self._helped[sender] = self.env.now
        if m.view < self.view or (m.view == self.view and m.is_changing):
            self._show_view(sender)
        if m.executed < self.base and self.group.epoch:
            self.env.send(sender, self._offer())  # it may not know who votes now
        elif m.stable < self.low and self.stable is not None:
            self.env.send(sender, Stable(self.switches.get(self._first_proof(m.stable, m.executed), self.stable)))
        for sequence in sorted(self._points):
            if sequence > m.stable and self.is_member:
                self.env.send(sender, self._checkpoint_at(sequence))
        first = max(m.executed, self.low) + 1
        in_view = m.view == self.view and not self.is_changing and not m.is_changing
        for sequence in range(first, first + RESENT_MAX):
            slot = self.slots.get(sequence)
            if slot is not None and self.env.now - slot.sent_at < self.config.beat_s:
                break  # it may still be on its way
            if slot is not None and in_view:
                self._resend_order(sender, slot)
            if sequence in self.prepared and self.is_member:
                self.env.send(sender, self._commit(sequence))
            if sequence in self.log and self.is_member:
                self.env.send(sender, self._decided(sequence))

    # --- batches ---

    def _fetch_batches(self, digests: Sequence[bytes]) -> None:
        now = self.env.now
        for digest in digests if self._stalled is None else ():
            if digest in self.batches or now - self._wanted.get(digest, float("-inf")) < self.config.beat_s:
                continue
            if len(self._wanted) >= FETCHED_MAX and digest not in self._wanted:
                self._wanted = {d: at for d, at in self._wanted.items() if now - at < self.config.beat_s}
                if len(self._wanted) >= FETCHED_MAX:
                    return
            self._wanted[digest] = now
            self.env.send(self._somebody(), FetchBatch(digest))

    def _somebody(self) -> int:
        others = self.env.others
        return others[int(self.env.rng.random() * len(others))] if others else self.env.id

    def on_fetch_batch(self, sender: int, m: FetchBatch) -> None:
        """Whoever has it answers."""
        batch = self.batches.get(m.digest)
        if batch is not None:
            self.env.send(sender, BatchOf(batch))

    def on_batch_of(self, sender: int, m: BatchOf) -> None:
        """The digest says whether it is one that was asked for."""
        digest = digest_of(m.batch)
        if self._stalled is None and self._wanted.pop(digest, None) is not None:
            self._keep_batch(digest, m.batch)

    # --- the log up to a checkpoint ---

    def _catch_up(self, certificate: Certificate) -> None:
        if point_of(certificate)[0] > point_of(self.ahead)[0]:
            self.ahead = certificate

    def _seek(self) -> None:
        """Nothing was executed for a beat, and others are proven to be ahead."""
        self._idle_beats += 1
        if self._idle_beats % PATIENCE_BEATS == 0:
            self._proven.clear()  # nobody has these batches any more, perhaps
        if self._image is not None:
            self._nudge()
        elif (missing := self._next_proven()) is not None:
            self._fetch_batches(missing)
        else:
            self.env.send(self._somebody(), FetchLog(self.executed))

    def _next_proven(self) -> list[bytes] | None:
        """The batches to come that are proven; None where none is."""
        first = self.executed + 1
        if first not in self._proven:
            return None
        return [self._proven[s] for s in range(first, first + FETCHED_MAX) if s in self._proven]

    def on_fetch_log(self, sender: int, m: FetchLog) -> None:
        """The digests, or what snapshots there are."""
        if self.stable is None or m.after >= self.low:
            return
        if m.after >= self.base and self._recorded >= self.low:
            last = self._first_proof(m.after, m.after)
            digests = tuple(self.log[sequence] for sequence in range(m.after + 1, last + 1))
            self.env.send(sender, LogOf(m.after, digests, self.switches.get(last, self.stable)))
        elif self.images:
            self.env.send(sender, self._offer())

    def on_log_of(self, sender: int, m: LogOf) -> None:
        """Believed if the digests lead from this node's history to the checkpoint's."""
        if m.after != self.executed or self._proven or self._stalled is not None:
            return
        if not self._is_log(m):
            self._blame(sender, "sends a log that its checkpoint does not prove")
            return
        self._catch_up(m.certificate)
        self._proven = dict(enumerate(m.digests, m.after + 1))
        self._fetch_batches(list(m.digests[:FETCHED_MAX]))

    def _is_log(self, m: LogOf) -> bool:
        """Cheap checks first: a log is long."""
        sequence, _, proven = point_of(m.certificate)
        if sequence != m.after + len(m.digests) or not self.group.is_stable(m.certificate):
            return False
        history = self.history
        for digest in m.digests:
            history = extend(history, digest)
        return history == proven

    def _next_digest(self, sequence: int) -> bytes | None:
        return self._proven.get(sequence) or super()._next_digest(sequence)

    def _forget_proven(self) -> None:
        """What was reached needs no proof; and the checkpoint that proved it is ours now."""
        if self._proven:
            for sequence in [s for s in self._proven if s <= self.executed]:
                del self._proven[sequence]
            if missing := self._next_proven():
                self._fetch_batches(missing)
        if self.ahead is not None and point_of(self.ahead)[0] <= self.executed:
            reached, self.ahead = self.ahead, None
            self._learn_stable(reached)

    # --- snapshots ---

    def _offer(self) -> Offer | OfferAmong:
        images = tuple(self.images)
        nodes = tuple(self.nodes_at[image.sequence] for image in images)
        if any(nodes):
            return OfferAmong(images, nodes, self._proofs_of(OFFER, offer_among_statement(images, nodes)))
        return Offer(images, self._proofs_of(OFFER, offer_statement(images)))

    def on_offer(self, sender: int, m: Offer) -> None:
        """Snapshots from before anybody joined or left."""
        self._offered(sender, [(image, FOUNDERS_ALONE) for image in m.images], offer_statement(m.images), m.proofs)

    def on_offer_among(self, sender: int, m: OfferAmong) -> None:
        """Snapshots with what became of the nodes."""
        if len(m.images) != len(m.nodes) or not all(nodes.may_be(self.founders) for nodes in m.nodes):
            self._blame(sender, "offers snapshots with nodes that cannot be")
            return
        offered = list(zip(m.images, m.nodes, strict=True))
        self._offered(sender, offered, offer_among_statement(m.images, m.nodes), m.proofs)

    def _offered(self, sender: int, offered: Sequence[Still], statement: bytes, proofs: tuple[bytes, ...]) -> None:
        """f + 1 nodes that name the same snapshot: one of them is correct."""
        if self._image is not None:
            return
        if not self.group.is_proven(sender, OFFER, statement, proofs, self._by_mac):
            self._blame(sender, "offers snapshots with a proof that is wrong")
            return
        self._offers[sender] = tuple(offered)
        floor = self.high if self.ahead is None else self.executed
        votes: dict[Still, int] = {}
        for node, stills in self._offers.items():
            for still in stills:
                votes[still] = votes.get(still, 0) | 1 << node
        known = [still for still, mask in votes.items() if still[0].sequence > floor and self._are_believed(mask)]
        if known:
            self._image, self._image_nodes = max(known, key=lambda still: still[0].sequence)
            self._begin_fetch(sender)

    def _are_believed(self, mask: int) -> bool:
        """Whether one of them is correct."""
        if self._told is not None and self.stable is None and self._told.is_quorum(mask):
            return True
        return self.group.quorum.weak.is_quorum(mask)

    def _begin_fetch(self, source: int) -> None:
        self._source, self._offset, self._idle_beats = source, 0, 0
        self._ask_piece()

    def _ask_piece(self) -> None:
        assert self._image is not None
        self.env.send(self._source, FetchImage(self._image.index, self._offset))

    def _nudge(self) -> None:
        """The source does not answer: ask again, then another one, then for newer offers."""
        if self._idle_beats % PATIENCE_BEATS == 0:
            self._give_up_source()
        elif not self._is_writing:
            self._ask_piece()

    def _give_up_source(self) -> None:
        """Another node may be honest, or alive."""
        image = self._image
        self._offers.pop(self._source, None)
        sources = [node for node, stills in sorted(self._offers.items()) if (image, self._image_nodes) in stills]
        if sources:
            self._begin_fetch(sources[0])
        else:
            self._image = None
            self._offers.clear()

    def on_fetch_image(self, sender: int, m: FetchImage) -> None:
        """One piece at a time for each node."""
        if sender not in self._serving and any(image.index == m.index for image in self.images):
            self._serving.add(sender)
            self.env.work((SERVE, sender), ReadChunk(m.index, m.offset, self.config.chunk_bytes))

    def on_image_piece(self, sender: int, m: ImagePiece) -> None:
        """Store it. The size and the digest are those that f + 1 nodes named."""
        image, chunk = self._image, m.chunk
        if image is None or sender != self._source or self._is_writing or chunk.index != image.index:
            return
        if chunk.offset != self._offset or chunk.total_bytes != image.size_bytes:
            return
        self._is_writing = True
        job = WriteChunk(image.index, TERM, chunk.offset, chunk.data, image.size_bytes, image.digest)
        self.env.work(INSTALL, job)

    def on_done(self, key: Key, result: Any) -> None:
        """A piece was read for somebody, or stored."""
        if key == INSTALL:
            self._is_writing = False
            self._stored(result)
        elif isinstance(key, tuple) and key[0] == SERVE:
            self._serving.discard(key[1])
            if isinstance(result, Chunk):
                self.env.send(key[1], ImagePiece(result))
        else:
            super().on_done(key, result)

    def _stored(self, result: Any) -> None:
        image = self._image
        if image is None:
            return
        if isinstance(result, Failed):
            self._give_up_source()
        elif isinstance(result, Written) and result.index == image.index:
            self._idle_beats = 0
            self._offset = result.next_offset
            if result.complete:
                self._install(image)
            else:
                self._ask_piece()

    def _install(self, image: Image) -> None:
        """The state is that of the snapshot; the checkpoint that left this node behind proves what follows it."""
        self._image = None
        self._offers.clear()
        if image.sequence <= self.executed:
            return
        self._flush()
        self.executed, self.index, self.history = image.sequence, image.index, image.history
        self._recorded = max(self._recorded, image.sequence)
        self._due_at, self._bytes_since_due = image.sequence, 0
        nodes = self._image_nodes
        self._take_over_members(image, nodes)
        self._proven.clear()
        self._forget_requests()
        self.env.persist(taken(image, nodes, fetched=True))
        self._keep_image(image, nodes, fetched=True)
        self.env.deliver(Restored(image.index, TERM))
        self._make_checkpoint()  # others may have waited for this node's word
        if point_of(self.ahead)[0] > image.sequence:
            self.env.send(self._somebody(), FetchLog(self.executed))
