"""Multi-Paxos: a replicated log kept by a stable leader, for crash faults, with 2f + 1 nodes for f of them.

Sources. Lamport, "Paxos made simple" (2001), §3; van Renesse and Altinbuken, "Paxos made moderately complex" (2015);
Chandra, Griesemer and Redstone, "Paxos made live" (2007), for snapshots and leases; Howard, Malkhi and Spiegelman,
"Flexible Paxos" (2016), for quorums. Sections stand beside the rules.

How it works. Each slot of the log is an instance of Paxos, and one proposer does phase 1 once for all of them. It takes
a new ballot, and asks the acceptors what they accepted in any slot after the last before which it knows all to be
chosen. When a phase-1 quorum has promised, it leads: it proposes the value of the highest ballot in each slot where
there is one, a no-op in each gap, and new values in the slots after these, as many at a time as the window allows
(``preparation.py``, ``leadership.py``). A value is chosen when a phase-2 quorum accepted it in one ballot; the leader
counts, and tells with its next message (§2.3: a distinguished learner). Members change through the log
(``membership.py``).

Durable: ``Promised``, ``Voted``, ``Snapshotted``, ``Returned`` (``acceptor.py``). A ballot is recorded as promised
before Prepare leaves, so it is used once. The kernel's barrier keeps a promise or an acceptance from leaving before it
is durable; the leader's own are messages to itself and pass the same barrier, so its disk works in parallel with the
others'.

Beyond the papers: a poll before phase 1, so that a node that was cut off deposes nobody; a leader that no quorum has
answered steps down, and one that is about to stop hands over (``parts/leaderlog/handover.py``); reads confirmed by a
round of heartbeats, or by a lease; pipelining and flow control; proposals and reads are forwarded to the leader; a node
that lost its memory returns by a slot of the log (``parts/leaderlog/returns.py``).

Deviations: (1) an acceptor answers with one number, up to where it accepted in this ballot or knows what is chosen, and
not slot by slot; (2) it refuses a candidate that lacks what it has compacted, or that is more than a window behind, and
says so; (3) what is known to be chosen is told and sent again as accepted in the newest ballot; (4) the first slot of
new members is proposed in only when all before it is chosen, and they are in force when it is chosen too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from quorate.kernel import Key
from quorate.kernel.standing import FOLLOWER, LEADER
from quorate.parts.ballot import NO_BALLOT, ROUND_MAX, Ballot
from quorate.parts.leaderlog.compaction import FULL, SNAPSHOT
from quorate.parts.leaderlog.config import ELECTION, HEARTBEAT
from quorate.parts.leaderlog.delivery import portion
from quorate.parts.leaderlog.lease import Lease
from quorate.parts.leaderlog.proposals import Propose, forward
from quorate.parts.leaderlog.reads import ReadReply, ReadRequest
from quorate.parts.leaderlog.transfers import CHUNK, INSTALL
from quorate.parts.log.replicated import Busy, Decided
from quorate.protocols.multipaxos.following import PREPARING, Following
from quorate.protocols.multipaxos.leadership import Leadership
from quorate.protocols.multipaxos.messages import (
    MESSAGES,
    RECORDS,
    Accept,
    Accepted,
    AcceptedAs,
    Behind,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Nack,
    Prepare,
    PrepareWithLeave,
    Promise,
    PromiseAs,
    Run,
    ServeSnapshot,
    SnapshotPiece,
    SnapshotProgress,
)

SLOTS_AHEAD_MAX = 4
"""Windows beyond a candidate's first slot in which an acceptor that promises can have accepted something."""


