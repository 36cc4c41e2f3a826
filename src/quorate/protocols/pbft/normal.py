"""The normal case (§4.2): pre-prepare, prepare, commit; many batches at once between the water marks.

The primary gives each batch the next sequence number. A backup that accepts says so to all; when a quorum voted the
same, the order is *prepared*: no other can be in this view. Then it commits, and when a quorum committed, the batch
is executed, after all before it. A node's own vote counts at once: whatever rests on it waits for its record like all
that this node says.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from quorate.parts import requests
from quorate.parts.crypto.keys import Signed
from quorate.parts.log import replicated
from quorate.parts.log.replicated import ReadFailed, ReadReady
from quorate.protocols.pbft.messages import (
    COMMIT,
    DECIDED,
    PREPARE,
    Accepted,
    Commit,
    Decided,
    Prepare,
    Prepared,
    PrePrepare,
    digest_of,
    order_of,
    order_statement,
)
from quorate.protocols.pbft.replica import EXECUTE
from quorate.protocols.pbft.requests import Check, Requests
from quorate.protocols.pbft.slot import Commits, Slot

READS_MAX = 65_536


class NormalCase(Requests):
    """The part of a node that orders and executes."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._reads: list[tuple[int, tuple[int, ...]]] = []
        self._is_paused = False  # until the next step, so that a snapshot is of the state at its checkpoint

    # --- the primary ---

    def _propose(self) -> None:
        """Give numbers to what waits; few at a time, so that the rest goes together."""
        config = self.config
        self.next_sequence = max(self.next_sequence, self.executed + 1)  # a later view may have decided some of ours
        while (
            (self._queue or self.executed < self.switch_at)
            and self.is_primary
            and self._stalled is None
            and self.next_sequence <= self.high
            and self.next_sequence - 1 - self.executed < config.inflight_batches
        ):
            batch = self._next_batch()
            if batch or self.executed < self.switch_at:
                self._order(self.next_sequence, batch)
                self.next_sequence += 1

    def _next_batch(self) -> tuple[bytes, ...]:
        config = self.config
        batch: list[bytes] = []
        size = 0
        while self._queue and len(batch) < config.batch_count_max:
            value = self.pending.get(self._queue[0])
            if value is not None:  # else it was executed meanwhile
                size += len(value)
                if batch and size > config.batch_bytes_max:
                    break
                batch.append(value)
            self._queue.popleft()
        return tuple(batch)

    def _order(self, sequence: int, batch: tuple[bytes, ...]) -> None:
        digest = digest_of(batch)
        signature = self.keys.sign(PREPARE, order_statement(self.view, sequence, digest))
        self._keep_batch(digest, batch)
        self._accept(sequence, digest, signature)
        self._send_others(PrePrepare(self.view, sequence, digest, signature, batch))

    # --- pre-prepare ---

    def on_pre_prepare(self, sender: int, m: PrePrepare) -> None:
        """§4.2: right view, from its primary, between the water marks, signed, and no other before it."""
        if not self._is_now(sender, m):
            return
        if sender != self.primary or sender == self.env.id:
            self._blame(sender, "proposes in a view that it does not lead")
            return
        slot = self._slot(m.sequence)
        if slot.digest == m.digest or (slot.waiting is not None and slot.waiting.digest == m.digest):
            return
        if not self._is_digest(m.digest, m.batch) or not self._fits(m.batch):
            self._blame(sender, "proposes a batch that is not what its digest says, or too large")
        elif not self.keys.verify(sender, PREPARE, order_statement(m.view, m.sequence, m.digest), m.signature):
            self._blame(sender, "proposes with a signature that is wrong")
        elif slot.digest is not None or slot.waiting is not None:
            self._equivocates(sender)
        else:
            self._check_batch(slot, m)

    def _is_digest(self, digest: bytes, batch: tuple[bytes, ...]) -> bool:
        return digest_of(batch) == digest

    def _fits(self, batch: Sequence[bytes]) -> bool:
        config = self.config
        return len(batch) <= config.batch_count_max and (
            len(batch) <= 1 or sum(map(len, batch)) <= config.batch_bytes_max
        )

    def _check_batch(self, slot: Slot, m: PrePrepare) -> None:
        """§4.2: the requests are signed by their clients. Most came from them before."""
        fresh: dict[bytes, tuple[bytes, Signed]] = {}
        for value in m.batch:
            digest = sha256(value).digest()
            if digest in self.pending:
                continue
            request = requests.decode(value)
            if request is None:
                self._blame(self.primary, "proposes what is no request")
                return
            fresh[digest] = (value, requests.claim(request))
        if fresh:
            slot.waiting = m
            slot.unchecked = self._check(self.primary, fresh, m.sequence)
        else:
            self._keep_batch(m.digest, m.batch)
            self._accept(m.sequence, m.digest, m.signature)

    def _checked(self, check: Check, is_good: bool) -> None:
        slot = self._slot_of(check)
        if slot is None or slot.waiting is None:
            return
        m = slot.waiting
        if not is_good:
            self._blame(self.primary, "proposes a request that its client did not sign")
            return
        slot.unchecked.remove(check.number)
        if not slot.unchecked:
            slot.waiting = None
            if self._stalled is None:
                self._keep_batch(m.digest, m.batch)
                self._accept(m.sequence, m.digest, m.signature)

    def _not_checked(self, check: Check) -> None:
        slot = self._slot_of(check)
        if slot is not None:
            slot.waiting = None  # it may come again

    def _slot_of(self, check: Check) -> Slot | None:
        """The slot that waits for it; None where the check is of an earlier view, or of what came before."""
        slot = self.slots.get(check.sequence or 0)
        return slot if slot is not None and slot.waiting is not None and check.number in slot.unchecked else None

    def _accept(self, sequence: int, digest: bytes, proposal: bytes) -> None:
        """Vote, once and for ever in this view. The record is durable before the vote leaves."""
        slot = self._slot(sequence)
        slot.digest, slot.proposal, slot.sent_at = digest, proposal, self.env.now
        accepted = Accepted(self.view, sequence, digest, proposal)
        self.accepted[sequence] = accepted
        self._accepted_at[digest] = max(sequence, self._accepted_at.get(digest, 0))
        self.env.persist(accepted)
        self._collector(slot, digest).add_verified(self.primary, proposal)
        if self.is_member and self.primary != self.env.id:
            message = self._prepare(slot)
            slot.prepare_of[self.env.id] = digest
            self._collector(slot, digest).add_verified(self.env.id, message.signature)
            self._send_others(message)
        for other, (node, signature) in sorted(slot.proposals.items()):
            if other != digest and self._differs(node, slot, other, signature):
                return
        self._check_prepared(slot)

    def _differs(self, node: int, slot: Slot, digest: bytes, proposal: bytes) -> bool:
        """A backup names another batch than this node accepted: whether the primary told two stories. Else it lies."""
        if self.keys.verify(self.primary, PREPARE, order_statement(self.view, slot.sequence, digest), proposal):
            self._equivocates(self.primary)
            return True
        self._blame(node, "prepares what the primary did not propose")
        return False

    def _prepare(self, slot: Slot) -> Prepare:
        assert slot.digest is not None
        signature = self.keys.sign(PREPARE, order_statement(self.view, slot.sequence, slot.digest))
        return Prepare(self.view, slot.sequence, slot.digest, signature, slot.proposal)

    # --- prepare ---

    def on_prepare(self, sender: int, m: Prepare) -> None:
        """§4.2: count it. One that names another batch may bear the proof that the primary told two stories."""
        if not self._is_now(sender, m):
            return
        if sender == self.primary or not self.group.has(sender):
            self._blame(sender, "prepares, and is no backup")
            return
        slot = self._slot(m.sequence)
        if slot.prepare_of.setdefault(sender, m.digest) != m.digest:
            self._blame(sender, "prepares two batches at one number")
            return
        if slot.digest is None:
            slot.proposals.setdefault(m.digest, (sender, m.proposal))
        elif slot.digest != m.digest:
            self._differs(sender, slot, m.digest, m.proposal)
            return
        if slot.prepared is not None:
            return
        self._collector(slot, m.digest).add(sender, m.signature)
        self._check_prepared(slot)

    def _collector(self, slot: Slot, digest: bytes) -> Any:
        collector = slot.collectors.get(digest)
        if collector is None:
            statement = order_statement(self.view, slot.sequence, digest)
            collector = slot.collectors[digest] = self.group.collector(PREPARE, statement, self._blame)
        return collector

    def _check_prepared(self, slot: Slot) -> None:
        """§4.2, the predicate prepared: a quorum, the primary among it, voted for what this node accepted."""
        if slot.digest is None or slot.prepared is not None:
            return
        certificate = self._collector(slot, slot.digest).certificate
        if certificate is None or self._stalled is not None:
            return
        slot.prepared = self.prepared[slot.sequence] = certificate
        self.env.persist(Prepared(certificate))
        if self.is_member:
            self._send_others(self._commit(slot.sequence))
            self._commits(slot.sequence).add(self.env.id, self.view, slot.digest)

    def _commit(self, sequence: int) -> Commit:
        """For what prepared here last, be it in this view or an earlier one."""
        statement = self.prepared[sequence].statement
        order = order_of(statement)
        assert order is not None
        return Commit(*order, self._proofs_of(COMMIT, statement))

    # --- commit ---

    def on_commit(self, sender: int, m: Commit) -> None:
        """§4.2: count it, whichever view it is of. A quorum's commits decide, for all nodes and views."""
        if not max(self.low, self.executed) < m.sequence <= self.high or self._stalled is not None:
            return
        commits = self._commits(m.sequence)
        view, digest = commits.known(sender)
        if commits.decided is not None or m.view < view or (view, digest) == (m.view, m.digest):
            return
        statement = order_statement(m.view, m.sequence, m.digest)
        if not self.group.has(sender) or not self.group.is_proven(sender, COMMIT, statement, m.proofs, self._by_mac):
            self._blame(sender, "commits without a vote, or with a proof that is wrong")
        elif view == m.view:
            self._blame(sender, "commits two batches at one number")
        else:
            commits.add(sender, m.view, m.digest)

    def on_decided(self, sender: int, m: Decided) -> None:
        """f + 1 nodes executed it, one of them correct: enough for a node that left the view before commits came."""
        if not max(self.low, self.executed) < m.sequence <= self.high or self._stalled is not None:
            return
        statement = order_statement(0, m.sequence, m.digest)
        if not self.group.has(sender) or not self.group.is_proven(sender, DECIDED, statement, m.proofs, self._by_mac):
            self._blame(sender, "says what was decided without a vote, or with a proof that is wrong")
        elif not self._commits(m.sequence).tell(sender, m.digest):
            self._blame(sender, "says that two batches were decided at one number")

    def _decided(self, sequence: int) -> Decided:
        digest = self.log[sequence]
        return Decided(sequence, digest, self._proofs_of(DECIDED, order_statement(0, sequence, digest)))

    def _proofs_of(self, context: str, statement: bytes) -> tuple[bytes, ...]:
        """To all that this node knows."""
        return self.group.prove(context, statement, self._by_mac, self.env.peers)

    @property
    def _by_mac(self) -> bool:
        return self.config.commits == "mac"

    def _commits(self, sequence: int) -> Commits:
        commits = self.commits.get(sequence)
        if commits is None:
            commits = self.commits[sequence] = Commits(self.group.quorum)
        return commits

    # --- what both rounds of a view share ---

    def _is_now(self, sender: int, m: PrePrepare | Prepare) -> bool:
        """Whether it is for the view and the numbers that this node works on; early ones are kept for their view."""
        if m.view > self.view or (m.view == self.view and self.is_changing):
            self._early.keep(sender, m)
            return False
        return m.view == self.view and self.low < m.sequence <= self.high and self._stalled is None

    def _hear_early(self) -> None:
        for sender, message in self._early.take():
            self.handlers[type(message)](self, sender, message)

    def _equivocates(self, primary: int) -> None:
        """Two orders for one number, both signed by it: there is no need to wait for a time-out."""
        self._blame(primary, "proposes two batches at one number")
        self._leave_view(self.view + 1)

    # --- execution ---

    def _next_digest(self, sequence: int) -> bytes | None:
        """What is known to be decided at a number."""
        commits = self.commits.get(sequence)
        return None if commits is None else commits.decided

    def _execute_ready(self) -> None:
        """§4.2: in the order of their numbers, each after all before it."""
        while not self._is_paused and (digest := self._next_digest(self.executed + 1)) is not None:
            batch = self.batches.get(digest)
            if batch is None:
                self._fetch_batches([digest])
                break
            self._execute(self.executed + 1, digest)
            self._has_executed_in_view = True
            if self._is_snapshot_due(sum(map(len, batch))):
                self._take_snapshot()
                self._is_paused = True  # outputs of this Turn end here
                self.env.set_timer(EXECUTE, 0.0)
            if self.executed % self.config.checkpoint_batches == 0:
                self._make_checkpoint()
        self._flush()

    def _flush(self) -> None:
        if self._entries:
            entries, self._entries = self._entries, []
            self.env.deliver(replicated.Decided(self.index - len(entries) + 1, entries))

    # --- reads ---

    def read(self, tokens: Sequence[int]) -> None:
        """§5.1.3: answered from the state when all that had prepared here is executed.

        A write that a client has its answer to had prepared at f + 1 correct nodes; 2f + 1 equal answers hold that of
        one of them.
        """
        waiting = sum(len(some) for _, some in self._reads)
        if not self.is_member or (self.switch_at and self.executed >= self.switch_at):
            self.env.deliver(ReadFailed(tuple(tokens), "this node does not vote, so it may lack what is decided"))
            return
        if waiting + len(tokens) > READS_MAX:
            self.env.deliver(ReadFailed(tuple(tokens), "too many reads wait"))
            return
        self._reads.append((self._read_point(), tuple(tokens)))

    def _read_point(self) -> int:
        """The highest number that a client may have an answer to. What the new view left out was committed nowhere."""
        slots, reach = self.slots, self._reach
        return max(
            (
                sequence
                for sequence in self.prepared
                if sequence <= reach or self.is_changing or (sequence in slots and slots[sequence].prepared is not None)
            ),
            default=0,
        )

    def _answer_reads(self) -> None:
        if not self._reads:
            return
        if ready := [token for point, tokens in self._reads if point <= self.executed for token in tokens]:
            self._reads = [read for read in self._reads if read[0] > self.executed]
            self.env.deliver(ReadReady(tuple(ready)))

    def _fail_reads(self) -> None:
        """Others vote now."""
        reads, self._reads = self._reads, []
        for _, tokens in reads:
            self.env.deliver(ReadFailed(tokens, "the members have changed"))

    def _lower_reads(self, highest: int) -> None:
        """A new view decided what of the prepared is kept: beyond ``highest`` nothing was committed."""
        self._reads = [(min(point, highest), tokens) for point, tokens in self._reads]

    # --- retransmission ---

    def _resend_order(self, to: int, slot: Slot) -> None:
        """This node's part in the first two rounds, to one that may have missed it."""
        if slot.digest is None:
            return
        if self.is_primary:
            batch = self.batches.get(slot.digest)
            if batch is not None:
                self.env.send(to, PrePrepare(self.view, slot.sequence, slot.digest, slot.proposal, batch))
        elif self.is_member:
            self.env.send(to, self._prepare(slot))

    def _rebuild(self) -> None:
        """After a crash: what this node committed, and the slots of this view, as far as it had a part in them."""
        for sequence, certificate in self.prepared.items():
            if self.is_member and sequence > self.low and (order := order_of(certificate.statement)):
                self._commits(sequence).add(self.env.id, order[0], order[2])
        if self.is_changing:
            return
        for sequence, accepted in sorted(self.accepted.items()):
            if accepted.view != self.view or sequence <= self.low:
                continue
            slot = self._slot(sequence)
            slot.digest, slot.proposal = accepted.digest, accepted.proposal
            slot.prepare_of[self.env.id] = accepted.digest
            self._collector(slot, accepted.digest).add_verified(self.primary, accepted.proposal)
            proof = self.prepared.get(sequence)
            if proof is not None and order_of(proof.statement) == (self.view, sequence, accepted.digest):
                slot.prepared = proof
            elif self.is_member and self.primary != self.env.id:
                self._collector(slot, accepted.digest).add_verified(self.env.id, self._prepare(slot).signature)
                self._check_prepared(slot)
        self.next_sequence = max([self.executed, self.low, self._reach, *self.slots]) + 1
