"""Raft: a replicated log kept by an elected leader, for crash faults, with 2f + 1 nodes for f of them.

Sources. Ongaro and Ousterhout, "In search of an understandable consensus algorithm" (2014), and Ongaro's dissertation
(2014), whose section numbers stand beside the rules.

How it works. Time is cut into terms, each with at most one leader, elected by a majority whose logs are no newer than
its own (§3.4, §3.6.1). The leader alone appends; it sends its entries with the index and term of the one before, and a
follower takes them only where that one agrees (§3.5). An entry *of the leader's own term* that a majority holds is
committed, and with it all before (§3.6.2). What many inputs of one step share (sending new entries, acknowledging,
committing) is done once, in ``settle``.

Durable state. ``HardState`` (term and vote), ``Entries`` (a suffix of the log), ``Snapshotted`` (what replaced its
beginning). The kernel's barrier keeps a vote or an acknowledgement from leaving before they are durable. The leader's
own acknowledgement is a message to itself and passes the same barrier, so its disk works in parallel with the
followers' (§10.2.1).

Beyond the paper's core: pre-vote (§9.6); a leader that a quorum has not answered steps down (§6.2); votes are refused
while a leader is heard (§4.2.3); ReadIndex (§6.4); pipelining and flow control (§10.2); proposals and reads are
forwarded to the leader.

Deviations. (1) A rejection carries a hint from which both sides skip whole terms; the paper's (§3.5, last paragraph)
lets only the leader skip. (2) Snapshots travel in pieces, each asked for by offset, so a transfer can resume; figure
5.3 sends them in order. (3) Heartbeats are a message of their own, not empty AppendEntries: they rest on no durable
state, so they leave at once, and a slow disk does not cost an election. (4) Loss of entries is noticed by a follower
that has not moved between two heartbeats, rather than by a time-out for each message.

Room is left for membership changes (chapter 4): quorums come from a QuorumSystem, and a kind of entry is reserved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from quorate.kernel import Core, Env, Key
from quorate.parts.alarm import Alarm
from quorate.parts.leaderlog.compaction import CHUNK, INSTALL, SNAPSHOT, Compactor, Transfers
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.leaderlog.proposals import Propose, in_messages
from quorate.parts.leaderlog.reads import ReadReply, ReadRequest, Reads
from quorate.parts.log.entries import COMMAND, NOOP, Entry, Log, size_of
from quorate.parts.log.replicated import Decided, Dropped, Leads, Restored, Written
from quorate.parts.quorum import Majority, QuorumSystem
from quorate.parts.votes.tally import Tally
from quorate.protocols.raft.messages import (
    MESSAGES,
    RECORDS,
    Appended,
    AppendEntries,
    Conflict,
    Entries,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    RaftConfig,
    RequestVote,
    SnapshotProgress,
    Snapshotted,
    Vote,
)

FOLLOWER = "follower"
PRECANDIDATE = "precandidate"
CANDIDATE = "candidate"
LEADER = "leader"

ELECTION = "election"
HEARTBEAT = "heartbeat"


class Raft(Core):
    """One server (figure 3.1). Public attributes may be read by checkers and status pages, and by nothing else."""

    messages = MESSAGES
    records = RECORDS

    def __init__(self, env: Env, config: RaftConfig = RaftConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__(env)
        self.config = config
        self.quorum: QuorumSystem = Majority(env.peers)
        # Durable (HardState, Entries, Snapshotted).
        self.term = 0
        self.vote: int | None = None
        self.log = Log()
        self.snapshot_index = 0
        self.snapshot_term = 0
        # Volatile on all servers.
        self.role = FOLLOWER
        self.leader: int | None = None
        self.commit_index = 0
        self.delivered_index = 0
        self._leader_heard_at = float("-inf")
        self._election_delay = 0.0
        self._alarm = Alarm(env, ELECTION)
        self._announced: tuple[int, int | None] | None = None
        self._acknowledge_index = 0
        self._stalled: str | None = None
        self._compactor = Compactor(env, config.snapshot_entries, config.snapshot_bytes_min, config.snapshot_bytes_max)
        self._transfers = Transfers(env, config.chunk_bytes)
        self._reads = Reads(env, config.reads_pending_max, 2 * config.election_timeout_s_min)
        # Volatile on candidates.
        self._votes = Tally(self.quorum)
        # Volatile on leaders, made anew by each election.
        self._progress = Followers((), 0, 0.0)
        self._match: dict[int, int] = {}
        self._noop_index = 0
        self._uncommitted_bytes = 0
        self._appended = False

    # --- recovery ---

    def restore(self, record: Any) -> None:
        """Take back the durable state, record by record."""
        if isinstance(record, HardState):
            self.term, self.vote = record.term, record.vote
        elif isinstance(record, Entries):
            if not self.log.base_index < record.first_index <= self.log.last_index + 1:
                raise ValueError(
                    f"the journal has entries from {record.first_index} for a log of "
                    f"{self.log.base_index + 1} to {self.log.last_index}: records are missing"
                )
            self.log.truncate(record.first_index)
            self.log.append(record.entries)
        elif isinstance(record, Snapshotted):
            self.snapshot_index, self.snapshot_term = record.index, record.term
            self.log.compact(record.base_index, record.base_term)

    def checkpoint(self) -> Iterable[Any]:
        """The durable state as it is now, the log in records of bounded size."""
        yield HardState(self.term, self.vote)
        log = self.log
        if self.snapshot_index:
            yield Snapshotted(self.snapshot_index, self.snapshot_term, log.base_index, log.base_term)
        first = log.base_index + 1
        while first <= log.last_index:
            entries = log.batch(first, self.config.message_entries_max, self.config.message_bytes_max)
            yield Entries(first, entries)
            first += len(entries)

    def start(self) -> None:
        """What a snapshot stands for is committed; the rest becomes so again when a leader says it."""
        if self.log.last_index < self.snapshot_index:
            raise ValueError(
                f"the journal's snapshot stands at {self.snapshot_index}, but its log ends at {self.log.last_index}: "
                "records are missing"
            )
        self.commit_index = self.delivered_index = self.snapshot_index
        if self.snapshot_index:
            self.env.deliver(Restored(self.snapshot_index, self.snapshot_term))
        self._become_follower(self.term, None)
        if self.quorum.is_quorum(1 << self.env.id):
            self._ask_for_votes()  # alone, there is nobody to wait for

    # --- terms and roles (§3.3) ---

    def _become_follower(self, term: int, leader: int | None) -> None:
        if term > self.term:
            self.term, self.vote = term, None
            self._persist_hard_state()
        if self.role == LEADER:
            self.env.cancel_timer(HEARTBEAT)
            self._reads.resign()
            self._progress.clear()
        self.role = FOLLOWER
        self._acknowledge_index = 0
        self._follow(leader)
        if leader is not None or not self._alarm.is_set:
            self._rest()  # figure 3.1: a later term alone does not put the election off, else who cannot win could

    def _follow(self, leader: int | None) -> None:
        """Note who leads, and tell those above."""
        self.leader = leader
        if self._announced == (self.term, leader):
            return
        self._announced = (self.term, leader)
        self._reads.leader_changed()
        self.env.deliver(Leads(self.term, leader))

    def _rest(self) -> None:
        """Randomised, so that two servers seldom time out together (§3.4)."""
        shortest, longest = self.config.election_timeout_s_min, self.config.election_timeout_s_max
        self._election_delay = self.env.rng.uniform(shortest, 2 * shortest if longest is None else longest)
        self._alarm.put_off(self._election_delay)

    def _persist_hard_state(self) -> None:
        self.env.persist(HardState(self.term, self.vote))

    def _observe(self, term: int) -> None:
        """A term higher than ours: whatever we were, we follow (§3.3)."""
        if term > self.term:
            self._become_follower(term, None)

    def _hears_leader(self) -> bool:
        """Whether a leader was heard within the shortest election time-out, or is us."""
        if self.role == LEADER:
            return True
        return self.leader is not None and self.env.now - self._leader_heard_at < self.config.election_timeout_s_min

    def _accept_leader(self, sender: int, term: int) -> bool:
        """A message that only the term's leader sends: follow it, unless the term is over."""
        if term < self.term:
            # Our term makes the deposed leader step down.
            self.env.send(sender, HeartbeatReply(self.term, 0))
            return False
        if term == self.term and self.role == LEADER:
            if sender != self.env.id:
                self.env.blame(sender, f"claims to lead term {term}, which this node leads")
            return False
        if term > self.term or self.role != FOLLOWER or self.leader is None:
            self._become_follower(term, sender)
        elif self.leader != sender:
            self.env.blame(sender, f"claims to lead term {term}, which node {self.leader} leads")
            return False
        self._leader_heard_at = self.env.now
        self._alarm.put_off(self._election_delay)
        return True

    # --- election (§3.4), pre-vote (§9.6) ---

    def on_timer(self, key: Key) -> None:
        """The election time-out, or the leader's heartbeat."""
        if key == ELECTION:
            if self._alarm.is_due():
                self._ask_for_votes()
        elif key == HEARTBEAT and self.role == LEADER:
            self._beat()

    def _ask_for_votes(self) -> None:
        """§9.6: first ask whether an election could be won; the term does not change yet."""
        self._rest()
        if self._stalled is not None or not self.quorum.members >> self.env.id & 1:
            return
        self.role = PRECANDIDATE
        self._follow(None)
        self._votes = Tally(self.quorum)
        # No durable state: nothing is promised, the vote that counts comes after.
        self.env.send_now(self.env.others, PreVote(self.term + 1, self.log.last_index, self.log.last_term))
        if self._votes.add(self.env.id):
            self._campaign()

    def _campaign(self) -> None:
        """§3.4: a new term, a vote for itself, and a request to all. It answers its own like any other."""
        self.role = CANDIDATE
        self.term += 1
        self.vote = self.env.id
        self._persist_hard_state()
        self._votes = Tally(self.quorum)
        self._rest()
        self.env.broadcast(RequestVote(self.term, self.log.last_index, self.log.last_term))

    def _is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """§3.6.1: the later last term wins, then the longer log."""
        return (last_term, last_index) >= (self.log.last_term, self.log.last_index)

    def on_pre_vote(self, sender: int, m: PreVote) -> None:
        """§9.6: yes, if we would vote for that log and hear no leader."""
        granted = m.term > self.term and not self._hears_leader() and self._is_up_to_date(m.last_index, m.last_term)
        # An opinion, not a promise: rests on no durable state.
        self.env.send_now(sender, PreVoteReply(m.term if granted else self.term, granted))

    def on_pre_vote_reply(self, sender: int, m: PreVoteReply) -> None:
        """A quorum of yeses starts the election."""
        if not m.granted:
            self._observe(m.term)
        elif self.role == PRECANDIDATE and m.term == self.term + 1 and self._votes.add(sender):
            self._campaign()

    def on_request_vote(self, sender: int, m: RequestVote) -> None:
        """§3.4: one vote a term, first come first served, to a log that is no older (§3.6.1)."""
        if m.term > self.term and self._hears_leader():
            return  # §4.2.3: a server that was removed or cut off must not depose a live leader
        self._observe(m.term)
        granted = m.term == self.term and self._may_vote_for(sender) and self._is_up_to_date(m.last_index, m.last_term)
        if granted:
            if self.vote is None:
                self.vote = sender
                self._persist_hard_state()
            self._alarm.put_off(self._election_delay)
        self.env.send(sender, Vote(self.term, granted))

    def _may_vote_for(self, candidate: int) -> bool:
        return self.vote is None or self.vote == candidate

    def on_vote(self, sender: int, m: Vote) -> None:
        """A quorum of votes elects."""
        self._observe(m.term)
        if self.role == CANDIDATE and m.term == self.term and m.granted and self._votes.add(sender):
            self._become_leader()

    def _become_leader(self) -> None:
        self.role = LEADER
        self._alarm.stop()
        self._follow(self.env.id)
        log = self.log
        self._progress = Followers(self.env.others, log.last_index + 1, self.env.now)
        self._match = {}
        self._reads.lead()
        tail = log.slice(self.commit_index + 1, log.last_index)
        self._uncommitted_bytes = size_of(tail)
        self._open_term()
        self.env.set_timer(HEARTBEAT, self.config.heartbeat_s)

    def _open_term(self) -> None:
        """§6.4, step 1: only an entry of its own term tells a leader what is committed, so it makes one."""
        self._append([Entry(self.term, b"", NOOP)])
        self._noop_index = self.log.last_index

    # --- the leader: proposals, heartbeats, step-down ---

    def submit(self, values: Sequence[bytes]) -> None:
        """Append here if this node leads, else pass on to the one that does."""
        if self.role == LEADER:
            self._propose(values)
        elif self.leader is not None and self._stalled is None:
            # Nothing durable is claimed; what gets lost is submitted again from above.
            for batch in in_messages(values, self.config.message_entries_max, self.config.message_bytes_max):
                self.env.send_now(self.leader, Propose(batch))
        else:
            self.env.deliver(Dropped(tuple(values), self._stalled or "no leader is known"))

    def on_propose(self, sender: int, m: Propose) -> None:
        """Values from a follower. They are not passed on twice: the sender will learn who leads, and try again."""
        if self.role == LEADER:
            self._propose(m.values)

    def _propose(self, values: Sequence[bytes]) -> None:
        if self._uncommitted_bytes > self.config.uncommitted_bytes_max:
            self.env.deliver(Dropped(tuple(values), "too much is waiting for a quorum"))
            return
        term = self.term
        self._append([Entry(term, value, COMMAND) for value in values])

    def _append(self, entries: list[Entry]) -> None:
        log = self.log
        before = log.size_bytes
        self.env.persist(Entries(log.last_index + 1, entries))
        log.append(entries)
        self._uncommitted_bytes += log.size_bytes - before
        self._appended = True

    def _beat(self) -> None:
        """Heartbeats, retransmission, and §6.2: a leader without a quorum steps down."""
        heard = self._progress.heard_since(self.env.now - 2 * self.config.election_timeout_s_min)
        if not self.quorum.is_quorum(heard | 1 << self.env.id):
            self._become_follower(self.term, None)
            return
        self.env.set_timer(HEARTBEAT, self.config.heartbeat_s)
        for node, progress in self._progress.items():
            commit = min(self.commit_index, progress.match_index)
            self.env.send_now(node, Heartbeat(self.term, commit, self._reads.rounds.number))
            progress.commit_sent = max(progress.commit_sent, commit)
            if progress.beat():
                progress.retry()
            self._transfers.nudge(node, progress)

    def on_stalled(self, why: str | None) -> None:
        """A leader that cannot write must not keep the others from having one that can; nor may it become one."""
        self._stalled = why
        if why is not None and self.role != FOLLOWER:
            self._become_follower(self.term, None)

    def on_heartbeat_reply(self, sender: int, m: HeartbeatReply) -> None:
        """The follower lives, and has seen this round (§6.4)."""
        self._observe(m.term)
        if self.role != LEADER or m.term != self.term:
            return
        if progress := self._progress.get(sender):
            progress.active_at = self.env.now
            self._reads.confirm(sender, m.round)

    # --- log replication (§3.5) ---

    def _replicate(self) -> None:
        """Send what each follower lacks and may get. Those that want the same get one message, encoded once."""
        config, log = self.config, self.log
        last = log.last_index
        while wanted := self._progress.wanting(last, config.inflight_messages_max, config.inflight_bytes_max):
            for next_index, nodes in wanted.items():
                if next_index <= log.base_index:
                    for node in nodes:  # §5.3: what the follower needs next is only in the snapshot
                        self._transfers.begin(node, self._progress[node], self.snapshot_index)
                else:
                    self._send_entries(next_index, nodes)

    def _send_entries(self, next_index: int, nodes: list[int]) -> None:
        log = self.log
        entries = log.batch(next_index, self.config.message_entries_max, self.config.message_bytes_max)
        prev_term = log.term_at(next_index - 1)
        assert prev_term is not None
        message = AppendEntries(self.term, next_index - 1, prev_term, entries, self.commit_index)
        # In parallel with our own write (§10.2.1): the term is durable since the election, and entries only
        # count where their holders say that they are durable.
        self.env.send_now(tuple(nodes), message)
        self._progress.sent(nodes, next_index + len(entries) - 1, size_of(entries), self.commit_index)

    def _announce_commit(self) -> None:
        """Tell those who were sent nothing else, so that what waits at a follower does not wait for a heartbeat."""
        for commit, nodes in self._progress.uninformed(self.commit_index).items():
            # What is committed is durable at a quorum already.
            self.env.send_now(tuple(nodes), Heartbeat(self.term, commit, 0))

    def on_append_entries(self, sender: int, m: AppendEntries) -> None:
        """§3.5: take the entries if the one before them agrees."""
        if not self._accept_leader(sender, m.term):
            return
        log = self.log
        last_new = m.prev_index + len(m.entries)
        if m.prev_index >= log.base_index and log.term_at(m.prev_index) != m.prev_term:
            hint = log.last_at_or_below_term(m.prev_index, m.prev_term)
            self.env.send(sender, Conflict(self.term, m.prev_index, hint, log.term_at(hint) or 0))
            return
        if not self._take_entries(sender, m):
            return
        self._commit_to(min(m.commit_index, last_new))
        self._acknowledge_index = max(self._acknowledge_index, last_new)

    def _take_entries(self, sender: int, m: AppendEntries) -> bool:
        """Append what is new. Cut only where an entry *conflicts*: an older message must not cut newer entries."""
        log = self.log
        if m.entries and m.entries[-1].term > m.term:
            self.env.blame(sender, f"leads term {m.term} but sent an entry of term {m.entries[-1].term}")
            return False
        index = m.prev_index + 1
        skip = max(0, log.base_index - m.prev_index)  # what a snapshot stands for is committed, and so the same
        for position in range(skip, len(m.entries)):
            known = log.term_at(index + position)
            if known != m.entries[position].term:
                first = index + position
                if first <= self.commit_index:
                    self.env.blame(sender, f"sent an entry for index {first}, which is committed with another term")
                    return False
                if known is not None:
                    log.truncate(first)
                new = m.entries[position:] if position else m.entries
                self.env.persist(Entries(first, new))
                log.append(new)
                break
        return True

    def on_appended(self, sender: int, m: Appended) -> None:
        """A follower, or our own disk, holds the log up to an index."""
        self._observe(m.term)
        if self.role != LEADER or m.term != self.term:
            return
        if m.index > self.log.last_index:
            self.env.blame(sender, f"acknowledges index {m.index} of a log that ends at {self.log.last_index}")
            return
        self._match[sender] = max(self._match.get(sender, 0), m.index)
        if progress := self._progress.get(sender):
            progress.active_at = self.env.now
            progress.acknowledged(m.index)

    def on_conflict(self, sender: int, m: Conflict) -> None:
        """§3.5: go back to where the logs may agree, whole terms at a time."""
        self._observe(m.term)
        progress = self._progress.get(sender)
        if self.role != LEADER or m.term != self.term or progress is None:
            return
        progress.active_at = self.env.now
        if m.prev_index <= progress.match_index or m.prev_index >= progress.next_index:
            return  # an answer to something older
        agreed = self.log.last_at_or_below_term(min(m.hint_index, m.prev_index - 1), m.hint_term)
        progress.probe(max(agreed, progress.match_index) + 1)

    def on_heartbeat(self, sender: int, m: Heartbeat) -> None:
        """The leader lives, and has committed this far."""
        if not self._accept_leader(sender, m.term):
            return
        if m.commit_index > self.log.last_index:
            self.env.blame(
                sender, f"says that index {m.commit_index} is here, but the log ends at {self.log.last_index}"
            )
            return
        self._commit_to(m.commit_index)
        if m.round:
            # We say that no later term had our vote when the round reached us; that needs no durable state.
            self.env.send_now(sender, HeartbeatReply(self.term, m.round))

    # --- commitment (§3.6.2) ---

    def _advance_commit(self) -> None:
        """§3.6.2: count replicas only for an entry of the own term (figure 3.7 shows why)."""
        index = self.quorum.reached(self._match)
        if index > self.commit_index and self.log.term_at(index) == self.term:
            self._commit_to(index)

    def _commit_to(self, index: int) -> None:
        if index > self.commit_index:
            self.commit_index = index

    def settle(self) -> None:
        """What the inputs of this step share: acknowledge, commit, send, deliver. Once."""
        leads = self.role == LEADER
        if leads:
            if self._appended:
                self._appended = False
                self._acknowledge(self.env.id, self.log.last_index)
            self._advance_commit()
            self._replicate()
            self._announce_commit()
        elif self._acknowledge_index and self.leader is not None:
            self._acknowledge(self.leader, self._acknowledge_index)
            self._acknowledge_index = 0
        if self.delivered_index < self.commit_index:
            self._deliver()
        self._reads.applied(self.delivered_index)
        if leads:
            self._begin_round()
        else:
            self._reads.give_up()

    def _acknowledge(self, leader: int, index: int) -> None:
        self.env.send(leader, Appended(self.term, index))

    def _deliver(self) -> None:
        first = self.delivered_index + 1
        entries = self.log.slice(first, self.commit_index)
        size = size_of(entries)
        self._uncommitted_bytes = max(0, self._uncommitted_bytes - size)
        self._compactor.delivered(len(entries), size)
        self.delivered_index = self.commit_index
        self.env.deliver(Decided(first, entries))
        if self._compactor.is_due:  # §5.1.3
            self._compactor.take(self.commit_index, entries[-1].term)

    # --- reads (§6.4) ---

    def read(self, tokens: Sequence[int]) -> None:
        """Make sure of leadership here, or ask the one that leads."""
        if self.role == LEADER:
            self._reads.take(tokens)
        else:
            self._reads.forward(tokens, self.leader)

    def on_read_request(self, sender: int, m: ReadRequest) -> None:
        """Reads of a follower join our own. Who does not lead says nothing: the asker gives up by itself."""
        if self.role == LEADER:
            self._reads.take_from(sender, m)

    def on_read_reply(self, sender: int, m: ReadReply) -> None:
        """The answer, unless we follow another by now."""
        if sender == self.leader:
            self._reads.answered(m)

    def _begin_round(self) -> None:
        """§6.4, steps 1 to 3. Reads wait until an entry of this term is committed."""
        if self.commit_index < self._noop_index:
            return
        number = self._reads.rounds.begin(self.commit_index, self.quorum)
        if number is None:
            return
        for node, progress in self._progress.items():
            commit = min(self.commit_index, progress.match_index)
            # No durable state: a question whether we still lead.
            self.env.send_now(node, Heartbeat(self.term, commit, number))
        self._reads.confirm(self.env.id, number)

    # --- compaction and snapshots (chapter 5) ---

    def on_done(self, key: Key, result: Any) -> None:
        """A snapshot was written, or a piece of one was read or stored."""
        if key == SNAPSHOT:
            info = self._compactor.taken(result)
            if info is not None and info.index > self.snapshot_index:
                self._compact(info.index, info.term)
        elif key == INSTALL:
            written = self._transfers.stored(result)
            if written is not None:
                self._stored(written)
        elif isinstance(key, tuple) and key[0] == CHUNK:
            chunk = self._transfers.piece(self._progress.get(key[1]), result, self.snapshot_index)
            if chunk is not None:
                # A snapshot is durable and of committed entries only.
                self.env.send_now(key[1], InstallSnapshot(self.term, chunk))

    def _compact(self, index: int, term: int) -> None:
        """Drop what the snapshot stands for, but keep a tail for followers that are a little behind."""
        self.snapshot_index, self.snapshot_term = index, term
        base = max(self.log.base_index, index - self.config.keep_entries)
        base_term = self.log.term_at(base)
        assert base_term is not None
        self.env.persist(Snapshotted(index, term, base, base_term))
        self.log.compact(base, base_term)

    def on_install_snapshot(self, sender: int, m: InstallSnapshot) -> None:
        """§5.3: store the piece; ask for the next when it is stored."""
        if not self._accept_leader(sender, m.term):
            return
        chunk = m.chunk
        if chunk.index <= self.commit_index:
            self.env.send(sender, SnapshotProgress(self.term, chunk.index, chunk.total_bytes, True))
        else:
            self._transfers.store(chunk)

    def _stored(self, written: Written) -> None:
        if written.complete and written.index > self.commit_index:
            index, term = written.index, written.term
            self.log.compact(index, term)
            self.snapshot_index, self.snapshot_term = index, term
            self.commit_index = self.delivered_index = index
            self._compactor.restart()
            self.env.persist(Snapshotted(index, term, index, term))
            self.env.deliver(Restored(index, term))
        if self.leader is not None and self.role == FOLLOWER:
            reply = SnapshotProgress(self.term, written.index, written.next_offset, written.complete)
            self.env.send(self.leader, reply)

    def on_snapshot_progress(self, sender: int, m: SnapshotProgress) -> None:
        """The next piece, or back to entries."""
        self._observe(m.term)
        progress = self._progress.get(sender)
        if self.role != LEADER or m.term != self.term or progress is None:
            return
        progress.active_at = self.env.now
        if self._transfers.progressed(sender, progress, m.index, m.next_offset, m.complete):
            self._match[sender] = max(self._match.get(sender, 0), m.index)
            progress.probe(m.index + 1)
            progress.match_index = max(progress.match_index, m.index)
