"""Raft: a replicated log kept by an elected leader, for crash faults, with 2f + 1 nodes for f of them.

Sources. Ongaro and Ousterhout, "In search of an understandable consensus algorithm" (2014), and Ongaro's dissertation
(2014), whose section numbers stand beside the rules.

How it works. Time is cut into terms, each with at most one leader, elected by a majority whose logs are no newer than
its own (§3.4, §3.6.1: ``election.py``). The leader alone appends; it sends its entries with the index and term of the
one before, and commits an entry of its own term that a majority holds, and with it all before (§3.5, §3.6.2:
``replication.py``). A follower takes entries only if the one before agrees (``following.py``). Snapshots replace the
beginning of the log (chapter 5: ``snapshots.py``). Members change through the log (chapter 4: ``configurations.py``);
some may be witnesses, which vote and keep no state (``witnesses.py``).
All of them stand on what a server keeps (figure 3.1: ``state.py``). This file joins the parts: it says which message
goes to which, and what the inputs of one step share.

Durable state. ``HardState`` (term and vote), ``Entries`` (a suffix of the log), ``Snapshotted`` (what replaced its
beginning, and who were the members then), ``Returned`` (of a server that lost these once, and counts again),
``Witness`` (of a server without state). The kernel's barrier keeps a vote or an acknowledgement from leaving before
they are durable.

Beyond the paper's core: pre-vote (§9.6); a leader that a quorum has not answered steps down (§6.2); votes are refused
while a leader is heard (§4.2.3); ReadIndex (§6.4); pipelining and flow control (§10.2); proposals and reads are
forwarded to the leader; a leader that is about to stop hands over (§3.10: ``parts/leaderlog/handover.py``); a server
that lost its memory returns by an entry in the log (``parts/leaderlog/returns.py``).

Deviations, each explained in the part that has it: (1) a rejection carries a hint from which both sides skip whole
terms; (2) snapshots travel in pieces, each asked for by offset, and from another server where the leader's does not
arrive; (3) heartbeats are a message of their own; (4) loss of entries is noticed between two heartbeats; (5) members
are joint only where majorities may miss each other, and a leader that is a member no more hands over before it steps
down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from quorate.kernel import Core, Env, Key, Standing
from quorate.kernel.standing import FOLLOWER, LEADER, LEARNER, WITNESS
from quorate.parts.leaderlog.acquaintances import Acquaintances, NodesKnown
from quorate.parts.leaderlog.compaction import FULL, SNAPSHOT
from quorate.parts.leaderlog.config import ELECTION, HEARTBEAT
from quorate.parts.leaderlog.delivery import portion
from quorate.parts.leaderlog.handover import Handover
from quorate.parts.leaderlog.preference import Preference
from quorate.parts.leaderlog.proposals import Propose, forward
from quorate.parts.leaderlog.reads import ReadReply, ReadRequest, Reads
from quorate.parts.leaderlog.transfers import CHUNK, INSTALL
from quorate.parts.leaderlog.watch import Watch
from quorate.parts.log.configuration import FOUNDERS_ALONE, InForce, NodePlace, Reconfigurable, Voters
from quorate.parts.log.entries import CONFIGURATION, Entry
from quorate.parts.log.replicated import Busy, Decided, Dropped, Journaled, ReadFailed, Stateless, Survivor
from quorate.parts.quorum import QuorumSystem
from quorate.protocols.raft.election import PRECANDIDATE, Election
from quorate.protocols.raft.following import LogFollower
from quorate.protocols.raft.messages import (
    MESSAGES,
    RECORDS,
    Appended,
    AppendedAs,
    AppendEntries,
    AppendWithheld,
    Configured,
    Conflict,
    Forgot,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallCut,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    RaftConfig,
    RequestVote,
    RequestVoteWithLeave,
    ServeSnapshot,
    SnapshotPiece,
    SnapshotProgress,
    SnapshottedAmong,
    TimeoutNow,
    Vote,
)
from quorate.protocols.raft.replication import LogReplication
from quorate.protocols.raft.snapshots import LogCompaction
from quorate.protocols.raft.state import ServerState
from quorate.protocols.raft.witnesses import NO_STATE


class Raft(Core, Reconfigurable, Journaled, Survivor):
    """One server (figure 3.1). Public attributes may be read by checkers and status pages, and by nothing else."""

    messages = MESSAGES
    records = RECORDS
    hands_over = True
    hears_hang_ups = True
    is_repairable = True
    state_class: ClassVar[type[ServerState]] = ServerState
    election_class: ClassVar[type[Election]] = Election
    replication_class: ClassVar[type[LogReplication]] = LogReplication
    follower_class: ClassVar[type[LogFollower]] = LogFollower
    compaction_class: ClassVar[type[LogCompaction]] = LogCompaction
    handover_class: ClassVar[type[Handover]] = Handover
    preference_class: ClassVar[type[Preference]] = Preference

    def __init__(self, env: Env, config: RaftConfig = RaftConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__(env)
        self.config = config
        self.state = self.state_class(env, config)
        self.quorum: QuorumSystem = self.state.configurations
        self._acquaintances = Acquaintances(env)
        self.log = self.state.log
        self._reads = Reads(env, config.reads_pending_max, 2 * config.election_timeout_s_min)
        self.snapshots = self.compaction_class(env, config, self.state)
        self._compactor = self.snapshots.compactor
        self.follower = self.follower_class(env, self.state)
        self.replication = self.replication_class(
            env, config, self.state, self.quorum, self._reads, self.snapshots.transfers
        )
        self.handover = self.handover_class(env, config, self._ask_to_stand)
        self.preference = self.preference_class(env, config, self.handover)
        self.election = self.election_class(
            env,
            self.state,
            self.quorum,
            Watch(env, ELECTION, config, self._reads),
            config,
            resign=self._resign,
            begin=self.follower.begin,
        )

    # --- what others may see ---

    @property
    def term(self) -> int:
        """``currentTerm`` of figure 3.1."""
        return self.state.term

    @property
    def vote(self) -> int | None:
        """``votedFor`` of figure 3.1."""
        return self.state.vote

    @property
    def role(self) -> str:
        """Follower, precandidate, candidate or leader."""
        return self.election.role

    @property
    def leader(self) -> int | None:
        """Whom this server follows, itself if it leads."""
        return self.election.watch.leader

    @property
    def commit_index(self) -> int:
        """The last entry that is known to be committed."""
        return self.state.commit_index

    @property
    def stands_on(self) -> int:
        """As ``Journaled.stands_on``. A witness cuts its log, and has no snapshot."""
        return 0 if self.state.is_witness else self.state.snapshot_index

    @property
    def log_end(self) -> int:
        """As ``Journaled.log_end``."""
        return self.log.last_index

    def surviving(self) -> list[Entry]:
        """As ``Survivor.surviving``: all of the log, as a leader of a cluster of this server alone would commit it."""
        if self.state.is_witness:
            raise ValueError(f"{NO_STATE}, so nothing survives here")
        return self.log.slice(self.state.snapshot_index + 1, self.log.last_index)

    @staticmethod
    def founded_on(index: int, term: int, members: tuple[int, ...]) -> list[Any]:
        """As ``Survivor.founded_on``."""
        founders = Configured(index, index, members, (), FOUNDERS_ALONE)
        return [HardState(term, None), SnapshottedAmong(index, term, index, term, (), founders)]

    @property
    def snapshot_index(self) -> int:
        """Where the newest snapshot stands."""
        return self.state.snapshot_index

    def standing(self) -> Standing:
        """As ``Core.standing``."""
        election, state = self.election, self.state
        is_member = self.quorum.members >> self.env.id & 1
        role = WITNESS if state.is_witness else election.role
        if state.has_forgotten or (election.role == FOLLOWER and not is_member):
            role = LEARNER
        return Standing(role, election.watch.leader, state.term, state.commit_index)

    def in_force(self) -> InForce:
        """As ``Reconfigurable.in_force``."""
        committed = self.state.configurations.committed
        return InForce(committed.voters, committed.nodes)

    def places(self) -> tuple[NodePlace, ...]:
        """As ``Reconfigurable.places``: by the newest configuration in the log."""
        return self.state.configurations.newest.nodes.places

    def acting(self) -> Voters:
        """As ``Reconfigurable.acting``: by the newest configuration in the log (§4.1)."""
        return self.state.configurations.newest.voters

    @property
    def founders(self) -> tuple[int, ...]:
        """The nodes that the cluster began with."""
        return self.state.configurations.founders

    # --- recovery ---

    def unrepairable(self) -> str:
        """As ``Core.unrepairable``: the others must be a quorum without this server."""
        if self.quorum.is_blocking(1 << self.env.id):
            return f"the other {len(self.env.others)} of {len(self.env.peers)} nodes are no quorum without this one"
        return ""

    def restore(self, record: Any) -> None:
        """Take back the durable state, record by record."""
        self.state.restore(record)

    def checkpoint(self) -> Iterable[Any]:
        """The durable state as it is now."""
        return self.state.checkpoint()

    def start(self) -> None:
        """From what is durable, as a follower."""
        self.state.start()
        self._keep_roster()
        self.election.start()

    def on_hung_up(self, node: int) -> None:
        """The process of the leader has ended, perhaps."""
        self.election.on_hung_up(node)

    def on_stalled(self, why: str | None) -> None:
        """The disk takes nothing, or does again. A leader that can write nothing has another lead."""
        if why is not None and self.role == LEADER:
            self.replication.give_up_lease()
            self.handover.ask_at_once(self.replication.followers, self._voting())
        self.election.on_stalled(why)

    # --- time ---

    def on_timer(self, key: Key) -> None:
        """The election timeout, or the leader's heartbeat; or there is more to deliver (``settle``)."""
        if key == ELECTION:
            self.election.timed_out()
        elif key == HEARTBEAT and self.election.role == LEADER:
            if not self.replication.beat():
                self.election.step_down()  # §6.2
            else:
                self._look_at_handover(self.handover.beat())

    # --- election (§3.4), pre-vote (§9.6) ---

    def on_pre_vote(self, sender: int, m: PreVote) -> None:
        """Could we vote for the sender? If it lacks what we have, nodes may call it that it does not know."""
        self.election.on_pre_vote(sender, m)
        log, nodes = self.log, self.state.configurations.committed.nodes
        if nodes.joined and (m.last_term, m.last_index) < (log.last_term, log.last_index):
            # What is committed is durable at a quorum.
            self.env.send_now(sender, NodesKnown(nodes))

    def on_nodes_known(self, sender: int, m: NodesKnown) -> None:
        """We hear no leader, perhaps as it joined while we were away: then we did not take its calls."""
        if self.role == PRECANDIDATE:
            self._acquaintances.introduced(m.nodes, self.founders)

    def on_pre_vote_reply(self, sender: int, m: PreVoteReply) -> None:
        """Perhaps an election could be won."""
        self.election.on_pre_vote_reply(sender, m)

    def on_request_vote(self, sender: int, m: RequestVote) -> None:
        """The sender stands."""
        self.election.on_request_vote(sender, m)

    def on_request_vote_with_leave(self, sender: int, m: RequestVoteWithLeave) -> None:
        """It stands because the leader asked it to."""
        self.election.on_request_vote(sender, m)

    def on_vote(self, sender: int, m: Vote) -> None:
        """A quorum of votes elects."""
        if self.election.on_vote(sender, m):
            self.replication.lead()

    def _resign(self) -> None:
        self.replication.resign()
        self.handover.resigned()

    # --- another leader in place of this one (§3.10) ---

    @property
    def is_handing_over(self) -> bool:
        """As ``Core.is_handing_over``."""
        return self.handover.is_under_way

    def hand_over(self, to: int | None = None) -> None:
        """As ``Core.hand_over``. It gives up its lease first, for all of the term: what asks the other may be late."""
        if self.election.role == LEADER and self.env.others and to != self.env.id:
            self.replication.give_up_lease()
            self.handover.begin(to)

    def why_not_hand_over(self, to: int | None = None) -> str | None:
        """As ``Core.why_not_hand_over``."""
        if to is not None and self.state.configurations.newest.witnesses >> to & 1:
            return f"node {to} is a witness: it keeps no state, and never leads"
        followers = self.replication.followers
        return self.handover.why_not(followers, self._voting(), self.log.last_index, to)

    def _voting(self) -> int:
        """The mask of those whose votes count now, and who could lead."""
        followers = self.replication.followers
        return self.quorum.members & ~(followers.forgetful | followers.stateless)

    def _look_at_handover(self, kept: list[bytes]) -> None:
        """A heartbeat. ``kept``: what waited for another leader, where that was in vain."""
        if self.state.configurations.is_left and not self.handover.is_under_way:
            self.election.step_down()  # §4.2.2: it has committed C_new, and nobody took over
            if kept:
                self.env.deliver(Dropped(tuple(kept), "this node is not a member any more"))
        elif kept:
            self._propose(kept)
        elif self.replication.is_current():
            followers, last_index = self.replication.followers, self.log.last_index
            if (better := self.preference.better(followers, self._voting(), last_index)) is not None:
                self.hand_over(better)

    def _ask_to_stand(self, node: int) -> None:
        # The term is durable since the election.
        self.env.send_now(node, TimeoutNow(self.term))

    def on_timeout_now(self, sender: int, m: TimeoutNow) -> None:
        """The leader wants us to lead."""
        if self.election.accept_leader(sender, m.term):
            self.election.take_over()

    # --- replication (§3.5) ---

    def submit(self, values: Sequence[bytes]) -> None:
        """Append here if this node leads, else pass on to the one that does."""
        if self.election.role == LEADER:
            self._propose(values)
        elif self.state.is_witness:
            self.env.deliver(Dropped(tuple(values), NO_STATE))  # nobody here would hear what became of them
        else:
            forward(self.env, self.config, values, self.leader, self.election.stalled)

    def on_propose(self, sender: int, m: Propose) -> None:
        """Values from a follower. They are not passed on twice: the sender will learn who leads, and try again."""
        if self.election.role == LEADER:
            self._propose(m.values)

    def _propose(self, values: Sequence[bytes]) -> None:
        if self.handover.takes(values):
            return
        if self.snapshots.is_full:
            self.env.deliver(Busy(tuple(values), FULL))
        else:
            self.replication.propose(values)

    def on_append_entries(self, sender: int, m: AppendEntries) -> None:
        """Entries of the leader."""
        if self.election.accept_leader(sender, m.term) and not (m.entries and self.snapshots.is_full):
            self.follower.on_append_entries(sender, m)  # else as if it was lost: the leader sends it again

    def on_append_withheld(self, sender: int, m: AppendWithheld) -> None:
        """The same, for a witness."""
        if self.election.accept_leader(sender, m.term) and self._bears_witness(sender):
            self.follower.on_append_entries(sender, m)

    def _bears_witness(self, sender: int) -> bool:
        if not self.state.bear_witness():
            self.env.blame(sender, "takes this node for a witness, which has state")
            return False
        self._reads.refuse(NO_STATE)  # what was asked before it knew
        return True

    def on_appended(self, sender: int, m: Appended) -> None:
        """A follower, or our own disk, holds the log up to an index."""
        if self.election.leads_in(m.term):
            self.replication.on_appended(sender, m)

    def on_appended_as(self, sender: int, m: AppendedAs) -> None:
        """The same of one that lost its memory once."""
        if self.election.leads_in(m.term):
            self.replication.on_appended_as(sender, m)

    def on_forgot(self, sender: int, m: Forgot) -> None:
        """A follower lives, and has lost its memory."""
        is_going = self.handover.is_under_way or self.snapshots.is_full
        if self.election.leads_in(m.term) and not is_going:
            self.replication.on_forgot(sender, m)

    def on_conflict(self, sender: int, m: Conflict) -> None:
        """A follower's log differs."""
        if self.election.leads_in(m.term):
            self.replication.on_conflict(sender, m)

    def on_heartbeat(self, sender: int, m: Heartbeat) -> None:
        """The leader lives, and has committed this far."""
        if self.election.accept_leader(sender, m.term):
            self.follower.on_heartbeat(sender, m)

    def on_heartbeat_reply(self, sender: int, m: HeartbeatReply) -> None:
        """The follower lives; or our term is over."""
        if self.election.leads_in(m.term):
            self.replication.on_heartbeat_reply(sender, m)

    def settle(self) -> None:
        """What the inputs of this step share: acknowledge, commit, send, deliver. Once."""
        state = self.state
        leads = self.election.role == LEADER
        if leads:
            self.replication.advance()
        else:
            self.follower.settle(self.election.watch.leader)
        if state.configurations.is_changed:
            self._keep_roster()
        elif self._acquaintances.leaving:
            self._part()
        if state.delivered_index < state.commit_index:
            self._deliver()
        if self._compactor.wanted_index:
            self._compactor.settle()
        self._reads.settle(state.delivered_index, leads=leads)
        if leads:
            self.replication.begin_round()
            if self.handover.is_under_way:
                last_index = state.log.last_index
                is_quiet = state.commit_index == last_index
                self.handover.settle(self.replication.followers, self._voting(), last_index, is_quiet=is_quiet)
        elif self.handover.values:
            self.handover.following(self.election.watch.leader)

    def _deliver(self) -> None:
        state = self.state
        first = state.delivered_index + 1
        entries, size = portion(self.env, state.log, state.delivered_index, state.commit_index)
        state.delivered_index = last = first + len(entries) - 1
        state.settle_returns(state.returns.note(first, entries))
        if state.is_witness:
            self.snapshots.witnessed(last)
            if CONFIGURATION in [entry.kind for entry in entries]:
                self.env.deliver(Stateless())
            return
        self.env.deliver(Decided(first, entries))
        self.replication.delivered(size)
        self.snapshots.delivered(last, entries, size)

    # --- members (chapter 4) ---

    def _keep_roster(self) -> None:
        """Know whom the log says there is; a leader that does not vote any more has another lead (§4.2.2).

        A newcomer is met as soon as its introduction is in the log, as one configuration is in effect then and the next
        may need it. If the entry goes again, so does the newcomer.
        """
        configurations = self.state.configurations
        configurations.is_changed = False
        nodes = configurations.newest.nodes
        leads = self.election.role == LEADER
        for node in self._acquaintances.forget(nodes):
            self.replication.parted(node)
        for node in self._acquaintances.meet(nodes, configurations.committed.nodes.left, configurations.voting()):
            if leads:
                self.replication.met(node)
        if self._acquaintances.leaving:
            self._part()
        if leads and configurations.is_left:
            self.hand_over()

    def _part(self) -> None:
        for node in self._acquaintances.part(self.state.configurations.voting(), self.leader):
            self.replication.parted(node)

    # --- reads (§6.4) ---

    def read(self, tokens: Sequence[int]) -> None:
        """Make sure of leadership here, or ask the one that leads."""
        if self.election.role == LEADER:
            self._reads.take(tokens)
        elif self.state.is_witness:
            self.env.deliver(ReadFailed(tuple(tokens), NO_STATE))
        else:
            self._reads.forward(tokens, self.leader)

    def on_read_request(self, sender: int, m: ReadRequest) -> None:
        """Reads of a follower join our own. Who does not lead says nothing: the asker gives up by itself."""
        if self.election.role == LEADER:
            self._reads.take_from(sender, m)

    def on_read_reply(self, sender: int, m: ReadReply) -> None:
        """The answer, unless we follow another by now."""
        if sender == self.leader:
            self._reads.answered(m)

    # --- snapshots (chapter 5) ---

    def on_done(self, key: Key, result: Any) -> None:
        """A snapshot was written, or a piece of one was read or stored."""
        if key == SNAPSHOT:
            self.snapshots.taken(result, self.replication.followers)
        elif key == INSTALL:
            self.snapshots.stored(result, self.leader if self.role == FOLLOWER else None)
        elif isinstance(key, tuple) and key[0] == CHUNK:
            self.snapshots.send_piece(key[1], result, self.leader, self.replication.followers)

    def on_install_snapshot(self, sender: int, m: InstallSnapshot) -> None:
        """A piece of the leader's snapshot."""
        if self.election.accept_leader(sender, m.term):
            self.snapshots.take_piece(sender, sender, m)

    on_install_snapshot_after = on_install_snapshot
    on_install_snapshot_among = on_install_snapshot

    def on_install_cut(self, sender: int, m: InstallCut) -> None:
        """For a witness: where the leader's log begins, and what is so there."""
        if self.election.accept_leader(sender, m.term) and self._bears_witness(sender):
            if self.snapshots.take_cut(sender, m):
                self.follower.holds(m.index)

    def on_serve_snapshot(self, sender: int, m: ServeSnapshot) -> None:
        """The leader wants a piece of our snapshot sent to a follower."""
        if self.election.accept_leader(sender, m.term) and not self.state.is_witness:
            self.snapshots.on_serve_snapshot(m)

    def on_snapshot_piece(self, sender: int, m: SnapshotPiece) -> None:
        """A piece of another server's snapshot, sent for the leader that we follow."""
        if self.leader is not None and self.role == FOLLOWER and m.term == self.term:
            self.snapshots.take_piece(sender, self.leader, m)

    on_snapshot_piece_after = on_snapshot_piece
    on_snapshot_piece_among = on_snapshot_piece

    def on_snapshot_progress(self, sender: int, m: SnapshotProgress) -> None:
        """A follower has stored a piece."""
        if self.election.leads_in(m.term):
            self.replication.on_snapshot_progress(sender, m)
