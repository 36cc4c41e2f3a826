"""Elections, one handler at a time: pre-vote (§9.6), votes (§3.4, §3.6.1), and what a live leader refuses (§4.2.3)."""

from collections.abc import Callable

import pytest

from quorate.kernel import Fired
from quorate.parts.log.replicated import Leads
from quorate.protocols.raft import RaftConfig
from quorate.protocols.raft.messages import (
    Appended,
    AppendEntries,
    Entries,
    HardState,
    Heartbeat,
    HeartbeatReply,
    PreVote,
    PreVoteReply,
    RequestVote,
    Vote,
)

from tests.protocols.raft.raft_nodes import (
    CONFIG,
    NOTHING,
    Server,
    candidate,
    effects,
    follower,
    leader,
    noop,
    precandidate,
)
from tests.protocols.stepped import FIVE


def test_a_start_follows_nobody_and_waits() -> None:
    server = Server(term=3, vote=2)
    assert (server.core.role, server.core.term, server.core.vote) == ("follower", 3, 2)
    (timer,) = server.started.timers
    assert timer.at is not None
    assert 101.0 <= timer.at <= 102.0
    assert server.started == effects(outputs=[Leads(3, None)], timers=[("election", timer.at)])


def test_time_outs_differ_from_server_to_server() -> None:
    starts = {Server(seed=seed).started.timers[0].at for seed in range(20)}
    assert len(starts) == 20


def test_the_spread_of_time_outs_can_be_chosen() -> None:
    config = RaftConfig(heartbeat_s=0.1, election_timeout_s_min=1.0, election_timeout_s_max=1.05)
    for seed in range(20):
        at = Server(config=config, seed=seed).started.timers[0].at
        assert at is not None
        assert 101.0 <= at <= 101.05
    with pytest.raises(ValueError, match=r"election_timeout_s_max is 0\.9"):
        RaftConfig(heartbeat_s=0.1, election_timeout_s_min=1.0, election_timeout_s_max=0.9)


# --- the time-out ---


def test_a_time_out_asks_first_and_changes_no_durable_state() -> None:
    server = follower(term=2, log=[1, 2])
    turn = server.time_out()
    assert turn == effects(
        early=[((2, 3), PreVote(3, 2, 2))],
        timers=[("election", turn.timers[0].at)],
        outputs=[Leads(2, None)],
    )
    assert (server.core.role, server.core.term) == ("precandidate", 2)


def test_a_timer_that_was_put_off_does_nothing() -> None:
    server = follower()
    server.now += 0.5
    server.on(2, Heartbeat(1, 0, 0))
    server.now += 0.6
    turn = server.step(Fired("election"))
    assert turn.early == ()
    assert server.core.role == "follower"


def test_a_quorum_of_pre_votes_starts_the_election() -> None:
    server = precandidate(term=2, log=[1, 2], peers=FIVE)
    assert server.on(2, PreVoteReply(3, True)) == NOTHING
    assert server.on(2, PreVoteReply(3, True)) == NOTHING, "a duplicate counts once"
    turn = server.on(3, PreVoteReply(3, True))
    turn.timers = ()  # a new time-out, drawn at random, is set where it is earlier than the old
    assert turn == effects(records=[HardState(3, 1)], sends=[(FIVE, RequestVote(3, 2, 2))])
    assert (server.core.role, server.core.term, server.core.vote) == ("candidate", 3, 1)
    assert server.on(4, PreVoteReply(3, True)) == NOTHING, "one too many"


@pytest.mark.parametrize("reply", [PreVoteReply(2, True), PreVoteReply(4, True), PreVoteReply(2, False)])
def test_pre_votes_for_another_term_or_refused_count_nothing(reply: PreVoteReply) -> None:
    server = precandidate(term=2)
    assert server.on(2, reply) == NOTHING
    assert (server.core.role, server.core.term) == ("precandidate", 2)


def test_a_refusal_of_a_later_term_ends_the_attempt() -> None:
    server = precandidate(term=2)
    turn = server.on(2, PreVoteReply(7, False))
    assert turn.records == effects(records=[HardState(7, None)]).records
    assert turn.outputs == [Leads(7, None)]
    assert server.core.role == "follower"


def test_pre_votes_that_come_too_late_count_nothing() -> None:
    server = precandidate(term=2)
    server.on(3, Heartbeat(2, 0, 0))
    assert server.on(2, PreVoteReply(3, True)) == NOTHING
    assert server.core.role == "follower"


