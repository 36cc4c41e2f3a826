"""Replication, the leader's side: its log, sent to all and counted (§3.5, §3.6.2, figure 3.1 "leaders").

How it works. The leader alone appends, and sends its entries with the index and term of the one before. An entry *of
its own term* that a quorum holds is committed, and with it all before. Its own disk is one of those that hold it, and
acknowledges by a message to itself, which the kernel's barrier keeps until the entries are durable; so disk and network
work in parallel (§10.2.1). Sending is pipelined (§10.2.2): see ``parts/leaderlog/followers.py``.

A heartbeat is a message of its own, not an empty AppendEntries: it rests on no durable state, so it leaves at once, and
a slow disk does not cost an election. Lost entries are noticed by a follower that has not moved between two heartbeats,
rather than by a timeout for each message.

It also decides when a change of members may begin, and ends a joint configuration (chapter 4). A change that cannot
begin now is dropped, and whoever asked tries again. An acknowledgement names its term and no epoch of the members: in
one term a follower acknowledges only what agrees with a log that only grows, so what it said before it was removed and
added again is still true. It would not be, had it lost its log; but then it has another number, or names its
incarnation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from quorate.kernel import Env, nodes_of
from quorate.parts.leaderlog.config import HEARTBEAT
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.leaderlog.lease import Lease
from quorate.parts.leaderlog.reads import Reads
from quorate.parts.leaderlog.returns import Proposed, return_entry
from quorate.parts.leaderlog.sending import outgoing
from quorate.parts.leaderlog.transfers import Transfers
from quorate.parts.log.configuration import PREFIX, decode_change
from quorate.parts.log.entries import COMMAND, CONFIGURATION, NOOP, Entry, size_of
from quorate.parts.log.replicated import Busy, Dropped
from quorate.parts.quorum import QuorumSystem
from quorate.protocols.raft.messages import (
    Appended,
    AppendedAs,
    AppendEntries,
    Conflict,
    Forgot,
    Heartbeat,
    HeartbeatReply,
    RaftConfig,
    SnapshotProgress,
)
from quorate.protocols.raft.state import ServerState
from quorate.protocols.raft.witnessing import Witnesses


class LogReplication:
    """What one server does while it leads, from ``lead`` to ``resign``."""

    lease_class: ClassVar[type[Lease]] = Lease
    witnesses_class: ClassVar[type[Witnesses]] = Witnesses

    def __init__(
        self,
        env: Env,
        config: RaftConfig,
        state: ServerState,
        quorum: QuorumSystem,
        reads: Reads,
        transfers: Transfers,
    ) -> None:
        self._env = env
        self._config = config
        self._state = state
        self._quorum = quorum
        self._reads = reads
        self._transfers = transfers
        # Volatile, made anew by each election.
        self.followers = Followers((), 0, 0.0)
        self.witnesses = self.witnesses_class(env, config, state)
        self.noop_index = 0
        """Of the entry that opened the term."""
        self._lease: Lease | None = None
        self._returns = Proposed()
        self._settled_index = self._settling_index = 0
        """Up to where all was committed at the heartbeat before the last, and at the last."""
        self._uncommitted_bytes = 0
        self._appended = False
        self._acknowledged = False
        self._may_send = False
        """Whether something came since entries were sent last that may let more of them leave."""

    # --- a leadership begins and ends ---

    def lead(self) -> None:
        """Elected: nothing is known of the followers yet (figure 3.1)."""
        state, log = self._state, self._state.log
        self.followers = Followers(self._env.others, log.last_index + 1, self._env.now)
        self.witnesses.lead(self.followers)
        self._returns = Proposed()
        self._reads.lead()
        if self._config.lease_s is not None:
            self._lease = self.lease_class(self._config.lease_s, self._config.clock_drift)
        self._uncommitted_bytes = size_of(log.slice(state.commit_index + 1, log.last_index))
        self._open_term()
        self._settled_index = self._settling_index = self.noop_index
        self._env.set_timer(HEARTBEAT, self._config.heartbeat_s)

    def _open_term(self) -> None:
        """§6.4, step 1: only an entry of its own term tells a leader what is committed, so it makes one."""
        self._append([Entry(self._state.term, b"", NOOP)])
        self.noop_index = self._state.log.last_index

    def resign(self) -> None:
        """Another term, or no quorum: lead no more."""
        self._env.cancel_timer(HEARTBEAT)
        self._reads.resign()
        self.followers = Followers((), 0, 0.0)
        self._lease = None

    def give_up_lease(self) -> None:
        """§6.4.1: read by none any more while this leadership lasts, as another may soon lead with its leave."""
        self._lease = None

    # --- entries (§3.5) ---

    def propose(self, values: Sequence[bytes]) -> None:
        """Append a command for each value, unless too much is uncommitted."""
        if self._uncommitted_bytes > self._config.uncommitted_bytes_max:
            self._env.deliver(Busy(tuple(values), "too much is waiting for a quorum"))
            return
        term = self._state.term
        if [value for value in values if value.startswith(PREFIX)]:
            for value in values:
                self._propose_one(value)
        else:
            self._append([Entry(term, value, COMMAND) for value in values])

    def _propose_one(self, value: bytes) -> None:
        if not value.startswith(PREFIX):
            self._append([Entry(self._state.term, value, COMMAND)])
        elif why := self._why_not(value):
            self._env.deliver(Dropped((value,), why))
        else:
            self._append([Entry(self._state.term, value, CONFIGURATION)])

    # --- changes of members (chapter 4) ---

    def _why_not(self, value: bytes) -> str:
        """Why this change cannot be appended now, or empty. One that changes nothing can be: so its fate is told."""
        configurations, log = self._state.configurations, self._state.log
        if configurations.is_pending:
            return "another change of members is under way"  # §4.1: one at a time
        if not self._may_change():
            return "this leader has committed nothing in its term yet"
        change = decode_change(value)
        try:
            takes = configurations.takes(log.last_index + 1, Entry(self._state.term, value, CONFIGURATION))
        except ValueError as error:
            return str(error)
        if change is None or not takes:
            return ""
        late = [node for node in change.members if not self._has_caught_up(node)]
        return f"nodes {late} have not caught up with the log yet" if late else ""

    def _may_change(self) -> bool:
        """§4.1, as corrected in 2015: no change before an entry of the own term is committed."""
        return self.is_current()

    def _has_caught_up(self, node: int) -> bool:
        """§4.2.1: who does not vote yet is to hold the log first, but for the entries of the last moment.

        That moment is two heartbeats at most, and an election timeout at least as long: as the paper asks. A node that
        votes already is a matter of who wants it to go on voting.
        """
        if node == self._env.id or self._state.configurations.newest.mask >> node & 1:
            return True
        progress = self.followers.get(node)
        if progress is None or progress.active_at <= self._env.now - self._config.election_timeout_s_min:
            return False
        return self.followers.counted.get(node, 0) >= self._settled_index

    def _leave_joint(self) -> None:
        """§4.3: when C_old,new is committed the leader appends C_new. Also one that found it in its log."""
        newest = self._state.configurations.newest
        if newest.next_members and newest.index <= self._state.commit_index and self.is_current():
            self._append([Entry(self._state.term, b"", CONFIGURATION)])

    # --- nodes that come and go ---

    def met(self, node: int) -> None:
        """It follows from now on. The last entry is sent at once, as its answer shows what the node lacks."""
        self.followers.stateless = self._state.configurations.newest.witnesses
        self.followers.met(node, self._state.log.last_index, self._env.now)
        self._may_send = True

    def parted(self, node: int) -> None:
        """It gets nothing more."""
        self.followers.parted(node)

    # --- entries again ---

    def _append(self, entries: list[Entry]) -> None:
        log = self._state.log
        before = log.size_bytes
        self._state.write(log.last_index + 1, entries)
        self._uncommitted_bytes += log.size_bytes - before
        self._appended = self._may_send = True

    def advance(self) -> None:
        """Once a step: acknowledge to itself, commit, and send what is new of both."""
        if self._acknowledged:
            self._advance_commit()
            self._leave_joint()
        if self._appended:
            self._appended = False
            self._acknowledge()
        if self._may_send:
            self._may_send = False
            self._send_entries()
        if self._acknowledged:
            self._acknowledged = False
            self._announce_commit()

    def _acknowledge(self) -> None:
        """The leader's own disk answers like a follower's (§10.2.1), once the entries are durable."""
        self._env.send(self._env.id, Appended(self._state.term, self._state.log.last_index))

    def _send_entries(self) -> None:
        """Send what each follower lacks and may get; §5.3: a snapshot, if what it needs next is only there."""
        state, log = self._state, self._state.log
        term, commit_index = state.term, state.commit_index
        for nodes, first, entries in outgoing(self._config, log, commit_index, self.followers, self._transfers):
            prev_term = log.term_at(first - 1)
            assert prev_term is not None
            # In parallel with our own write (§10.2.1): the term is durable since the election, and entries only
            # count where their holders say that they are durable.
            self._env.send_now(nodes, AppendEntries(term, first - 1, prev_term, entries, commit_index))
        if self.followers.stateless:
            self.witnesses.send(self.followers)

    def on_appended(self, sender: int, m: Appended) -> None:
        """A follower, or our own disk, holds the log up to an index."""
        if self._may_hold(sender, m.index) and sender not in self.followers.incarnations:
            self.followers.acknowledged(sender, m.index, self._env.now)
            self._acknowledged = self._may_send = True

    def on_appended_as(self, sender: int, m: AppendedAs) -> None:
        """The same of one that lost its memory once: it counts if it says so."""
        if self._may_hold(sender, m.index) and sender in self.followers:
            followers, now = self.followers, self._env.now
            followers.heard(sender, m.incarnation, self._state.log.last_index + 1, now, counts=m.counts)
            followers.acknowledged(sender, m.index, now)
            self._acknowledged = self._may_send = True

    def _may_hold(self, sender: int, index: int) -> bool:
        last_index = self._state.log.last_index
        if index > last_index:
            self._env.blame(sender, f"acknowledges index {index} of a log that ends at {last_index}")
        return index <= last_index

    def on_forgot(self, sender: int, m: Forgot) -> None:
        """A follower lost its memory. The log is to say that it returns, and it is sent all of it anew."""
        if sender not in self.followers:
            return
        state, now = self._state, self._env.now
        next_index = state.log.last_index + 1
        self.followers.heard(sender, m.incarnation, next_index, now, counts=False)
        self.followers.forgot(sender, m.last_index, next_index, now)
        if self._returns.wants(state.returns, sender, m.incarnation, state.commit_index):
            self._returns.put(sender, m.incarnation, next_index)
            self._append([return_entry(state.term, sender, m.incarnation)])
        self._acknowledged = self._may_send = True

    def on_conflict(self, sender: int, m: Conflict) -> None:
        """§3.5: go back to where the logs may agree, whole terms at a time."""
        progress = self.followers.get(sender)
        if progress is None:
            return
        progress.active_at = self._env.now
        match_index = self.followers.match[sender]
        if m.prev_index <= match_index or m.prev_index >= progress.next_index:
            return  # an answer to something older
        agreed = self._state.log.last_at_or_below_term(min(m.hint_index, m.prev_index - 1), m.hint_term)
        progress.probe(max(agreed, match_index) + 1)
        self._may_send = True

    def on_snapshot_progress(self, sender: int, m: SnapshotProgress) -> None:
        """The next piece, or back to entries (§5.3)."""
        last_index = self._state.log.last_index
        if m.complete and m.index > last_index:
            self._env.blame(sender, f"has a snapshot at index {m.index} of a log that ends at {last_index}")
        elif sender in self.followers:
            self._transfers.progressed(sender, self.followers, m.index, m.next_offset, m.complete)
            self._acknowledged = self._may_send = True

    # --- commitment (§3.6.2) ---

    def _advance_commit(self) -> None:
        """§3.6.2: count replicas only for an entry of the own term (figure 3.7 shows why)."""
        state = self._state
        index = self._quorum.reached(self.followers.counted)
        if index > state.commit_index and state.log.term_at(index) == state.term:
            state.commit(index)

    def delivered(self, size_bytes: int) -> None:
        """So much is committed now, and leaves room for more."""
        self._uncommitted_bytes = max(0, self._uncommitted_bytes - size_bytes)

    def _announce_commit(self) -> None:
        """Tell those who were sent nothing else, so that what waits at a follower does not wait for a heartbeat."""
        for commit_index, nodes in self.followers.uninformed(self._state.commit_index).items():
            # What is committed is durable at a quorum already.
            self._env.send_now(tuple(nodes), Heartbeat(self._state.term, commit_index, 0))

    # --- heartbeats (§3.4), and what they confirm (§6.2, §6.4) ---

    def beat(self) -> bool:
        """Heartbeats, and again what was lost. False, and nothing, if no quorum has answered for too long (§6.2)."""
        env, followers, state = self._env, self.followers, self._state
        heard = followers.heard_since(env.now - 2 * self._config.election_timeout_s_min)
        if not self._quorum.is_quorum(heard | 1 << env.id):
            return False
        env.set_timer(HEARTBEAT, self._config.heartbeat_s)
        self._may_send = True
        self.witnesses.beat()
        if self._lease is not None:
            self._reads.rounds.number += 1
            self._begin_lease(self._lease)
        self._settled_index, self._settling_index = self._settling_index, state.commit_index
        number = self._reads.rounds.number
        for node, commit_index in followers.knowing(state.commit_index):
            # No durable state: the term is durable since the election, and so is what is committed.
            env.send_now(node, Heartbeat(state.term, commit_index, number))
            followers.told(node, commit_index)
            followers.beat(node)
            self._transfers.beat(node, followers)
        for node in nodes_of(followers.forgetful):
            self._inform(node)
        return True

    def _begin_lease(self, lease: Lease) -> None:
        """§6.4.1: the round that leaves now is one if a quorum answers it."""
        number = self._reads.rounds.number
        lease.begin(number, self._env.now, self._quorum)
        lease.answered(self._env.id, number)

    def _inform(self, node: int) -> None:
        """One that has forgotten takes from no heartbeat what is committed, which may be for an earlier life of it."""
        state, progress = self._state, self.followers[node]
        prev_index = progress.next_index - 1 if progress.probing else self.followers.match[node]
        prev_term = state.log.term_at(prev_index)
        if prev_term is not None and progress.transfer is None:
            # As for entries: what is committed is durable at a quorum.
            self._env.send_now(node, AppendEntries(state.term, prev_index, prev_term, [], state.commit_index))

    def on_heartbeat_reply(self, sender: int, m: HeartbeatReply) -> None:
        """The follower lives, and has seen this round (§6.4)."""
        if progress := self.followers.get(sender):
            progress.active_at = self._env.now
            self._reads.confirm(sender, m.round)
            if self._lease is not None:
                self._lease.answered(sender, m.round)

    def is_current(self) -> bool:
        """§6.4, step 1: whether all that earlier terms committed is known to be."""
        return self._state.commit_index >= self.noop_index

    def begin_round(self) -> None:
        """§6.4, steps 1 to 3. Reads wait until an entry of this term is committed; §6.4.1: a lease saves the round."""
        if not self._reads.rounds.waiting or not self.is_current():
            return
        commit_index = self._state.commit_index
        if self._lease is not None and self._lease.holds(self._env.now):
            self._reads.serve_waiting(commit_index)
            return
        number = self._reads.rounds.begin(commit_index, self._quorum)
        if number is None:
            return
        if self._lease is not None:
            self._begin_lease(self._lease)
        for node, known in self.followers.knowing(commit_index):
            # No durable state: a question whether we still lead.
            self._env.send_now(node, Heartbeat(self._state.term, known, number))
        self._reads.confirm(self._env.id, number)
