"""Election: terms, roles and votes (chapter 3, §3.3, §3.4 and §3.6.1), with pre-vote (§9.6).

How it works. Time is cut into terms, each with at most one leader. A server that hears no leader for a random time
first asks whether it could win (pre-vote), then begins a new term and asks for votes. A server votes once a term, and
only for a log that is no older than its own, so whoever a majority elects has all that is committed.

With leases (§6.4.1) a server that heard a leader keeps its vote back for the shortest election timeout, whatever it has
heard since of terms: also one that restarts, as its earlier life may have heard one. Leave of the leader (§3.10) makes
an exception. It is good for the next term alone, and whoever gives it reads by no lease again in its own term; so a
request with leave elects nobody while another's lease lasts.

It reads the log only to compare its end, and knows nothing of what a leader or a follower does with it: the two calls
it is given end a leadership and a follower's duties.
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.kernel import Env
from quorate.kernel.standing import FOLLOWER, LEADER
from quorate.parts.leaderlog.watch import Watch
from quorate.parts.quorum import QuorumSystem
from quorate.parts.votes.tally import Tally
from quorate.protocols.raft.messages import (
    HeartbeatReply,
    PreVote,
    PreVoteReply,
    RaftConfig,
    RequestVote,
    RequestVoteWithLeave,
    Vote,
)
from quorate.protocols.raft.state import ServerState

PRECANDIDATE = "precandidate"
CANDIDATE = "candidate"


class Election:
    """One server's role. ``resign`` is called when it leads no more, ``begin`` whenever it begins to follow."""

    def __init__(
        self,
        env: Env,
        state: ServerState,
        quorum: QuorumSystem,
        watch: Watch,
        config: RaftConfig,
        *,
        resign: Callable[[], None],
        begin: Callable[[], None],
    ) -> None:
        self._env = env
        self._state = state
        self._quorum = quorum
        self._resign = resign
        self._begin = begin
        self._has_leases = config.lease_s is not None
        self.watch = watch
        self.role = FOLLOWER
        self.stalled: str | None = None
        """Why nothing can be written, if so."""
        self._votes = Tally(quorum)

    def start(self) -> None:
        """Every server begins as a follower (§3.4)."""
        if self._has_leases:
            # An earlier life may have heard a leader just now, who reads by lease.
            self.watch.heard_at = self._env.now
        self.follow(self._state.term, None)
        if self._quorum.is_quorum(1 << self._env.id):
            self._ask_for_votes()  # alone, there is nobody to wait for

    # --- terms and roles (§3.3) ---

    def follow(self, term: int, leader: int | None) -> None:
        """Be a follower in this term, of that leader if it is known."""
        state, watch = self._state, self.watch
        if term > state.term:
            state.pledge(term, None)
        if self.role == LEADER:
            self._resign()
        self.role = FOLLOWER
        self._begin()
        watch.follow(state.term, state.term, leader)
        if leader is not None or not watch.alarm.is_set:
            watch.rest()  # figure 3.1: a later term alone does not put the election off, or who cannot win could

    def observe(self, term: int) -> None:
        """A term higher than ours: whatever we were, we follow (§3.3)."""
        if term > self._state.term:
            self.follow(term, None)

    def accept_leader(self, sender: int, term: int) -> bool:
        """A message that only the term's leader sends: follow it, unless the term is over."""
        state, watch = self._state, self.watch
        if term < state.term:
            # Our term makes the deposed leader step down.
            self._env.send(sender, HeartbeatReply(state.term, 0))
            return False
        if term == state.term and self.role == LEADER:
            if sender != self._env.id:
                self._env.blame(sender, f"claims to lead term {term}, which this node leads")
            return False
        if term > state.term or self.role != FOLLOWER or watch.leader is None:
            self.follow(term, sender)
        elif watch.leader != sender:
            self._env.blame(sender, f"claims to lead term {term}, which node {watch.leader} leads")
            return False
        watch.heard()
        return True

    def leads_in(self, term: int) -> bool:
        """An answer to the leader of a term: whether that is us, and still is."""
        if term > self._state.term:
            self.follow(term, None)
        return self.role == LEADER and term == self._state.term

    def step_down(self) -> None:
        """Lead no more, nor try to, in this term."""
        self.follow(self._state.term, None)

    def on_stalled(self, why: str | None) -> None:
        """A leader that cannot write must not keep the others from having one that can; nor may it become one."""
        self.stalled = why
        if why is not None and self.role != FOLLOWER:
            self.step_down()

    def on_hung_up(self, node: int) -> None:
        """A peer's connection ended: if it is the leader's, ask soon whether an election could be won (§9.6)."""
        if self.role == FOLLOWER and node == self.watch.leader:
            self.watch.hung_up()

    def _hears_leader(self) -> bool:
        """Whether a leader was heard within the shortest election timeout, or is us."""
        counts = self._has_leases or self.watch.leader is not None
        return self.role == LEADER or (counts and self.watch.heard_lately())

    def _keeps_vote_back(self, m: RequestVote) -> bool:
        """§4.2.3: a server that was removed or cut off must not depose a live leader. §6.4.1: nor break its lease."""
        if isinstance(m, RequestVoteWithLeave):
            return False
        if m.term == self._state.term:
            return self._has_leases and self.watch.heard_lately()
        return m.term > self._state.term and self._hears_leader()

    # --- candidates (§3.4), pre-vote (§9.6) ---

    def timed_out(self) -> None:
        """The election timeout, unless a leader was heard since it was set."""
        if self.watch.alarm.is_due():
            self._ask_for_votes()

    def _ask_for_votes(self) -> None:
        """§9.6: first ask whether an election could be won; the term does not change yet."""
        self.watch.rest()
        if not self._may_stand() or (self._has_leases and self.watch.heard_lately()):
            return
        state = self._state
        self.role = PRECANDIDATE
        self.watch.follow(state.term, state.term, None)
        self._votes = Tally(self._quorum)
        # No durable state: nothing is promised, the vote that counts comes after.
        self._env.send_now(self._env.others, PreVote(state.term + 1, state.log.last_index, state.log.last_term))
        if self._votes.add(self._env.id):
            self._campaign()

    def on_pre_vote_reply(self, sender: int, m: PreVoteReply) -> None:
        """A quorum of yeses starts the election."""
        if not m.granted:
            self.observe(m.term)
        elif self.role == PRECANDIDATE and m.term == self._state.term + 1 and self._votes.add(sender):
            self._campaign()

    def take_over(self) -> None:
        """§3.10: the leader has made way for us: no pre-vote, which those who hear it would refuse."""
        if self._may_stand():
            self._campaign(has_leave=True)

    def _may_stand(self) -> bool:
        """Whether it can write, has state, and counts: who lost its votes stands when it has returned."""
        state = self._state
        is_needed = state.configurations.needs(self._env.id)  # §4.2.2
        return self.stalled is None and is_needed and not state.has_forgotten and not state.is_witness

    def _campaign(self, *, has_leave: bool = False) -> None:
        """§3.4: a new term, a vote for itself, and a request to all. It answers its own like any other."""
        state = self._state
        self.role = CANDIDATE
        state.pledge(state.term + 1, self._env.id)
        self._votes = Tally(self._quorum)
        self.watch.rest()
        request = RequestVoteWithLeave if has_leave else RequestVote
        self._env.broadcast(request(state.term, state.log.last_index, state.log.last_term))

    def on_vote(self, sender: int, m: Vote) -> bool:
        """Whether this vote elects us: the one that makes a quorum."""
        self.observe(m.term)
        elected = self.role == CANDIDATE and m.term == self._state.term and m.granted and self._votes.add(sender)
        if elected:
            self.role = LEADER
            self.watch.alarm.stop()
            self.watch.follow(self._state.term, self._state.term, self._env.id)
        return elected

    # --- voters (§3.4, §3.6.1, §4.2.3) ---

    def on_pre_vote(self, sender: int, m: PreVote) -> None:
        """§9.6: yes, if we would vote for that log and hear no leader."""
        term = self._state.term
        may_vote = m.term > term and not self._hears_leader() and not self._state.has_forgotten
        granted = may_vote and self._is_up_to_date(m.last_index, m.last_term)
        # An opinion, not a promise: rests on no durable state.
        self._env.send_now(sender, PreVoteReply(m.term if granted else term, granted))

    def on_request_vote(self, sender: int, m: RequestVote) -> None:
        """§3.4: one vote a term, first come first served, to a log that is no older (§3.6.1)."""
        state = self._state
        if self._keeps_vote_back(m):
            return
        self.observe(m.term)
        granted = m.term == state.term and self._may_vote_for(sender) and self._is_up_to_date(m.last_index, m.last_term)
        if granted:
            if state.vote is None:
                state.pledge(state.term, sender)
            self.watch.put_off()
        self._env.send(sender, Vote(state.term, granted))

    def _may_vote_for(self, candidate: int) -> bool:
        """Not if it may have forgotten a vote (``parts/leaderlog/returns.py``)."""
        state = self._state
        return not state.has_forgotten and (state.vote is None or state.vote == candidate)

    def _is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """§3.6.1: the later last term wins, then the longer log."""
        return (last_term, last_index) >= (self._state.log.last_term, self._state.log.last_index)