# --- asked for a pre-vote ---


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (PreVote(3, 2, 2), True),
        (PreVote(9, 3, 2), True),
        (PreVote(3, 1, 3), True),
        (PreVote(2, 9, 9), False),  # a term that is here already
        (PreVote(3, 1, 2), False),  # a shorter log
        (PreVote(3, 9, 1), False),  # an older last term
    ],
)
def test_a_pre_vote_is_an_opinion_on_term_and_log(asked: PreVote, granted: bool) -> None:
    server = Server(term=2, log=[1, 2], vote=3)
    reply = PreVoteReply(asked.term if granted else 2, granted)
    assert server.on(2, asked) == effects(early=[(2, reply)])
    assert (server.core.term, server.core.vote) == (2, 3)


def test_whoever_hears_a_leader_refuses_a_pre_vote_until_the_shortest_time_out_has_passed() -> None:
    server = follower(leader=2, term=2)
    server.now += 0.99
    assert server.on(3, PreVote(3, 9, 9)) == effects(early=[(3, PreVoteReply(2, False))])
    server.now += 0.02
    assert server.on(3, PreVote(3, 9, 9)) == effects(early=[(3, PreVoteReply(3, True))])


def test_a_leader_refuses_a_pre_vote() -> None:
    server = leader()
    assert server.on(3, PreVote(9, 9, 9)) == effects(early=[(3, PreVoteReply(1, False))])


# --- asked for a vote ---


def test_a_vote_is_durable_before_it_leaves() -> None:
    server = Server(term=2, log=[1, 2])
    turn = server.on(3, RequestVote(2, 2, 2))
    assert turn == effects(records=[HardState(2, 3)], sends=[(3, Vote(2, True))])
    assert server.core.vote == 3


def test_a_vote_in_a_later_term_records_the_term_as_well() -> None:
    server = Server(term=2, log=[1, 2], vote=1)
    turn = server.on(3, RequestVote(5, 2, 2))
    assert [r.value for r in turn.records][-1] == HardState(5, 3)
    assert turn.sends == effects(sends=[(3, Vote(5, True))]).sends
    assert turn.early == ()


def test_one_vote_a_term_first_come_first_served() -> None:
    server = Server(term=2)
    server.on(3, RequestVote(2, 0, 0))
    assert server.on(2, RequestVote(2, 9, 9)) == effects(sends=[(2, Vote(2, False))])
    assert server.on(3, RequestVote(2, 0, 0)) == effects(sends=[(3, Vote(2, True))]), "asked again, answered again"
    assert server.core.vote == 3


def test_a_vote_is_remembered_in_the_next_life() -> None:
    server = Server(term=2, vote=3)
    assert server.on(2, RequestVote(2, 9, 9)) == effects(sends=[(2, Vote(2, False))])


@pytest.mark.parametrize("request_", [RequestVote(2, 1, 2), RequestVote(2, 9, 1), RequestVote(1, 9, 9)])
def test_no_vote_for_an_older_log_or_term(request_: RequestVote) -> None:
    server = Server(term=2, log=[1, 2])
    assert server.on(3, request_) == effects(sends=[(3, Vote(2, False))])
    assert server.core.vote is None


def test_a_later_term_is_taken_over_even_where_the_vote_is_refused() -> None:
    server = Server(term=2, vote=1, log=[1, 2])
    turn = server.on(3, RequestVote(4, 1, 1))
    assert turn.records == effects(records=[HardState(4, None)]).records
    assert turn.sends == effects(sends=[(3, Vote(4, False))]).sends


def test_whoever_hears_a_leader_does_not_even_take_the_term() -> None:
    server = follower(leader=2, term=2)
    assert server.on(3, RequestVote(9, 9, 9)) == NOTHING
    assert leader().on(3, RequestVote(9, 9, 9)) == NOTHING


# --- votes come in ---


def test_a_quorum_of_votes_elects_and_the_leader_opens_its_term() -> None:
    server = candidate(term=2, log=[1, 2])
    assert server.on(1, RequestVote(3, 2, 2)) == effects(sends=[(1, Vote(3, True))])
    assert server.on(1, Vote(3, True)) == NOTHING
    turn = server.on(2, Vote(3, True))
    assert turn == effects(
        records=[Entries(3, [noop(3)])],
        early=[((2, 3), AppendEntries(3, 2, 2, [noop(3)], 0))],
        sends=[(1, Appended(3, 3))],
        timers=[("heartbeat", server.now + CONFIG.heartbeat_s)],
        outputs=[Leads(3, 1)],
    )
    assert server.core.role == "leader"
    assert server.on(3, Vote(3, True)) == NOTHING, "one too many"


