"""Replica: the state of one PBFT node, its recovery, and what all parts of the protocol use.

The parts are classes over this one, a subject each: ``requests.py``, ``normal.py``, ``checkpoints.py``, ``views.py``,
``transfer.py``; ``core.py`` joins them. What a part needs of another is declared here.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from typing import Any

from quorate.kernel import Core, Env
from quorate.parts.alarm import Alarm
from quorate.parts.crypto.keys import Keys
from quorate.parts.log.configuration import FOUNDERS_ALONE, Nodes, Voters
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Leads
from quorate.parts.votes.certificate import Certificate, Collector
from quorate.protocols.pbft.early import Early
from quorate.protocols.pbft.group import Group, point_of
from quorate.protocols.pbft.messages import (
    RECORDS,
    Accepted,
    Changing,
    Entered,
    Executed,
    Image,
    NewView,
    PbftConfig,
    Prepared,
    Stored,
    Taken,
    TakenAmong,
    ViewChange,
    digest_of,
    extend,
    order_of,
)
from quorate.protocols.pbft.slot import Commits, Slot

TERM = 0
"""Of entries: replicas may execute a batch in different views."""
REQUEST = "request"
VIEW = "view"
BEAT = "beat"
EXECUTE = "execute"


class Replica(Core):
    """State. Public attributes may be read by checkers and status pages, and by nothing else."""

    records = RECORDS

    def __init__(self, env: Env, config: PbftConfig, keys: Keys) -> None:
        """Raises ValueError for keys of another node, and for members that are no founders."""
        super().__init__(env)
        if keys.node != env.id:
            raise ValueError(f"node {env.id} was given the keys of node {keys.node}")
        self.config = config
        self.keys = keys
        self.founders = tuple(sorted(set(config.founders or env.peers)))
        if strangers := sorted(set(config.members) - set(self.founders)):
            raise ValueError(f"nodes {strangers} are members and not in the group {list(self.founders)}")
        if unknown := sorted(set(self.founders) - set(keys.keyring.nodes)):
            raise ValueError(f"the keyring has no key for nodes {unknown}, which the cluster began with")
        self.group = Group(config.members or self.founders, keys)
        # Durable (Changing, Entered).
        self.view = 0
        self.is_changing = False
        self.new_view: NewView | None = None
        # Durable (Stored, Accepted, Prepared): by digest, and by sequence number in the latest view.
        self.batches: dict[bytes, tuple[bytes, ...]] = {digest_of(()): ()}
        self.accepted: dict[int, Accepted] = {}
        self.prepared: dict[int, Certificate] = {}
        # Durable (Executed, Taken).
        self.stable: Certificate | None = None
        self.images: list[Image] = []  # the newest two snapshots
        self.base = 0  # the older of them, or the only one, if it came from others
        self.log: dict[int, bytes] = {}  # digests of what was executed after that
        # Execution; recovered up to the stable checkpoint, the rest is committed again.
        self.executed = 0
        self.index = 0
        self.history = bytes(32)
        self._proofs: dict[int, Certificate] = {}  # checkpoints in the journal, until it is recovered
        self._recorded = 0  # the last sequence number whose digest is in an Executed record
        self._entries: list[Entry] = []
        self._accepted_at: dict[bytes, int] = {}  # the highest number that a batch was accepted at, in any view
        # Follows from what was executed: who is to vote next, from which checkpoint on (0: no change is under way).
        self.next_members: tuple[int, ...] = ()
        self.switch_at = 0
        self.switches: dict[int, Certificate] = {}  # the checkpoints of the last changes
        self.nodes = FOUNDERS_ALONE  # which nodes have come and gone
        self.nodes_at: dict[int, Nodes] = {}  # the same as of the images, by sequence number
        # Volatile: the view.
        self.slots: dict[int, Slot] = {}
        self.commits: dict[int, Commits] = {}
        self.next_sequence = 1
        self._reach = 0  # of new_view
        self._early = Early()
        self._changes: dict[int, ViewChange] = {}
        self._has_new_members = False
        self._view_timeout_s = config.request_timeout_s
        self._has_executed_in_view = False
        # Volatile: requests by digest, and the order in which a primary proposes them.
        self.pending: OrderedDict[bytes, bytes] = OrderedDict()
        self._pending_bytes = 0
        self._queue: deque[bytes] = deque()
        self._stalled: str | None = None
        self._request_alarm = Alarm(env, REQUEST)
        self._view_alarm = Alarm(env, VIEW)
        # Volatile: checkpoints.
        self._checkpoints: dict[int, dict[bytes, Collector]] = {}
        self._due_at = 0  # of the snapshot that was due last
        self._bytes_since_due = 0
        self._points: dict[int, tuple[int, bytes]] = {}  # index and history at our own, above the stable one

    # --- the parts, to each other ---

    def _accept(self, sequence: int, digest: bytes, proposal: bytes) -> None:
        """Vote for an order in this view."""
        raise NotImplementedError

    def _leave_view(self, view: int) -> None:
        """Ask for this view."""
        raise NotImplementedError

    def _learn_stable(self, certificate: Certificate) -> None:
        """A checkpoint is proven."""
        raise NotImplementedError

    def _catch_up(self, certificate: Certificate) -> None:
        """A checkpoint beyond what this node executed is proven."""
        raise NotImplementedError

    def _requeue(self) -> None:
        """A view began: what is pending is to be proposed, or its execution awaited."""
        raise NotImplementedError

    def _hear_early(self) -> None:
        """A view began: take the messages for it that came before."""
        raise NotImplementedError

    def _take_proposals(self) -> None:
        """The water marks moved: accept what the new view proposes there."""
        raise NotImplementedError

    def _forget_request(self, value: bytes) -> None:
        """It was executed."""
        raise NotImplementedError

    def _fetch_batches(self, digests: Sequence[bytes]) -> None:
        """Batches that this node lacks."""
        raise NotImplementedError

    def _make_checkpoint(self) -> None:
        """Tell the others how far this node is."""
        raise NotImplementedError

    def _kind_of(self, value: bytes) -> int:
        """Of a request that is executed: a command, or other members."""
        raise NotImplementedError

    def _take_snapshot(self) -> None:
        """Of the state as it is."""
        raise NotImplementedError

    def _is_snapshot_due(self, size_bytes: int) -> bool:
        """After a batch of this size was executed. To be asked after every batch, recovered ones too."""
        raise NotImplementedError

    # --- what all use ---

    @property
    def primary(self) -> int:
        """Of this view."""
        return self.group.primary(self.view)

    @property
    def is_primary(self) -> bool:
        """Whether this node leads the view, and the view has begun."""
        return self.primary == self.env.id and not self.is_changing

    @property
    def is_member(self) -> bool:
        """Whether this node votes."""
        return self.group.has(self.env.id)

    @property
    def leader(self) -> int | None:
        """The primary, while the view works."""
        return None if self.is_changing else self.primary

    @property
    def voters(self) -> Voters:
        """For status pages."""
        return Voters(self.group.members, self.next_members, self.group.epoch)

    @property
    def role(self) -> str:
        """For status pages."""
        return "primary" if self.is_primary else "backup" if self.is_member else "learner"

    @property
    def term(self) -> int:
        """For status pages: the view."""
        return self.view

    @property
    def commit_index(self) -> int:
        """For status pages."""
        return self.index

    @property
    def low(self) -> int:
        """§4.2, the low water mark h: the last stable checkpoint."""
        return point_of(self.stable)[0]

    @property
    def high(self) -> int:
        """The high water mark H. New members begin after a checkpoint that is stable."""
        high = self.low + self.config.window
        return min(high, self.switch_at) if self.switch_at else high

    def _send_others(self, message: Any) -> None:
        self.env.send(self.env.others, message)

    def _blame(self, node: int, why: str) -> None:
        if node != self.env.id:
            self.env.blame(node, why)

    def _slot(self, sequence: int) -> Slot:
        slot = self.slots.get(sequence)
        if slot is None:
            slot = self.slots[sequence] = Slot(sequence)
        return slot

    def _keep_batch(self, digest: bytes, batch: tuple[bytes, ...]) -> None:
        if digest not in self.batches:
            self.batches[digest] = batch
            self.env.persist(Stored(batch))

    def _take_over_members(self, image: Image, nodes: Nodes) -> None:
        """The members of a snapshot, and which nodes there are."""
        raise NotImplementedError

    def _switch_if_stable(self) -> None:
        """Whether new members begin now."""
        raise NotImplementedError

    def _announce(self) -> None:
        self.env.deliver(Leads(self.view, self.leader))

    # --- recovery ---

    def restore(self, record: Any) -> None:
        """One durable record. What was persisted last about a number or a view holds."""
        if isinstance(record, Stored):
            self.batches[digest_of(record.batch)] = record.batch
        elif isinstance(record, Accepted):
            self.accepted[record.sequence] = record
        elif isinstance(record, Prepared):
            order = order_of(record.certificate.statement)
            if order is None:
                raise ValueError("the journal holds a certificate that proves no order")
            self.prepared[order[1]] = record.certificate
        elif isinstance(record, Changing):
            self.view, self.is_changing = record.view, True
        elif isinstance(record, Entered):
            self.view, self.is_changing, self.new_view = record.message.view, False, record.message
        elif isinstance(record, Executed):
            self.log.update(enumerate(record.digests, record.first))
            self.stable = record.certificate
            if record.certificate is not None:
                self._proofs[self.low] = record.certificate
            self._drop_ordered()
        elif isinstance(record, Taken):
            self._keep_image(record.image, FOUNDERS_ALONE, record.fetched)
        elif isinstance(record, TakenAmong):
            self._keep_image(record.image, record.nodes, record.fetched)

    def checkpoint(self) -> Iterator[Any]:
        """The durable state as it is now."""
        for image in self.images:
            yield taken(image, self.nodes_at[image.sequence], fetched=image.sequence == self.base)
        for batch in self.batches.values():
            yield Stored(batch)
        first = self.base + 1
        for certificate in [*self.switches.values(), self.stable]:
            last = self._recorded if certificate is self.stable else point_of(certificate)[0]
            yield Executed(certificate, first, tuple(self.log[s] for s in range(first, last + 1)))
            first = max(first, last + 1)
        if self.new_view is not None:
            yield Entered(self.new_view)
        if self.is_changing:
            yield Changing(self.view)
        yield from self.accepted.values()
        for certificate in self.prepared.values():
            yield Prepared(certificate)

    def _keep_image(self, image: Image, nodes: Nodes, fetched: bool) -> None:
        if fetched:
            self.base = image.sequence
        elif self.images:
            self.base = self.images[-1].sequence
        self.images = [image] if fetched else [*self.images[-1:], image]
        self.nodes_at[image.sequence] = nodes
        self.nodes_at = {kept.sequence: self.nodes_at[kept.sequence] for kept in self.images}
        for sequence in [s for s in self.log if s <= self.base]:
            del self.log[sequence]

    def _recover(self) -> None:
        """Execute again from the newest snapshot to the stable checkpoint; what is beyond commits again."""
        if self.images:
            image = self.images[-1]
            self.executed, self.index, self.history = image.sequence, image.index, image.history
            self._due_at = image.sequence
            self._take_over_members(image, self.nodes_at[image.sequence])
            self._switch_if_stable()
            if any(sequence not in self.log for sequence in range(self.base + 1, image.sequence + 1)):
                # It is newer than the last checkpoint that became stable.
                self._keep_image(image, self.nodes_at[image.sequence], fetched=True)
        for sequence in range(self.executed + 1, self.low + 1):
            digest = self.log.get(sequence)
            if digest is None or digest not in self.batches:
                raise ValueError(f"the journal lacks batch {sequence}, below its checkpoint at {self.low}")
            self._execute(sequence, digest)
            self._is_snapshot_due(sum(map(len, self.batches[digest])))
            self._switch_if_stable()
        if self.low == self.executed and point_of(self.stable) != (self.executed, self.index, self.history):
            raise ValueError(f"the journal's batches are not those of its checkpoint at {self.low}")
        self._recorded = max(self.executed, self.low)
        self._proofs.clear()
        self._accepted_at = dict.fromkeys(self.batches, self.high)  # records do not say: at most there

    # --- execution ---

    def _execute(self, sequence: int, digest: bytes) -> None:
        """Hand up one batch; in order, and once. ``_flush`` delivers."""
        batch = self.batches[digest]
        self.executed = sequence
        self._entries += [Entry(TERM, value, self._kind_of(value)) for value in batch]
        self.index += len(batch)
        self.history = extend(self.history, digest)
        self.log[sequence] = digest
        for value in batch:
            self._forget_request(value)

    # --- what is kept ---

    def _drop_ordered(self) -> None:
        """§4.3: below a stable checkpoint no order is remembered; batches stay while a node may ask for them."""
        low = self.low
        tables: tuple[dict[int, Any], ...] = (
            *(self.accepted, self.prepared, self.slots),
            *(self.commits, self._checkpoints, self._points),
        )
        for table in tables:
            for sequence in [s for s in table if s <= low]:
                del table[sequence]

    def _drop_batches(self) -> None:
        """Batches that nothing names any more. One that was accepted above the stable checkpoint, in whatever view,
        may have prepared elsewhere: a later view may need it, and nobody else may have it (§4.3: the log holds it)."""
        self._accepted_at = {digest: at for digest, at in self._accepted_at.items() if at > self.low}
        named = {digest_of(()), *self.log.values(), *self._accepted_at}
        named.update(accepted.digest for accepted in self.accepted.values())
        for certificate in self.prepared.values():
            if order := order_of(certificate.statement):
                named.add(order[2])
        self.batches = {digest: batch for digest, batch in self.batches.items() if digest in named}
        self.switches = {sequence: proof for sequence, proof in self.switches.items() if sequence >= self.base}


def taken(image: Image, nodes: Nodes, fetched: bool = False) -> Taken | TakenAmong:
    """The record of a snapshot."""
    return TakenAmong(image, fetched, nodes) if nodes else Taken(image, fetched)
