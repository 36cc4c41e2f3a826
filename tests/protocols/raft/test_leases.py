"""Reads by lease (§6.4.1), one step at a time."""

from msgspec.structs import replace

from quorate.kernel import HandOver
from quorate.parts.log.replicated import ReadReady
from quorate.protocols.raft.messages import (
    Appended,
    Heartbeat,
    HeartbeatReply,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteWithLeave,
    TimeoutNow,
    Vote,
)

from tests.protocols.raft.raft_nodes import CONFIG, NOTHING, Server, effects, follower, leader, settled_leader

LEASED = replace(CONFIG, lease_s=1.0, clock_drift=0.1)
LENGTH_S = 0.9 / 1.1


def leased() -> Server:
    """A leader whose lease began just now."""
    server = settled_leader(config=LEASED)
    turn = server.beat()
    number = next(send.message.round for send in turn.early if isinstance(send.message, Heartbeat))
    server.on(2, HeartbeatReply(1, number))
    return server


def test_a_lease_serves_reads_without_a_message_and_less_long_than_it_is_kept() -> None:
    server = leased()
    assert server.read(7) == effects(outputs=[ReadReady((7,))])
    server.now += LENGTH_S - 0.001
    assert server.read(8) == effects(outputs=[ReadReady((8,))])
    server.now += 0.002
    turn = server.read(9)
    assert turn.outputs == ()
    assert {type(send.message) for send in turn.early} == {Heartbeat}
    assert server.on(2, HeartbeatReply(1, turn.early[0].message.round)).outputs == [ReadReady((9,))]
    assert server.read(10).outputs == [ReadReady((10,))], "that round was a lease as well"


def test_without_the_option_every_read_takes_a_round() -> None:
    server = settled_leader()
    turn = server.beat()
    server.on(2, HeartbeatReply(1, turn.early[0].message.round))
    assert server.read(7).outputs == ()


def test_a_lease_counts_from_when_its_round_began() -> None:
    server = settled_leader(config=LEASED)
    turn = server.beat()
    server.now += LENGTH_S - 0.01
    server.on(2, HeartbeatReply(1, turn.early[0].message.round))
    assert server.read(7).outputs == [ReadReady((7,))]
    server.now += 0.02
    assert server.read(8).outputs == ()


def test_a_lease_ends_with_the_leadership() -> None:
    server = leased()
    server.on(3, Heartbeat(2, 0, 0))
    assert server.read(7).outputs == ()


def test_no_lease_serves_a_read_before_an_entry_of_the_own_term_is_committed() -> None:
    """§6.4, step 1."""
    server = leader(config=LEASED)
    turn = server.beat()
    server.on(2, HeartbeatReply(1, turn.early[0].message.round))
    assert server.read(7).outputs == ()
    server.on(1, Appended(1, 1))
    assert ReadReady((7,)) in list(server.on(2, Appended(1, 1)).outputs)


def test_a_transfer_ends_the_lease_for_the_rest_of_the_term() -> None:
    server = leased()
    assert server.step(HandOver(to=3)).early[-1].message == TimeoutNow(1)
    assert server.read(7).outputs == ()
    server.now += LEASED.election_timeout_s_min
    turn = server.beat()
    for peer in (2, 3):
        server.on(peer, HeartbeatReply(1, turn.early[0].message.round))
    assert not server.core.is_handing_over, "nothing came of it"
    turn = server.beat()
    server.on(2, HeartbeatReply(1, turn.early[0].message.round))
    assert server.read(8).outputs == (), "a request with leave may still be on its way"


def test_who_answers_a_round_keeps_its_vote_back_for_as_long_as_the_lease() -> None:
    """From the last word of the leader on; also if it has heard of a later term by then, and follows nobody."""
    server = follower(2, config=LEASED)
    server.on(3, PreVoteReply(5, False))
    assert (server.core.term, server.core.leader) == (5, None)
    server.now += 0.999
    assert server.on(3, RequestVote(5, 0, 0)) == NOTHING
    assert server.on(3, RequestVote(6, 0, 0)) == NOTHING
    assert server.on(3, PreVote(6, 0, 0)).early[0].message == PreVoteReply(5, False)
    server.now += 0.001
    assert server.on(3, RequestVote(6, 0, 0)).sends[0].message == Vote(6, True)


def test_leave_of_the_leader_makes_an_exception() -> None:
    server = follower(2, config=LEASED)
    assert server.on(3, RequestVote(2, 0, 0)) == NOTHING
    assert server.on(3, RequestVoteWithLeave(2, 0, 0)).sends[0].message == Vote(2, True)


def test_after_a_restart_no_vote_is_given_for_as_long_as_a_lease_may_hold() -> None:
    server = Server(config=LEASED, term=3)
    assert server.on(2, RequestVote(4, 0, 0)) == NOTHING
    assert server.on(2, PreVote(4, 0, 0)).early[0].message == PreVoteReply(3, False)
    server.now += 1.0
    assert server.on(2, RequestVote(4, 0, 0)).sends[0].message == Vote(4, True)


def test_one_that_is_alone_waits_as_long() -> None:
    """An earlier life may have answered a leader that has been removed since."""
    assert Server(peers=(1,)).core.role == "candidate"
    server = Server(peers=(1,), config=LEASED)
    assert server.core.role == "follower"
    server.time_out()
    assert server.core.role == "candidate"
