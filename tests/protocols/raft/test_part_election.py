"""Election alone: what makes a leader of a server, and what the other parts are told of it."""

import pytest

from quorate.kernel import Env
from quorate.kernel.standing import FOLLOWER, LEADER
from quorate.parts.leaderlog.reads import Reads
from quorate.parts.leaderlog.watch import Watch
from quorate.parts.log.replicated import Leads
from quorate.parts.quorum import Majority
from quorate.protocols.raft.election import CANDIDATE, PRECANDIDATE, Election
from quorate.protocols.raft.messages import (
    Entries,
    HardState,
    HeartbeatReply,
    PreVote,
    PreVoteReply,
    RequestVote,
    Vote,
)
from quorate.protocols.raft.state import ServerState

from tests.protocols.alone import Alone
from tests.protocols.raft.raft_nodes import CONFIG, effects, log_of


class Stage(Alone[Election]):
    """An Election, its state, and how often it told that a leadership ended and that following began."""

    def __init__(self, term: int = 1, log: tuple[int, ...] = ()) -> None:
        self.resigned = self.began = 0
        super().__init__(self.build)
        if log:
            self.state.restore(Entries(1, log_of(log)))
        self.state.restore(HardState(term, None))
        self.do(self.part.start)

    def build(self, env: Env) -> Election:
        self.state = ServerState(env, CONFIG)
        watch = Watch(env, "election", CONFIG, Reads(env, 10, 1.0))
        return Election(env, self.state, Majority(env.peers), watch, CONFIG, resign=self.resign, begin=self.begin)

    def resign(self) -> None:
        self.resigned += 1

    def begin(self) -> None:
        self.began += 1

    def lead(self) -> None:
        self.now += 2.0
        self.do(self.part.timed_out)
        self.do(self.part.on_pre_vote_reply, 2, PreVoteReply(self.state.term + 1, True))
        self.do(self.part.on_vote, 1, Vote(self.state.term, True))
        self.do(self.part.on_vote, 3, Vote(self.state.term, True))
        assert self.returned
        assert self.part.role == LEADER


def test_silence_a_pre_vote_a_term_and_a_quorum_of_votes_make_a_leader() -> None:
    stage = Stage(log=(1, 1))
    stage.now += 2.0
    assert stage.do(stage.part.timed_out).early == effects(early=[((2, 3), PreVote(2, 2, 1))]).early
    assert (stage.part.role, stage.state.term) == (PRECANDIDATE, 1)
    turn = stage.do(stage.part.on_pre_vote_reply, 3, PreVoteReply(2, True))
    assert turn.records == effects(records=[HardState(2, 1)]).records
    assert turn.sends == effects(sends=[((1, 2, 3), RequestVote(2, 2, 1))]).sends
    assert stage.part.role == CANDIDATE
    for node, vote in [(1, Vote(2, True)), (2, Vote(1, True)), (2, Vote(2, False))]:
        stage.do(stage.part.on_vote, node, vote)
        assert not stage.returned
    assert stage.do(stage.part.on_vote, 2, Vote(2, True)) == effects(outputs=[Leads(2, 1)])
    assert stage.returned
    stage.do(stage.part.on_vote, 3, Vote(2, True))
    assert not stage.returned, "elected once"


def test_a_server_votes_once_a_term_and_for_no_older_log() -> None:
    stage = Stage(log=(1, 1))
    refused = effects(sends=[(3, Vote(1, False))])
    assert stage.do(stage.part.on_request_vote, 3, RequestVote(1, 1, 1)) == refused
    granted = stage.do(stage.part.on_request_vote, 2, RequestVote(1, 2, 1))
    assert granted == effects(records=[HardState(1, 2)], sends=[(2, Vote(1, True))])
    assert stage.do(stage.part.on_request_vote, 3, RequestVote(1, 9, 1)) == refused


def test_the_later_last_term_is_newer_than_the_longer_log() -> None:
    stage = Stage(term=3, log=(1, 2))
    longer, later = RequestVote(3, 9, 1), RequestVote(3, 1, 3)
    assert stage.do(stage.part.on_request_vote, 3, longer).sends == effects(sends=[(3, Vote(3, False))]).sends
    assert stage.do(stage.part.on_request_vote, 2, later).sends == effects(sends=[(2, Vote(3, True))]).sends


def test_a_leader_that_sees_a_later_term_resigns_and_begins_to_follow() -> None:
    stage = Stage()
    stage.lead()
    assert (stage.resigned, stage.began) == (0, 1)
    stage.do(stage.part.leads_in, 9)
    assert not stage.returned
    assert (stage.resigned, stage.began, stage.part.role, stage.state.term) == (1, 2, FOLLOWER, 9)
    stage.do(stage.part.step_down)
    assert stage.resigned == 1, "it led no more"


def test_answers_count_for_the_leader_of_their_term_alone() -> None:
    stage = Stage()
    stage.do(stage.part.leads_in, 1)
    assert not stage.returned
    stage.lead()
    for term, counts in [(1, False), (2, True)]:
        stage.do(stage.part.leads_in, term)
        assert stage.returned is counts


def test_a_deposed_leader_is_told_the_term_and_a_second_one_is_blamed() -> None:
    stage = Stage(term=5)
    assert stage.do(stage.part.accept_leader, 2, 4) == effects(sends=[(2, HeartbeatReply(5, 0))])
    stage.do(stage.part.accept_leader, 2, 5)
    assert stage.returned
    turn = stage.do(stage.part.accept_leader, 3, 5)
    assert not stage.returned
    assert [blame.node for blame in turn.blames] == [3]


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_a_live_leader_is_not_deposed(seconds: float) -> None:
    """§4.2.3: within the shortest timeout of hearing it."""
    stage = Stage()
    stage.do(stage.part.accept_leader, 2, 1)
    stage.now += seconds
    stage.do(stage.part.on_request_vote, 3, RequestVote(2, 0, 0))
    assert stage.state.term == (1 if seconds < CONFIG.election_timeout_s_min else 2)


def test_a_server_that_cannot_write_stands_down_and_does_not_stand() -> None:
    stage = Stage()
    stage.lead()
    stage.do(stage.part.on_stalled, "disk full")
    assert stage.part.role == FOLLOWER
    stage.now += 3.0
    assert not stage.do(stage.part.timed_out).early
