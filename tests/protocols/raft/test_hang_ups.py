"""The leader's connection ends: its process has ended, perhaps. One step at a time."""

import pytest
from msgspec.structs import replace

from quorate.kernel import HungUp
from quorate.protocols.raft.messages import Heartbeat, PreVote, PreVoteReply, RequestVote

from tests.protocols.raft.raft_nodes import CONFIG, NOTHING, Server, follower, settled_leader

SOON_S = 2 * CONFIG.hang_up_s


def test_a_follower_asks_soon_whether_it_could_lead() -> None:
    server = follower(2)
    turn = server.step(HungUp(2))
    assert not turn.early
    assert [timer.key for timer in turn.timers] == ["election"]
    turn = server.fire("election", SOON_S)
    assert [send.message for send in turn.early] == [PreVote(2, 0, 0)]
    assert (server.core.role, server.core.term) == ("precandidate", 1), "no term begins by that"


def test_a_leader_that_is_heard_again_is_followed_as_before() -> None:
    server = follower(2)
    server.step(HungUp(2))
    server.on(2, Heartbeat(1, 0, 0))
    assert server.fire("election", SOON_S).early == ()
    assert server.core.leader == 2
    assert server.on(3, PreVote(2, 0, 0)).early[0].message == PreVoteReply(1, False)


def test_whoever_saw_the_end_lets_others_stand_and_whoever_did_not_does_not() -> None:
    saw, did_not = follower(2), follower(2)
    saw.step(HungUp(2))
    assert saw.on(3, PreVote(2, 0, 0)).early[0].message == PreVoteReply(2, True)
    assert did_not.on(3, PreVote(2, 0, 0)).early[0].message == PreVoteReply(1, False)
    assert did_not.on(3, RequestVote(2, 0, 0)) == NOTHING


@pytest.mark.parametrize("other", [1, 3, 9])
def test_the_end_of_another_connection_means_nothing(other: int) -> None:
    server = follower(2)
    assert server.step(HungUp(other)) == NOTHING
    assert server.on(3, PreVote(2, 0, 0)).early[0].message == PreVoteReply(1, False)


def test_a_leader_minds_no_hang_up() -> None:
    server = settled_leader()
    assert server.step(HungUp(2)) == NOTHING
    assert server.core.role == "leader"


def test_what_was_promised_for_a_lease_holds() -> None:
    server = follower(2, config=replace(CONFIG, lease_s=1.0))
    assert server.step(HungUp(2)) == NOTHING
    assert server.on(3, RequestVote(2, 0, 0)) == NOTHING


def test_it_waits_no_longer_than_it_would_have() -> None:
    server: Server = follower(2)
    server.now += 2 * CONFIG.election_timeout_s_min - 0.01
    server.core.election.watch.alarm.deadline = server.now + 0.001
    server.step(HungUp(2))
    assert server.core.election.watch.alarm.deadline == pytest.approx(server.now + 0.001)
