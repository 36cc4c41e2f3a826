"""Raft with planted bugs, each one that a real system had. The simulator must catch every one.

A mutant overrides as little as it can, so that what it breaks is the rule it names.
"""

from collections.abc import Sequence
from typing import Any

from quorate.kernel import nodes_of
from quorate.kernel.standing import LEADER
from quorate.parts.leaderlog.followers import Followers, Transfer
from quorate.parts.leaderlog.handover import Handover
from quorate.parts.leaderlog.lease import Lease
from quorate.parts.leaderlog.returns import Returns
from quorate.parts.leaderlog.transfers import Transfers
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import ReadReady
from quorate.parts.quorum import Majority, QuorumSystem, Threshold
from quorate.protocols.raft.configurations import Configurations
from quorate.protocols.raft.core import Raft
from quorate.protocols.raft.election import Election
from quorate.protocols.raft.following import LogFollower
from quorate.protocols.raft.messages import (
    Appended,
    AppendedAs,
    AppendEntries,
    Forgot,
    HardState,
    RequestVote,
    RequestVoteWithLeave,
)
from quorate.protocols.raft.replication import LogReplication
from quorate.protocols.raft.snapshots import LogCompaction
from quorate.protocols.raft.state import Durable, ServerState
from quorate.protocols.raft.witnessing import Witnesses
from quorate.sim.mutant import Mutant


class VotesTwice(Election):
    """Breaks §3.4: at most one vote a term."""

    def _may_vote_for(self, candidate: int) -> bool:
        return True


class KeepsLeading(Election):
    """Breaks the rule that a leader makes way when its disk takes nothing: it goes on beating, so nobody stands."""

    def on_stalled(self, why: str | None) -> None:
        """It is noted."""
        self.stalled = why


class ForgetsTerm(ServerState):
    """Breaks figure 3.1: currentTerm and votedFor survive a restart."""

    def restore(self, record: Durable) -> None:
        """All but the term and the vote."""
        if not isinstance(record, HardState):
            super().restore(record)


class CommitsOldTerm(LogReplication):
    """Breaks §3.6.2: an entry of an earlier term is not committed by counting its replicas."""

    def _advance_commit(self) -> None:
        self._state.commit(self._quorum.reached(self.followers.match))


class TruncatesOnMatch(LogFollower):
    """Breaks §3.5: entries are removed only where they conflict."""

    def _take_entries(self, sender: int, m: AppendEntries) -> bool:
        first = max(m.prev_index, self._state.log.base_index) + 1
        new: list[Entry] = m.entries[first - m.prev_index - 1 :]
        if new:
            self._state.write(first, new)
        return True


class RaftServesReadsWhenDeposed(Raft):
    """Breaks §6.4: a leader makes sure that it still leads before it answers a read."""

    def read(self, tokens: Sequence[int]) -> None:
        """At once, where this node thinks that it leads."""
        if self.role == LEADER and self.replication.is_current():
            self.env.deliver(ReadReady(tuple(tokens)))
        else:
            super().read(tokens)


class SkipsNoop(LogReplication):
    """Breaks §6.4, step 1: a new leader commits an entry of its own term before it knows what is committed."""

    def _open_term(self) -> None:
        self.noop_index = 0


class FollowerAcknowledgesEarly(LogFollower):
    """Breaks §3.8: a server makes its log durable before it answers."""

    def _acknowledge(self, leader: int, index: int) -> None:
        self._env.send_now(leader, Appended(self._state.term, index))


class LeaderAcknowledgesEarly(LogReplication):
    """Breaks §10.2.1: a leader counts itself once its own log is durable."""

    def _acknowledge(self) -> None:
        self._env.send_now(self._env.id, Appended(self._state.term, self._state.log.last_index))


class VotesAtOnce(Election):
    """Breaks ``returns.py``: who lost its votes does not vote before it has returned."""

    def _may_vote_for(self, candidate: int) -> bool:
        return self._state.vote is None or self._state.vote == candidate


class CountsAtOnce(LogFollower):
    """Breaks ``returns.py``: its acknowledgements count for nothing before it has returned, not for R either."""

    def _acknowledge(self, leader: int, index: int) -> None:
        term, incarnation = self._state.term, self._env.incarnation
        self._env.send(leader, AppendedAs(term, index, incarnation, True) if incarnation else Appended(term, index))


class KeepsFormerLives(LogReplication):
    """Breaks ``returns.py``: what a node acknowledged in a former life says nothing of what it holds now."""

    def on_appended(self, sender: int, m: Appended) -> None:
        """It is as far as it ever was."""
        self.followers.incarnations.pop(sender, None)
        super().on_appended(sender, m)

    def on_forgot(self, sender: int, m: Forgot) -> None:
        """Nothing is forgotten."""
        if sender in self.followers:
            match_index = self.followers.match[sender]
            super().on_forgot(sender, m)
            self.followers.match[sender] = match_index


class ReturnsEarly(LogFollower):
    """Breaks ``returns.py``: a return counts when it is committed, not when it is in the log."""

    def _take_entries(self, sender: int, m: AppendEntries) -> bool:
        taken = super()._take_entries(sender, m)
        self._state.settle_returns(Returns().note(m.prev_index + 1, m.entries) if taken else ())
        return taken


