"""NormalCase (§4.2): pre-prepare, prepare, commit; many batches at once between the water marks.

The primary gives each batch the next sequence number. A backup that accepts says so to all; when a quorum voted the
same, the order is *prepared*: no other can be in this view. Then it commits, and when a quorum committed, the batch
is executed, after all before it (``execution.py``). A node's own vote counts at once: whatever rests on it waits for
its record like all that this node says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from quorate.kernel import Env
from quorate.parts import requests
from quorate.parts.votes.certificate import Certificate, Collector
from quorate.protocols.pbft.checks import Check, FreshRequests, SignatureChecks
from quorate.protocols.pbft.early import BYTES_MAX, LOG_SHARE, Early
from quorate.protocols.pbft.group import point_of
from quorate.protocols.pbft.history import History
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.messages import (
    COMMIT,
    DECIDED,
    PREPARE,
    Commit,
    Decided,
    PbftConfig,
    Prepare,
    PrePrepare,
    digest_of,
    order_of,
    order_statement,
)
from quorate.protocols.pbft.others import Others
from quorate.protocols.pbft.slot import Commits, Slot
from quorate.protocols.pbft.view import CurrentView
from quorate.protocols.pbft.waiting import WaitingRequests

INTERVAL_SHARE = 8
"""Between two checkpoints a primary proposes one part in so many of the bytes of the log."""


class NormalCase:
    """The three rounds that order batches."""

    def __init__(
        self,
        env: Env,
        others: Others,
        config: PbftConfig,
        view: CurrentView,
        log: MessageLog,
        history: History,
        checks: SignatureChecks,
        waiting: WaitingRequests,
        leave_view: Callable[[int], None],
    ) -> None:
        """``leave_view(number)``: the primary was seen to lie; ask for the view of this number."""
        self._env = env
        self._others = others
        self._config = config
        self._view = view
        self._log = log
        self._history = history
        self._checks = checks
        self._waiting = waiting
        self._leave_view = leave_view
        self.early = Early(min(BYTES_MAX, config.log_bytes_max // LOG_SHARE // max(len(env.peers), 4)))
        # As primary: between which checkpoints we proposed last, how many bytes there, and up to where null batches;
        # how many of these one after another, in which view.
        self._interval = self._bytes = self._fill_to = 0
        self._filled = self._filled_in = 0

    # --- the primary ---

    def propose(self) -> None:
        """Give numbers to what waits; few at a time, so that the rest goes together."""
        config, view, log, history = self._config, self._view, self._log, self._history
        if log.next_sequence <= history.executed:  # a later view may have decided some of ours
            log.next_sequence = history.executed + 1
        while (
            (self._waiting.turns or history.executed < history.switch_at)
            and view.is_primary
            and view.stalled is None
            and not log.is_full
            and log.next_sequence <= history.high
        ):
            is_filling = self._is_filling(log.next_sequence)
            under_way = log.next_sequence - 1 - history.executed
            if not is_filling and (under_way >= config.inflight_batches or not log.has_room(config.batch_bytes_max)):
                return
            batch = () if is_filling else self._waiting.next_batch()
            if batch or is_filling or history.executed < history.switch_at:
                self._order(log.next_sequence, batch)
                log.next_sequence += 1

    def _is_filling(self, sequence: int) -> bool:
        """Whether this number, and all up to the next checkpoint, are for null batches.

        What was ordered stays in memory until a checkpoint is beyond it, so there is a bound for what is ordered
        between two. And where there is no room, and nothing under way that would make some, it takes a checkpoint. If a
        window of null batches has made none, snapshots fail here: the others will have another lead.
        """
        config, log = self._config, self._log
        if sequence > self._fill_to:
            interval = (sequence - 1) // config.checkpoint_batches
            is_enough = interval == self._interval and self._bytes >= config.log_bytes_max // INTERVAL_SHARE
            is_stuck = sequence == self._history.executed + 1 and not log.has_room(config.batch_bytes_max)
            has_tried = self._filled_in == self._view.number and self._filled >= config.window
            if is_enough or (is_stuck and not has_tried):
                self._fill_to = (interval + 1) * config.checkpoint_batches
        return sequence <= self._fill_to

    def _order(self, sequence: int, batch: tuple[bytes, ...]) -> None:
        interval = (sequence - 1) // self._config.checkpoint_batches
        self._bytes = self._log.size(batch) + (self._bytes if interval == self._interval else 0)
        self._interval = interval
        self._filled = 0 if batch or self._filled_in != self._view.number else self._filled + 1
        self._filled_in = self._view.number
        digest, view = digest_of(batch), self._view
        signature = view.keys.sign(PREPARE, order_statement(view.number, sequence, digest))
        self._log.keep_batch(digest, batch)
        self.accept(sequence, digest, signature)
        self._others.send(PrePrepare(view.number, sequence, digest, signature, batch))

    # --- pre-prepare ---

    def on_pre_prepare(self, sender: int, m: PrePrepare) -> None:
        """§4.2: right view, from its primary, between the water marks, signed, and no other before it."""
        if not self._is_now(sender, m):
            return
        if sender != self._view.primary or sender == self._env.id:
            self._others.blame(sender, "proposes in a view that it does not lead")
            return
        slot = self._log.slot(m.sequence)
        if slot.digest == m.digest or (slot.waiting is not None and slot.waiting.digest == m.digest):
            return
        if not self._is_digest(m.digest, m.batch) or not self._fits(m.batch):
            self._others.blame(sender, "proposes a batch that is not what its digest says, or too large")
        elif not self._is_signed(sender, m.view, m.sequence, m.digest, m.signature):
            self._others.blame(sender, "proposes with a signature that is wrong")
        elif slot.digest is not None or slot.waiting is not None:
            self._equivocates(sender)
        elif not m.batch or self._log.has_room(self._log.size(m.batch)):
            self._check_batch(slot, m)

    def _is_digest(self, digest: bytes, batch: tuple[bytes, ...]) -> bool:
        return digest_of(batch) == digest

    def _fits(self, batch: Sequence[bytes]) -> bool:
        config = self._config
        return len(batch) <= config.batch_count_max and (
            len(batch) <= 1 or sum(map(len, batch)) <= config.batch_bytes_max
        )

    def _is_signed(self, node: int, view: int, sequence: int, digest: bytes, signature: bytes) -> bool:
        return self._view.keys.verify(node, PREPARE, order_statement(view, sequence, digest), signature)

    def _check_batch(self, slot: Slot, m: PrePrepare) -> None:
        """§4.2: the requests are signed by their clients. Most came from them before; some were executed before."""
        fresh: FreshRequests = {}
        for value in m.batch:
            digest = sha256(value).digest()
            if self._waiting.is_known(digest):
                continue
            request = requests.decode_signed_request(value)
            if request is None:
                self._others.blame(self._view.primary, "proposes what is no request")
                return
            fresh[digest] = (value, requests.claim(request))
        if fresh:
            slot.waiting = m
            slot.unchecked = self._checks.ask(self._view.primary, fresh, m.sequence)
        else:
            self._log.keep_batch(m.digest, m.batch)
            self.accept(m.sequence, m.digest, m.signature)

    def checked(self, check: Check) -> None:
        """Requests of a pre-prepare were checked; or they could not be, and the pre-prepare may come again."""
        slot = self._log.slots.get(check.sequence or 0)
        if slot is None or slot.waiting is None or check.number not in slot.unchecked:
            return  # the check is of an earlier view, or of what came before
        m = slot.waiting
        if check.failure is not None:
            slot.waiting = None
            return
        if not check.is_right:
            self._others.blame(self._view.primary, "proposes a request that its client did not sign")
            return
        slot.unchecked.remove(check.number)
        if not slot.unchecked:
            slot.waiting = None
            if self._view.stalled is None:
                self._log.keep_batch(m.digest, m.batch)
                self.accept(m.sequence, m.digest, m.signature)

    def accept(self, sequence: int, digest: bytes, proposal: bytes) -> None:
        """Vote, once and for ever in this view. The record is durable before the vote leaves."""
        view, env = self._view, self._env
        slot = self._log.accept(view.number, sequence, digest, proposal)
        self._collector(slot, digest).add_verified(view.primary, proposal)
        if view.is_member and view.primary != env.id:
            message = self._prepare(slot)
            slot.prepare_of[env.id] = digest
            self._collector(slot, digest).add_verified(env.id, message.signature)
            self._others.send(message)
        if any(other != digest for other in slot.proposals):
            self._equivocates(view.primary)
            return
        self.check_prepared(slot)

    def _equivocates(self, primary: int) -> None:
        """Two orders for one number, both signed by it: there is no need to wait for a timeout."""
        self._others.blame(primary, "proposes two batches at one number")
        self._leave_view(self._view.number + 1)

    def _prepare(self, slot: Slot) -> Prepare:
        assert slot.digest is not None
        view = self._view
        signature = view.keys.sign(PREPARE, order_statement(view.number, slot.sequence, slot.digest))
        return Prepare(view.number, slot.sequence, slot.digest, signature, slot.proposal)

    # --- prepare ---

    def on_prepare(self, sender: int, m: Prepare) -> None:
        """§4.2: count it. One that names another batch bears the proof that the primary told two stories."""
        if not self._is_now(sender, m):
            return
        view = self._view
        if sender == view.primary or not view.group.has(sender):
            self._others.blame(sender, "prepares, and is no backup")
            return
        slot = self._log.slot(m.sequence)
        known = slot.prepare_of.get(sender)
        if known == m.digest or (slot.prepared is not None and slot.digest == m.digest):
            return  # there is nothing in it that is not known
        # Before anything of it counts: whoever pretends to be this node must not cost it its vote, or hide a proof.
        if not self._is_signed(sender, m.view, m.sequence, m.digest, m.signature):
            self._others.blame(sender, "prepares with a signature that is wrong")
        elif not self._is_proposed(slot, m):
            self._others.blame(sender, "prepares what the primary did not propose")
        elif self._is_other(slot, m.digest):
            if known is not None:
                self._others.blame(sender, "prepares two batches at one number")
            self._equivocates(view.primary)
        else:
            slot.prepare_of[sender] = m.digest
            slot.proposals[m.digest] = m.proposal
            self._collector(slot, m.digest).add_verified(sender, m.signature)
            self.check_prepared(slot)

    def _is_proposed(self, slot: Slot, m: Prepare) -> bool:
        """Whether the primary signed what this backup prepared. Of one batch at most the first signature is checked."""
        if slot.digest == m.digest or m.digest in slot.proposals:
            return True
        return self._is_signed(self._view.primary, m.view, m.sequence, m.digest, m.proposal)

    def _is_other(self, slot: Slot, digest: bytes) -> bool:
        """Whether the primary, who signed this, is known to have signed another."""
        return slot.digest not in (None, digest) or any(other != digest for other in slot.proposals)

    def _collector(self, slot: Slot, digest: bytes) -> Collector:
        collector = slot.collectors.get(digest)
        if collector is None:
            statement = order_statement(self._view.number, slot.sequence, digest)
            collector = self._view.group.collector(PREPARE, statement, self._others.blame)
            slot.collectors[digest] = collector
        return collector

    def check_prepared(self, slot: Slot) -> None:
        """§4.2, the predicate prepared: a quorum, the primary among it, voted for what this node accepted."""
        if slot.digest is None or slot.prepared is not None:
            return
        certificate = self._collector(slot, slot.digest).certificate
        view = self._view
        if certificate is None or view.stalled is not None:
            return
        self._log.prepare(slot, certificate)
        if view.is_member:
            self._others.send(self.commit_of(slot.sequence))
            self._commits(slot.sequence).add(self._env.id, view.number, slot.digest)

    def resume(self) -> None:
        """The disk takes records again."""
        for slot in list(self._log.slots.values()):
            self.check_prepared(slot)

    # --- commit ---

    def commit_of(self, sequence: int, to: int | None = None) -> Commit:
        """For what prepared here last, be it in this view or an earlier one; for all, or for one node."""
        statement = self._log.prepared[sequence].statement
        order = order_of(statement)
        assert order is not None
        return Commit(*order, self._view.prove(COMMIT, statement, to))

    def on_commit(self, sender: int, m: Commit) -> None:
        """§4.2: count it, whichever view it is of. A quorum's commits decide, for all nodes and views."""
        if not self._is_open(m.sequence):
            return
        commits = self._commits(m.sequence)
        view, digest = commits.known(sender)
        if commits.decided is not None or m.view < view or (view, digest) == (m.view, m.digest):
            return
        statement = order_statement(m.view, m.sequence, m.digest)
        if not self._view.group.has(sender) or not self._view.is_proven(sender, COMMIT, statement, m.proofs):
            self._others.blame(sender, "commits without a vote, or with a proof that is wrong")
        elif view == m.view:
            self._others.blame(sender, "commits two batches at one number")
        else:
            commits.add(sender, m.view, m.digest)

    def on_decided(self, sender: int, m: Decided) -> None:
        """f + 1 nodes executed it, one of them correct: enough for a node that left the view before commits came."""
        if not self._is_open(m.sequence):
            return
        statement = order_statement(0, m.sequence, m.digest)
        if not self._view.group.has(sender) or not self._view.is_proven(sender, DECIDED, statement, m.proofs):
            self._others.blame(sender, "says what was decided without a vote, or with a proof that is wrong")
        elif not self._commits(m.sequence).tell(sender, m.digest):
            self._others.blame(sender, "says that two batches were decided at one number")

    def decided_of(self, sequence: int, to: int) -> Decided:
        """For what was executed here, for one node."""
        digest = self._history.digests[sequence]
        return Decided(sequence, digest, self._view.prove(DECIDED, order_statement(0, sequence, digest), to))

    def _commits(self, sequence: int) -> Commits:
        return self._log.commits_at(sequence, self._view.group.quorum)

    def _is_open(self, sequence: int) -> bool:
        """Whether it may be decided here: not executed, below the high water mark, and the disk takes records."""
        history = self._history
        return max(history.low, history.executed) < sequence <= history.high and self._view.stalled is None

    # --- what both rounds of a view share ---

    def _is_now(self, sender: int, m: PrePrepare | Prepare) -> bool:
        """Whether it is for the view and the numbers that this node works on; early ones are kept for their view."""
        view = self._view
        if m.view > view.number or (m.view == view.number and view.is_changing):
            self.early.keep(sender, m)
            return False
        return m.view == view.number and self._is_between(m.sequence) and view.stalled is None

    def _is_between(self, sequence: int) -> bool:
        """§4.2: whether it is between the water marks; or, §4.4, above the checkpoint with which the view began, as far
        as it goes on from earlier views.

        The paper's marks follow that checkpoint, reached or not. Here they do not: below it others may have become
        members, whom this node does not know. But what a new view proposes again was prepared by a quorum of the
        members that this node knows. Those of them who are correct voted between their marks, or for the same reason,
        so it is not beyond the change.
        """
        history = self._history
        if history.low < sequence <= history.high:
            return True
        if history.footing is None or not (history.is_founded and self._view.is_member):
            return False
        if history.is_beyond_switch(sequence):
            return False
        return point_of(history.footing)[0] < sequence <= self._view.reach

    def find_footing(self, stable: Certificate) -> None:
        """A new view begins with this checkpoint. What this node said below it, beyond its own marks, is settled."""
        history, sequence = self._history, point_of(stable)[0]
        if not history.is_beyond_switch(sequence):
            history.find_footing(stable)
            self._log.drop_ordered(sequence, above=history.high)

    def hear_early(self) -> None:
        """A view began: take the messages for it that came before."""
        for sender, m in self.early.take():
            if isinstance(m, PrePrepare):
                self.on_pre_prepare(sender, m)
            else:
                self.on_prepare(sender, m)

    def take_proposals(self) -> None:
        """§4.4: pre-prepares of the new view, as if they came now. A node that goes on from a snapshot, and has no
        checkpoint of its members yet, takes them when it has."""
        view = self._view
        message = view.new_view
        if message is None:
            return
        for p in message.proposals:
            if view.number != message.view or view.is_changing:
                return  # the primary was seen to lie
            if self._is_between(p.sequence):
                slot = self._log.slot(p.sequence)
                if slot.digest is None:
                    slot.waiting = None
                    self.accept(p.sequence, p.digest, p.signature)

    # --- again ---

    def resend_order(self, to: int, slot: Slot) -> None:
        """This node's part in the first two rounds, to one that may have missed it."""
        if slot.digest is None:
            return
        view = self._view
        if view.is_primary:
            batch = self._log.batches.get(slot.digest)
            if batch is not None:
                self._env.send(to, PrePrepare(view.number, slot.sequence, slot.digest, slot.proposal, batch))
        elif view.is_member:
            self._env.send(to, self._prepare(slot))

    def rebuild(self) -> None:
        """After a crash: what this node committed, and the slots of this view, as far as it had a part in them."""
        view, log, history = self._view, self._log, self._history
        for sequence, certificate in log.prepared.items():
            if view.is_member and sequence > history.low and (order := order_of(certificate.statement)):
                self._commits(sequence).add(self._env.id, order[0], order[2])
        if view.is_changing:
            return
        for sequence, accepted in sorted(log.accepted.items()):
            if accepted.view != view.number or sequence <= history.low:
                continue
            slot = log.slot(sequence)
            slot.digest, slot.proposal = accepted.digest, accepted.proposal
            log.accepted_to = max(sequence, log.accepted_to)
            slot.prepare_of[self._env.id] = accepted.digest
            self._collector(slot, accepted.digest).add_verified(view.primary, accepted.proposal)
            proof = log.prepared.get(sequence)
            if proof is not None and order_of(proof.statement) == (view.number, sequence, accepted.digest):
                slot.prepared = proof
            elif view.is_member and view.primary != self._env.id:
                self._collector(slot, accepted.digest).add_verified(self._env.id, self._prepare(slot).signature)
                self.check_prepared(slot)
        log.next_sequence = max([history.executed, history.low, view.reach, *log.slots]) + 1