def test_votes_count_once_a_server_and_only_yeses_of_this_term() -> None:
    server = candidate(term=2, peers=FIVE)
    for vote in (Vote(3, True), Vote(3, True), Vote(2, True), Vote(3, False)):
        assert server.on(2, vote) == NOTHING
    assert server.on(3, Vote(3, False)) == NOTHING
    server.on(4, Vote(2, True))
    assert server.core.role == "candidate"


def test_a_vote_of_a_later_term_ends_the_candidacy() -> None:
    server = candidate(term=2)
    turn = server.on(2, Vote(5, False))
    assert turn.records == effects(records=[HardState(5, None)]).records
    assert (server.core.role, server.core.term, server.core.vote) == ("follower", 5, None)


def test_a_candidate_follows_the_leader_of_its_own_term() -> None:
    server = candidate(term=2)
    turn = server.on(2, Heartbeat(3, 0, 1))
    assert turn.records == ()
    assert turn.outputs == [Leads(3, 2)]
    assert server.core.vote == 1, "the vote of the term stands"
    assert server.on(3, Vote(3, True)) == NOTHING
    assert server.core.role == "follower"


def test_a_candidate_that_times_out_asks_anew() -> None:
    server = candidate(term=2)
    turn = server.time_out()
    assert turn.early == effects(early=[((2, 3), PreVote(4, 0, 0))]).early
    assert server.core.term == 3


# --- leaders ---


def test_a_deposed_leader_is_told_the_term() -> None:
    server = follower(leader=2, term=5)
    for message in (Heartbeat(4, 0, 1), AppendEntries(4, 0, 0, [noop(4)], 0)):
        assert server.on(3, message) == effects(sends=[(3, HeartbeatReply(5, 0))])
    assert server.log == []


def test_a_leader_steps_down_for_a_later_term() -> None:
    server = leader(term=2)
    turn = server.on(2, HeartbeatReply(7, 0))
    assert turn.records == effects(records=[HardState(7, None)]).records
    assert turn.outputs == [Leads(7, None)]
    assert server.core.role == "follower"
    assert server.beat() == NOTHING, "its heartbeat has ended"


def test_two_leaders_of_one_term_are_blamed_and_the_second_ignored() -> None:
    server = follower(leader=2, term=4)
    for message in (Heartbeat(4, 0, 1), AppendEntries(4, 0, 0, [noop(4)], 1)):
        assert server.on(3, message) == effects(blames=[(3, "claims to lead term 4, which node 2 leads")])
    server = leader(term=3)
    turn = server.on(3, Heartbeat(4, 0, 1))
    assert turn == effects(blames=[(3, "claims to lead term 4, which this node leads")])


def test_one_alone_leads_as_soon_as_its_disk_has_its_vote() -> None:
    server = Server(peers=(1,), term=4)
    assert server.started.records == effects(records=[HardState(5, 1)]).records
    assert server.on(1, RequestVote(5, 0, 0)) == effects(sends=[(1, Vote(5, True))])
    turn = server.on(1, Vote(5, True))
    assert turn.records == effects(records=[Entries(1, [noop(5)])]).records
    assert turn.sends == effects(sends=[(1, Appended(5, 1))]).sends
    assert turn.early == ()
    assert server.on(1, Appended(5, 1)).outputs[0].entries == [noop(5)]
    assert server.read(7).outputs[0].tokens == (7,)
    server.beat()
    assert server.core.role == "leader"


# --- storage that takes nothing (a full disk) ---


def test_a_stalled_leader_steps_down_and_a_stalled_server_does_not_stand() -> None:
    server = leader()
    turn = server.stall("disk full")
    assert turn.outputs == [Leads(1, None)]
    assert server.core.role == "follower"
    assert server.time_out().early == ()
    server.stall(None)
    assert server.time_out().early == effects(early=[((2, 3), PreVote(2, 1, 1))]).early


@pytest.mark.parametrize("make", [precandidate, candidate])
def test_a_server_that_stalls_while_it_stands_is_not_elected(make: Callable[[], Server]) -> None:
    server = make()
    server.stall("disk full")
    assert server.core.role == "follower"
    for peer in (1, 2, 3):
        server.on(peer, PreVoteReply(1, True), Vote(1, True))
    assert server.core.role == "follower"