class OneServer(Transfers):
    """Breaks the turns of sources: one that gives nothing is left, as long as there are others."""

    def _turn_over(self, node: int, transfer: Transfer, followers: Followers) -> None:
        """It is the leader's turn again."""
        transfer.idle_beats = 0


class AsksNoOther(LogCompaction):
    """The leader's snapshots alone travel."""

    transfers_class = OneServer


class ElectsByLeave(Election):
    """Breaks §3.6.1: leave of the leader (§3.10) excuses no log that is behind; it may have been given long ago."""

    def _is_up_to_date(self, last_index: int, last_term: int) -> bool:
        return self._is_asked_with_leave or super()._is_up_to_date(last_index, last_term)

    _is_asked_with_leave = False

    def on_request_vote(self, sender: int, m: RequestVote) -> None:
        """With leave any log will do."""
        self._is_asked_with_leave = isinstance(m, RequestVoteWithLeave)
        super().on_request_vote(sender, m)
        self._is_asked_with_leave = False


class AsksTheFirst(Handover):
    """Breaks §3.10: who is asked to stand holds all that the leader has."""

    def _is_ready(self, followers: Followers, node: int, last_index: int) -> bool:
        return True


class RaftEndlessLease(Lease):
    """It lasts again and again as long."""

    def __init__(self, lease_s: float, drift: float) -> None:
        super().__init__(lease_s * 8, drift)


class RaftLeasesTooLong(LogReplication):
    """Breaks the bound of a lease: it lasts no longer than those who gave it keep it."""

    lease_class = RaftEndlessLease


class UnionOfMajorities(Configurations):
    """Breaks §4.3: a joint configuration takes a majority of each of its halves."""

    def _use(self) -> None:
        """A majority of all of them together."""
        super()._use()
        self.quorum = Majority(nodes_of(self.newest.mask))


class NewMajorityAlone(Configurations):
    """Breaks the same."""

    def _use(self) -> None:
        """A majority of the new members."""
        super()._use()
        self.quorum = Majority(self.newest.next_members or self.newest.members)


class EffectiveAtCommit(Configurations):
    """Breaks §4.1: a configuration is used as soon as it is in the log."""

    def _use(self) -> None:
        """The newest that is committed."""
        super()._use()
        self.quorum = self.committed.quorum
        self.members = self.quorum.members

    def commit(self, index: int) -> None:
        """Then it is used."""
        super().commit(index)
        self._use()


class NoRollback(Configurations):
    """Breaks §4.1: a server whose entries are removed goes back to the configuration before."""

    def truncated(self, first: int) -> None:
        """What was said stays said."""


class ChangesEarly(LogReplication):
    """Breaks §4.1 as corrected in 2015: no change before an entry of the own term is committed."""

    def _may_change(self) -> bool:
        return True


class WithItself(QuorumSystem):
    """Another system, and one more node that counts in it."""

    def __init__(self, other: Threshold, node: int) -> None:
        self._others = other
        self._bit = 1 << node
        self.members = other.members | self._bit

    def is_quorum(self, nodes: int) -> bool:
        """The node in the place of any other."""
        return (nodes & self.members).bit_count() >= self._others.size


class CountsItself(Configurations):
    """Breaks §4.2.2: a leader that is not in the configuration does not count itself."""

    def _use(self) -> None:
        super()._use()
        if isinstance(self.quorum, Threshold) and not self.members >> self._node & 1:
            self.quorum = WithItself(self.quorum, self._node)


class WitnessStands(Election):
    """Breaks ``witnesses.py``: a witness never stands, as it has nothing to go on with."""

    def _may_stand(self) -> bool:
        return self.stalled is None and self._state.configurations.needs(self._env.id)


class WitnessVotesBlind(Election):
    """Breaks §3.6.1 where a witness votes: it compares logs, though it has no data."""

    def _is_up_to_date(self, last_index: int, last_term: int) -> bool:
        return self._state.is_witness or super()._is_up_to_date(last_index, last_term)


class WitnessForgets(LogFollower):
    """Breaks the same: what a witness acknowledges it keeps, so that it knows of it when it votes."""

    def _take_entries(self, sender: int, m: AppendEntries) -> bool:
        state, last = self._state, m.prev_index + len(m.entries)
        if state.is_witness and m.entries and last == state.log.last_index + 1:
            self._env.send(sender, Appended(state.term, last))
            return False
        return super()._take_entries(sender, m)


class WitnessServes(Raft):
    """Breaks ``witnesses.py``: a witness applies nothing, and so serves nobody."""

    def _deliver(self) -> None:
        is_witness, self.state.is_witness = self.state.is_witness, False
        super()._deliver()
        self.state.is_witness = is_witness


class WitnessKeepsAll(ServerState):
    """Breaks ``witnesses.py``: no data of commands is on a witness's disk."""

    def write(self, first: int, entries: list[Entry]) -> None:
        """As any other server."""
        is_witness, self.is_witness = self.is_witness, False
        super().write(first, entries)
        self.is_witness = is_witness


