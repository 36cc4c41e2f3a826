"""MessageLog: batches, and the votes on their order (§4.1: a replica's log holds the messages that it accepted).

Durable: ``Stored``, ``Accepted``, ``Prepared``. What a vote rests on is recorded here before the vote is sent.

Bytes. Batches are kept from the older of two snapshots on, for nodes that are behind, and those that were accepted in
whatever view until a stable checkpoint is beyond them. All have at most ``log_bytes_max`` together, and those that were
not executed a quarter of that, so that a primary that lies cannot fill a node with batches that nobody decides. A
backup takes no batch beyond; it does not vote for it, and fetches it if others decide it. The null batch needs no room.
An honest primary gives no reason to refuse: when the log, or its part of the order since the last checkpoint, has grown
so much, it fills the numbers up to the next checkpoint with null batches (``normal.py``). There a snapshot is taken
that lets the rest go (``images.py``), and until it is written, a full log takes nothing.

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
from quorate.protocols.pbft.messages import NULL, Accepted, PbftConfig, Prepared, Stored, digest_of, order_of
from quorate.protocols.pbft.slot import Commits, Slot

REQUEST_OVERHEAD_BYTES = 64
"""What a request of a batch counts for beside its own bytes."""
UNDECIDED_SHARE = 4
"""Of the log's bytes, one part in so many may be of batches that were not executed here."""


class MessageLog:
    """Every part may read the public attributes. They change by the methods here; where one is set, it says by whom."""

    commits_class: ClassVar[type[Commits]] = Commits

    def __init__(self, env: Env, config: PbftConfig) -> None:
        self._env = env
        self._bytes_max, self._batch_bytes_max = config.log_bytes_max, config.batch_bytes_max
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
        self.size_bytes = 0
        """Of the batches."""
        self._sizes: dict[bytes, int] = {}
        self._undecided: dict[bytes, int] = {}  # of those that were not executed
        self._undecided_bytes = 0
        self.is_making_room = False
        """Whether a snapshot is being written that will let batches go. Set by ``Images``."""

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
            self._add(digest, batch)
            self._env.persist(Stored(batch))

    def _add(self, digest: bytes, batch: tuple[bytes, ...]) -> None:
        self.batches[digest] = batch
        size = self._sizes[digest] = self._undecided[digest] = self.size(batch)
        self.size_bytes += size
        self._undecided_bytes += size

    def executed(self, digest: bytes) -> None:
        """The batch was executed; it is kept for others, and to be executed again."""
        self._undecided_bytes -= self._undecided.pop(digest, 0)

    def _uncount(self, digest: bytes) -> None:
        self.executed(digest)
        self.size_bytes -= self._sizes.pop(digest, 0)

    # --- room ---

    @staticmethod
    def size(batch: tuple[bytes, ...]) -> int:
        """What a batch counts for in the limits."""
        return sum(map(len, batch)) + REQUEST_OVERHEAD_BYTES * len(batch)

    def has_room(self, size_bytes: int) -> bool:
        """Whether batches of so many bytes may be taken in."""
        coming = size_bytes + sum([self.size(m.batch) for slot in self.slots.values() if (m := slot.waiting)])
        return (
            self._undecided_bytes + coming <= self._bytes_max // UNDECIDED_SHARE
            and self.size_bytes + coming <= self._bytes_max
        )

    @property
    def is_nearly_full(self) -> bool:
        """Whether it is time for a snapshot, whether one is due or not."""
        return self.size_bytes >= self._bytes_max * 3 // 4

    @property
    def is_full(self) -> bool:
        """Whether it has no room for a batch, and the snapshot that lets most of it go is being written."""
        return self.is_making_room and not self.has_space

    @property
    def has_space(self) -> bool:
        """Whether a batch fits in, decided or not."""
        return self.size_bytes <= self._bytes_max - self._batch_bytes_max

    @property
    def is_over(self) -> bool:
        """Whether what is decided has no room either: no snapshot can be taken, and only one of others will help."""
        return self.size_bytes > self._bytes_max * 9 // 8

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

    def drop_ordered(self, low: int, *, above: int = 0) -> None:
        """§4.3: below a stable checkpoint no order is remembered; batches stay while a node may ask for them.

        Below one that this node has not reached, only those that are ``above`` its water marks.
        """
        tables: tuple[dict[int, Any], ...] = (self.accepted, self.prepared, self.slots, self.commits)
        for table in tables:
            for sequence in [s for s in table if above < s <= low]:
                del table[sequence]

    def drop_batches(self, low: int, executed: Iterable[bytes]) -> None:
        """Batches that nothing names any more. One that was accepted above the stable checkpoint, in whatever view,
        may have prepared elsewhere: a later view may need it, and nobody else may have it (§4.3: the log holds it)."""
        self._accepted_at = {digest: at for digest, at in self._accepted_at.items() if at > low}
        named = self._named(executed) | self._accepted_at.keys()
        for digest in [digest for digest in self.batches if digest not in named]:
            self._uncount(digest)
            del self.batches[digest]

    def _named(self, executed: Iterable[bytes]) -> set[bytes]:
        """The batches of these digests, and those that this node's votes are for."""
        named = {NULL, *executed, *(accepted.digest for accepted in self.accepted.values())}
        for certificate in self.prepared.values():
            if order := order_of(certificate.statement):
                named.add(order[2])
        return named

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
            if (digest := digest_of(record.batch)) not in self.batches:
                self._add(digest, record.batch)
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

    def recovered(self, high: int, executed: Iterable[bytes]) -> None:
        """Records do not say at which numbers a batch was accepted in earlier views: at most at the high water mark.

        Most of those that nothing else names were executed long ago, and are still in the journal. They go when a
        checkpoint is beyond the mark, and take nobody's room until then.
        """
        self._accepted_at = dict.fromkeys(self.batches, high)
        executed = list(executed)
        for digest in executed:  # those before the snapshot were executed in an earlier life
            self.executed(digest)
        named = self._named(executed)
        for digest in [digest for digest in self._sizes if digest not in named]:
            self._uncount(digest)
