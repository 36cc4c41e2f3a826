"""MessageLog: batches, and the votes on their order (§4.1: a replica's log holds the messages that it accepted).

Durable: ``Stored``, ``Accepted``, ``Prepared``. What a vote rests on is recorded here before the vote is sent.

``NormalCase`` votes, ``Fetching`` adds batches that were missing, ``CatchUp`` adds what a checkpoint proves, and
``Checkpoints`` drops what a stable one stands for. When the view ends, its slots go, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, ClassVar

from quorate.kernel import Env
from quorate.parts.quorum import Byzantine
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft.messages import NULL, Accepted, Prepared, Stored, digest_of, order_of
from quorate.protocols.pbft.slot import Commits, Slot


class MessageLog:
    """Every part may read the public attributes. They change by the methods here; where one is set, it says by whom."""

    commits_class: ClassVar[type[Commits]] = Commits

    def __init__(self, env: Env) -> None:
        self._env = env
        # Durable: by digest, and by sequence number in the latest view.
        self.batches: dict[bytes, tuple[bytes, ...]] = {NULL: ()}
        self.accepted: dict[int, Accepted] = {}
        self.prepared: dict[int, Certificate] = {}
        # Volatile: of this view, and of all views.
        self.slots: dict[int, Slot] = {}
        self.commits: dict[int, Commits] = {}
        self.proven: dict[int, bytes] = {}
        """Digests up to a stable checkpoint that this node has not reached. Set and cleared by ``CatchUp``, and cleared
        by ``Execution`` when a snapshot takes their place."""
        self.next_sequence = 1
        """What a primary numbers its next batch. Set by ``NormalCase``, and by ``NewViews`` as a view begins."""
        self.accepted_to = 0
        """The highest number at which something was accepted in this view. Set by ``NormalCase`` after a crash."""
        self._accepted_at: dict[bytes, int] = {}  # the highest number that a batch was accepted at, in any view

    # --- votes ---

    def slot(self, sequence: int) -> Slot:
        """What is known of a number in this view."""
        slot = self.slots.get(sequence)
        if slot is None:
            slot = self.slots[sequence] = Slot(sequence)
        return slot

    def keep_batch(self, digest: bytes, batch: tuple[bytes, ...]) -> None:
        """A batch that may be executed."""
        if digest not in self.batches:
            self.batches[digest] = batch
            self._env.persist(Stored(batch))

    def accept(self, view: int, sequence: int, digest: bytes, proposal: bytes) -> Slot:
        """§4.2: vote for this order, once and for ever in this view."""
        slot = self.slot(sequence)
        slot.digest, slot.proposal, slot.sent_at = digest, proposal, self._env.now
        accepted = Accepted(view, sequence, digest, proposal)
        self.accepted[sequence] = accepted
        self.accepted_to = max(sequence, self.accepted_to)
        self._accepted_at[digest] = max(sequence, self._accepted_at.get(digest, 0))
        self._env.persist(accepted)
        return slot

    def prepare(self, slot: Slot, certificate: Certificate) -> None:
        """§4.2: a quorum voted for what was accepted here."""
        slot.prepared = self.prepared[slot.sequence] = certificate
        self._env.persist(Prepared(certificate))

    def commits_at(self, sequence: int, quorum: Byzantine) -> Commits:
        """Who committed what at a number."""
        commits = self.commits.get(sequence)
        if commits is None:
            commits = self.commits[sequence] = self.commits_class(quorum)
        return commits

    def decided(self, sequence: int) -> bytes | None:
        """The digest that is known to be decided at a number: by a checkpoint, or by a quorum's commits."""
        if digest := self.proven.get(sequence):
            return digest
        commits = self.commits.get(sequence)
        return None if commits is None else commits.decided

    def numbered(self, after: int) -> set[bytes]:
        """The digests of requests that have a number in this view above ``after``."""
        return {
            sha256(value).digest()
            for sequence, slot in self.slots.items()
            if sequence > after and slot.digest is not None
            for value in self.batches.get(slot.digest, ())
        }

    def end_view(self) -> None:
        """What was voted in it is recorded; nothing else of it is needed."""
        self.slots.clear()
        self.accepted_to = 0

    def begin_epoch(self, executed: int) -> None:
        """Others vote now, and their first view begins after the last batch that was executed."""
        self.end_view()
        self.next_sequence = executed + 1

    # --- what is kept ---

    def drop_ordered(self, low: int) -> None:
        """§4.3: below a stable checkpoint no order is remembered; batches stay while a node may ask for them."""
        tables: tuple[dict[int, Any], ...] = (self.accepted, self.prepared, self.slots, self.commits)
        for table in tables:
            for sequence in [s for s in table if s <= low]:
                del table[sequence]

    def drop_batches(self, low: int, executed: Iterable[bytes]) -> None:
        """Batches that nothing names any more. One that was accepted above the stable checkpoint, in whatever view,
        may have prepared elsewhere: a later view may need it, and nobody else may have it (§4.3: the log holds it)."""
        self._accepted_at = {digest: at for digest, at in self._accepted_at.items() if at > low}
        named = {NULL, *executed, *self._accepted_at}
        named.update(accepted.digest for accepted in self.accepted.values())
        for certificate in self.prepared.values():
            if order := order_of(certificate.statement):
                named.add(order[2])
        self.batches = {digest: batch for digest, batch in self.batches.items() if digest in named}

    def drop_proven(self, executed: int) -> None:
        """What was executed needs no proof."""
        for sequence in [s for s in self.proven if s <= executed]:
            del self.proven[sequence]

    def forget_proven(self, after: int) -> None:
        """Who proved it had no vote beyond this number."""
        self.proven = {sequence: digest for sequence, digest in self.proven.items() if sequence <= after}

    # --- recovery ---

    def restore(self, record: Stored | Accepted | Prepared) -> None:
        """One durable record. What was persisted last about a number holds."""
        if isinstance(record, Stored):
            self.batches[digest_of(record.batch)] = record.batch
        elif isinstance(record, Accepted):
            self.accepted[record.sequence] = record
        else:
            order = order_of(record.certificate.statement)
            if order is None:
                raise ValueError("the journal holds a certificate that proves no order")
            self.prepared[order[1]] = record.certificate

    def batch_records(self) -> Iterator[Stored]:
        """The batches as they are now."""
        for batch in self.batches.values():
            yield Stored(batch)

    def vote_records(self) -> Iterator[Accepted | Prepared]:
        """The votes as they are now."""
        yield from self.accepted.values()
        for certificate in self.prepared.values():
            yield Prepared(certificate)

    def recovered(self, high: int) -> None:
        """Records do not say at which numbers a batch was accepted in earlier views: at most at the high water mark."""
        self._accepted_at = dict.fromkeys(self.batches, high)