class SendsAll(Witnesses):
    """With the data."""

    def _withheld(self, entries: list[Entry]) -> list[Entry]:
        return entries


class ToWitnesses(LogReplication):
    """Sends them all."""

    witnesses_class = SendsAll


def _with(name: str, **parts: Any) -> type[Raft]:
    """A server with these parts."""
    return type(name, (Raft,), parts)


def _state(configurations: type[Configurations]) -> type[ServerState]:
    """The state of a server that uses these configurations."""
    return type(configurations.__name__, (ServerState,), {"configurations_class": configurations})


MUTANTS = (
    Mutant(
        "votes-twice",
        "a server votes for two candidates of one term",
        core=_with("VotingTwice", election_class=VotesTwice),
    ),
    Mutant(
        "forgets-term",
        "term and vote are not restored after a crash",
        core=_with("Forgetting", state_class=ForgetsTerm),
    ),
    Mutant(
        "commits-old-term",
        "an entry of an earlier term is committed by counting replicas",
        core=_with("CommittingOld", replication_class=CommitsOldTerm),
    ),
    Mutant(
        "truncates-on-match",
        "an old AppendEntries cuts newer entries that agree with it",
        core=_with("Truncating", follower_class=TruncatesOnMatch),
    ),
    Mutant("stale-reads", "a deposed leader still serves reads", core=RaftServesReadsWhenDeposed),
    Mutant(
        "skips-noop",
        "a new leader appends no entry of its own term",
        core=_with("SkippingNoop", replication_class=SkipsNoop),
    ),
    Mutant(
        "acks-early",
        "a server acknowledges entries before they are durable",
        core=_with("Early", follower_class=FollowerAcknowledgesEarly, replication_class=LeaderAcknowledgesEarly),
    ),
    Mutant(
        "keeps-leading",
        "a leader whose disk hangs goes on leading",
        core=_with("Clinging", election_class=KeepsLeading),
    ),
    Mutant(
        "elects-by-leave",
        "a server that stands as the leader wants gets votes though its log is behind",
        core=_with("Lenient", election_class=ElectsByLeave, handover_class=AsksTheFirst),
    ),
    Mutant(
        "leases-too-long",
        "a leader reads by a lease that is over",
        core=_with("Reading", replication_class=RaftLeasesTooLong),
    ),
    *[
        Mutant(name, summary, core=core, repairs=True)
        for name, summary, core in (
            (
                "votes-at-once",
                "a server that lost its votes votes before it has returned",
                _with("Voting", election_class=VotesAtOnce),
            ),
            (
                "counts-at-once",
                "what a server acknowledges counts before it has returned, for its return too",
                _with("Counting", follower_class=CountsAtOnce),
            ),
            (
                "keeps-former-lives",
                "a leader takes what a server acknowledged before it lost its log for what it holds",
                _with("Reviving", replication_class=KeepsFormerLives),
            ),
            (
                "returns-early",
                "a server has returned when the entry that says so is in its log",
                _with("Returning", follower_class=ReturnsEarly),
            ),
        )
    ],
    *[
        Mutant(name, summary, core=core, joins=True)
        for name, summary, core in (
            (
                "union-of-majorities",
                "while members are joint, a majority of all of them decides",
                _with("United", state_class=_state(UnionOfMajorities)),
            ),
            (
                "new-majority-alone",
                "while members are joint, a majority of the new ones decides",
                _with("Renewed", state_class=_state(NewMajorityAlone)),
            ),
            (
                "effective-at-commit",
                "a configuration counts from when it is committed, and not from when it is in the log",
                _with("Waiting", state_class=_state(EffectiveAtCommit)),
            ),
            (
                "no-rollback-on-truncation",
                "a configuration counts on when its entry is gone from the log",
                _with("Insisting", state_class=_state(NoRollback)),
            ),
            (
                "changes-early",
                "a leader changes the members before it has committed an entry of its term",
                _with("Hasty", replication_class=ChangesEarly),
            ),
            (
                "counts-itself",
                "a leader that is not a member any more counts itself",
                _with("Vain", state_class=_state(CountsItself)),
            ),
            (
                "witness-stands",
                "a server without state stands for election",
                _with("Presuming", election_class=WitnessStands),
            ),
            (
                "witness-votes-blind",
                "a witness votes for a log that lacks what it has acknowledged",
                _with("Blind", election_class=WitnessVotesBlind),
            ),
            (
                "witness-forgets",
                "a witness acknowledges entries of which it keeps nothing",
                _with("Absent", follower_class=WitnessForgets),
            ),
            ("witness-serves", "a witness gives its App what it has of the log", WitnessServes),
            (
                "witness-keeps-all",
                "a witness is sent the data of commands, and records it",
                _with("Hoarding", state_class=WitnessKeepsAll, replication_class=ToWitnesses),
            ),
        )
    ],
    Mutant(
        "one-source",
        "a leader that cannot send its snapshot asks nobody else to",
        core=_with("OneSourced", compaction_class=AsksNoOther),
    ),
)