class MultiPaxos(Following):
    """One node, in all its roles. Public attributes may be read by checkers and status pages, and by nothing else."""

    messages = MESSAGES
    records = RECORDS
    hands_over = True
    hears_hang_ups = True
    is_repairable = True
    leadership_class: ClassVar[type[Leadership]] = Leadership

    def on_timer(self, key: Key) -> None:
        """The election time-out, or the heartbeat; or there is more to deliver (``settle``)."""
        if key == ELECTION:
            if self._watch.alarm.is_due():
                self._stand()
        elif key == HEARTBEAT and self.role == LEADER:
            self._beat()
        elif key == HEARTBEAT and self.role == PREPARING:
            self._ask_again()

    # --- phase 1 (§2.2, once for all slots: §3) ---

    def _prepare(self, leave: Ballot = NO_BALLOT) -> None:
        """Phase 1a: a ballot above all that were used here or heard of, recorded before it is used (§2.5)."""
        round_ = max(self.acceptor.promised[0], self._seen_round) + 1
        if round_ > ROUND_MAX:
            return  # somebody lied about rounds; there are no more
        self.role = PREPARING
        self.ballot = (round_, self.env.id)
        self._leave = leave
        self.acceptor.promise(self.ballot)
        self._preparation = self.preparation_class(self.ballot)
        self._watch.rest()
        first_slot = self.acceptor.chosen_index + 1
        for node in self.env.peers:
            self._preparation.ask(node, first_slot)
        self.env.broadcast(self._asking(first_slot))
        self.env.set_timer(HEARTBEAT, self.config.heartbeat_s)

    def _asking(self, first_slot: int) -> Prepare:
        ballot, leave = self.ballot, self._leave
        return Prepare(ballot, first_slot) if leave == NO_BALLOT else PrepareWithLeave(ballot, first_slot, leave)

    def _ask_again(self) -> None:
        """What was lost of phase 1 goes again."""
        self.env.set_timer(HEARTBEAT, self.config.heartbeat_s)
        for node in self.env.peers:
            if not self._preparation.promised >> node & 1:
                self.env.send(node, self._asking(self._preparation.ask(node, 0)))

    def on_prepare(self, sender: int, m: Prepare) -> None:
        """Phase 1b: promise a ballot above all promised so far, and tell what was accepted.

        Who asks for what is compacted hears so. Silence is always safe, but who leads would ask for ever.
        """
        acceptor = self.acceptor
        if m.ballot[1] != sender or m.ballot[0] == 0:
            self.env.blame(sender, "uses a ballot that is not its own")
            return
        if self.stalled is not None or acceptor.has_forgotten:
            return  # who lost what it promised, and what it accepted, cannot answer
        if m.ballot < acceptor.promised:
            self.env.send(sender, Nack(m.ballot, acceptor.promised))
            return
        is_served = acceptor.log.base_index < m.first_slot
        if not is_served or (m.ballot > acceptor.promised and not self._could_follow(m.first_slot - 1)):
            self.env.send(sender, Behind(m.ballot, acceptor.chosen_index))
            return
        if m.ballot > acceptor.promised:
            if self._hears_leader(m.leave if isinstance(m, PrepareWithLeave) else NO_BALLOT):
                return  # who was cut off must not depose a live leader, nor break its lease
            acceptor.promise(m.ballot)
            self._become_follower(m.ballot, None)
            self._watch.put_off()
        runs, next_slot = acceptor.votes(m.first_slot)
        self.env.send(sender, self._promise(m, runs, next_slot))

    def _promise(self, m: Prepare, runs: list[Run], next_slot: int) -> Promise:
        if incarnation := self.env.incarnation:
            return PromiseAs(m.ballot, m.first_slot, runs, next_slot, incarnation)
        return Promise(m.ballot, m.first_slot, runs, next_slot)

    def on_prepare_with_leave(self, sender: int, m: PrepareWithLeave) -> None:
        """The same; the leader that we heard made way, perhaps."""
        self.on_prepare(sender, m)

    def on_promise(self, sender: int, m: Promise) -> None:
        """Phase 2a begins when a phase-1 quorum has promised, and told all that it accepted."""
        if m.ballot != self.ballot or self.role not in (PREPARING, LEADER):
            return
        preparation = self._preparation
        if not preparation.awaits(sender, m):
            return
        if why := preparation.take(sender, m, SLOTS_AHEAD_MAX * self.config.alpha):
            self.env.blame(sender, why)
            return
        # A ballot in which this node leads already had its quorum when it began.
        preparation.drop_lapsed(self._snapshots.returns, -1 if self.role == PREPARING else 1 << sender)
        if m.next_slot:
            self.env.send(sender, self._asking(m.next_slot))
        elif self.role == PREPARING and preparation.covers(self.members.at(self.acceptor.chosen_index + 1)):
            self._become_leader()

    def on_promise_as(self, sender: int, m: PromiseAs) -> None:
        """The same of one that lost its memory once, and has returned."""
        self.on_promise(sender, m)

    def on_nack(self, sender: int, m: Nack) -> None:
        """Somebody promised a higher ballot: this one can get no quorum, perhaps, and leads no more."""
        if m.ballot[1] != self.env.id or m.promised <= m.ballot:
            self.env.blame(sender, "refuses a ballot that is not ours, or for one that is not higher")
            return
        self._seen_round = max(self._seen_round, m.promised[0])
        if m.ballot == self.ballot and self.role in (PREPARING, LEADER):
            self._become_follower(self.ballot, None)

    def on_behind(self, sender: int, m: Behind) -> None:
        """A member of the next slot has what we lack, and cannot give it to a leader: it can only lead itself.

        Before the next slot is that member's there may be a quorum without it, and we go on.
        """
        if m.ballot[1] != self.env.id:
            self.env.blame(sender, "answers a ballot that is not ours")
            return
        chosen_index = self.acceptor.chosen_index
        is_stuck = not self._preparation.covers(self.members.at(chosen_index + 1))
        if self.role == LEADER and m.ballot == self.ballot and m.chosen_index > chosen_index and is_stuck:
            self._become_follower(self.ballot, None)
            self._yields = True

    # --- the leader ---

    def _become_leader(self) -> None:
        self.role = LEADER
        self._watch.alarm.stop()
        self._follow(self.env.id)
        self.acceptor.follow(self.ballot)
        self._reads.lead()
        self.leadership = self.leadership_class(
            self.env, self.config, self.acceptor, self.members, self._preparation, self._snapshots.transfers
        )
        if self.config.lease_s is not None:
            self._lease = Lease(self.config.lease_s, self.config.clock_drift)
        self._is_new = True

    def submit(self, values: Sequence[bytes]) -> None:
        """Propose here if this node leads, else pass on to the one that does."""
        if self.leadership is not None:
            self._propose(values)
        else:
            forward(self.env, self.config, values, self.leader, self.stalled)

    def on_propose(self, sender: int, m: Propose) -> None:
        """Values from a follower. They are not passed on twice: the sender will learn who leads, and try again."""
        if self.leadership is not None:
            self._propose(m.values)

    def _propose(self, values: Sequence[bytes]) -> None:
        if self.leadership is None or self.handover.takes(values):
            return
        if self._snapshots.is_full:
            self.env.deliver(Busy(tuple(values), FULL))
        elif not self.leadership.propose(values):
            self.env.deliver(Busy(tuple(values), "too much is waiting for a quorum"))

    def _beat(self, *, retries: bool = True) -> None:
        """Heartbeats. A leader that no quorum answers steps down, so that clients look elsewhere."""
        leadership = self.leadership
        assert leadership is not None
        span = self.members.at(self.acceptor.chosen_index + 1)
        heard = leadership.followers.heard_since(self.env.now - 2 * self.config.election_timeout_s_min)
        is_heard = span.quorums.phase2.is_quorum(heard | 1 << self.env.id)
        if not is_heard or (not self._is_member() and leadership.have_heard(span)):
            self._become_follower(self.ballot, None)
            return
        self.env.set_timer(HEARTBEAT, self.config.heartbeat_s)
        rounds = self._reads.rounds
        if self._lease is not None:
            rounds.number += 1
            self._lease.begin(rounds.number, self.env.now, span.confirming)
            self._lease.answered(self.env.id, rounds.number)
        leadership.beat(rounds.number, retries)
        if kept := self.handover.beat():
            self._propose(kept)
        elif leadership.is_current():
            followers, last_index = leadership.followers, self.acceptor.log.last_index
            if (better := self.preference.better(followers, self._voting(leadership), last_index)) is not None:
                self.hand_over(better)

    def on_heartbeat(self, sender: int, m: Heartbeat) -> None:
        """The leader lives, and so much is chosen."""
        if not self._accept_leader(sender, m.ballot):
            return
        self._hear_chosen(m.chosen_index)
        if self.acceptor.has_forgotten:
            self._owes_answer = True  # of another kind: it confirms nothing
        elif m.round:
            # We say that no higher ballot had our promise when the round reached us; that needs no durable state.
            self.env.send_now(sender, HeartbeatReply(m.ballot, m.round))

    def on_heartbeat_reply(self, sender: int, m: HeartbeatReply) -> None:
        """The node lives, and has seen this round."""
        if self.leadership is None or m.ballot != self.ballot:
            return
        if progress := self.leadership.followers.get(sender):
            progress.active_at = self.env.now
            self._reads.confirm(sender, m.round)
            if self._lease is not None:
                self._lease.answered(sender, m.round)

    # --- phase 2 (§2.2) ---

    def on_accept(self, sender: int, m: Accept) -> None:
        """Phase 2b: accept, unless a higher ballot was promised. And learn what is chosen."""
        if not self._accept_leader(sender, m.ballot) or (m.entries and self._snapshots.is_full):
            return  # where the log is full, as if it was lost: the leader sends it again
        acceptor = self.acceptor
        if m.entries and (why := acceptor.accept(m.first_slot, m.entries)):
            self.env.blame(sender, why)
            return
        self._hear_chosen(m.chosen_index)
        self._owes_answer = True

    def on_accepted(self, sender: int, m: Accepted) -> None:
        """A node, or our own disk, has accepted up to a slot, or knows what is chosen: perhaps more than we do yet."""
        if self.leadership is not None and m.ballot == self.ballot:
            self.leadership.accepted(sender, m.slot)

    def on_accepted_as(self, sender: int, m: AcceptedAs) -> None:
        """The same of one that lost its memory once; it may want to return."""
        if self.leadership is not None and m.ballot == self.ballot:
            may_propose = not (self.handover.is_under_way or self._snapshots.is_full)
            self.leadership.accepted_as(sender, m, self._snapshots.returns, may_propose=may_propose)

    def settle(self) -> None:
        """What the inputs of this step share: propose, count, send, deliver. Once."""
        leadership = self.leadership
        if leadership is not None:
            leadership.advance(self._learn)
            leadership.fill()
            leadership.acknowledge()
            leadership.replicate()
            if self._is_new:
                self._is_new = False
                self._beat(retries=False)
        elif self._owes_answer and (leader := self._watch.leader) is not None:
            self._owes_answer = False
            self.env.send(leader, self._answer())
        if self.delivered_index < self.acceptor.chosen_index:
            self._deliver()
        if self._compactor.wanted_index:
            self._compactor.settle()
        self._reads.settle(self.delivered_index, leads=self.leadership is not None)
        if self.leadership is not None:
            self._begin_round(self.leadership)
            if self.handover.is_under_way:
                self._settle_handover(self.leadership)
        elif self.handover.values:
            self.handover.following(self.leader)

    def _answer(self) -> Accepted:
        last_slot, incarnation = self.acceptor.log.last_index, self.env.incarnation
        if incarnation:
            return AcceptedAs(self.ballot, last_slot, incarnation, not self.acceptor.has_forgotten)
        return Accepted(self.ballot, last_slot)

    def _settle_handover(self, leadership: Leadership) -> None:
        chosen_index, last_index = self.acceptor.chosen_index, self.acceptor.log.last_index
        is_quiet = chosen_index == last_index and not leadership.queue
        self.handover.settle(leadership.followers, self._voting(leadership), last_index, is_quiet=is_quiet)

    def _deliver(self) -> None:
        first, acceptor = self.delivered_index + 1, self.acceptor
        entries, size = portion(self.env, acceptor.log, self.delivered_index, acceptor.chosen_index)
        self.delivered_index = last = first + len(entries) - 1
        self.env.deliver(Decided(first, entries))
        self._snapshots.delivered(last, entries, size)
        if self.leadership is not None:
            self.leadership.open_bytes = max(0, self.leadership.open_bytes - size)

    # --- reads ---

    def read(self, tokens: Sequence[int]) -> None:
        """Make sure of leadership here, or ask the one that leads."""
        if self.leadership is not None:
            self._reads.take(tokens)
        else:
            self._reads.forward(tokens, self.leader)

    def on_read_request(self, sender: int, m: ReadRequest) -> None:
        """Reads of a follower join our own. Who does not lead says nothing: the asker gives up by itself."""
        if self.leadership is not None:
            self._reads.take_from(sender, m)

    def on_read_reply(self, sender: int, m: ReadReply) -> None:
        """The answer, unless we follow another by now."""
        if sender == self.leader:
            self._reads.answered(m)

    def _begin_round(self, leadership: Leadership) -> None:
        """Reads that came get the state as it is now, once it is certain that nobody else led when they came."""
        if not self._reads.rounds.waiting or not leadership.is_current():
            return
        chosen_index = self.acceptor.chosen_index
        if self._lease is not None and self._lease.holds(self.env.now):
            self._reads.serve_waiting(chosen_index)
            return
        quorum = self.members.at(chosen_index + 1).confirming
        number = self._reads.rounds.begin(chosen_index, quorum)
        if number is None:
            return
        for node, known in leadership.followers.knowing(chosen_index):
            # No durable state: a question whether we still lead.
            self.env.send_now(node, Heartbeat(self.ballot, known, number))
        if self._lease is not None:
            self._lease.begin(number, self.env.now, quorum)
            self._lease.answered(self.env.id, number)
        self._reads.confirm(self.env.id, number)

    # --- snapshots ---

    def on_done(self, key: Key, result: Any) -> None:
        """A snapshot was written, or a piece of one was read or stored."""
        followers = None if self.leadership is None else self.leadership.followers
        if key == SNAPSHOT:
            self._snapshots.taken(result, followers)
        elif key == INSTALL:
            self._stored(result)
        elif isinstance(key, tuple) and key[0] == CHUNK:
            self._snapshots.send_piece(key[1], result, None if self.leader is None else self.ballot, followers)

    def on_install_snapshot(self, sender: int, m: InstallSnapshot) -> None:
        """A piece of the leader's snapshot."""
        if self._accept_leader(sender, m.ballot):
            self._take_piece(sender, sender, m)

    on_install_snapshot_among = on_install_snapshot
    on_install_snapshot_after = on_install_snapshot

    def on_serve_snapshot(self, sender: int, m: ServeSnapshot) -> None:
        """The leader wants a piece of our snapshot sent to another node."""
        if self._accept_leader(sender, m.ballot):
            self._snapshots.on_serve_snapshot(m)

    def on_snapshot_piece(self, sender: int, m: SnapshotPiece) -> None:
        """A piece of another node's snapshot, sent for the leader that we follow."""
        if self.leader is not None and self.role == FOLLOWER and m.ballot == self.ballot:
            self._take_piece(sender, self.leader, m)

    on_snapshot_piece_after = on_snapshot_piece

    def _take_piece(self, sender: int, leader: int, m: InstallSnapshot | SnapshotPiece) -> None:
        """Store it; the leader has the next one sent when it is stored."""
        chunk = m.chunk
        if chunk.index <= self.acceptor.chosen_index:
            self.env.send(leader, SnapshotProgress(m.ballot, chunk.index, chunk.total_bytes, True))
        elif why := self._snapshots.store(m):
            self.env.blame(sender, why)

    def _stored(self, result: Any) -> None:
        written = self._snapshots.stored(result)
        if written is None:
            return
        if self._snapshots.install(written):
            self.delivered_index = written.index
            self._keep_roster()
        if self.leader is not None and self.role == FOLLOWER:
            complete = written.complete and written.index <= self.acceptor.chosen_index
            self.env.send(self.leader, SnapshotProgress(self.ballot, written.index, written.next_offset, complete))

    def on_snapshot_progress(self, sender: int, m: SnapshotProgress) -> None:
        """The next piece, or back to values."""
        if self.leadership is not None and m.ballot == self.ballot and sender in self.leadership.followers:
            if m.complete and m.index > self.acceptor.log.last_index:
                self.env.blame(sender, "has a snapshot of what we did not propose")
            else:
                self.leadership.received(sender, m)
