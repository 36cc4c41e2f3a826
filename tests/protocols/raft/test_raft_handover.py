"""A leader that is about to stop has another server lead (§3.10): one step at a time, with the exact effects."""

import pytest

from quorate.kernel import HandOver, Stalled
from quorate.parts.leaderlog.handover import HANDING_OVER
from quorate.parts.log.replicated import Dropped, Leads
from quorate.protocols.raft.messages import (
    Appended,
    Entries,
    HardState,
    Heartbeat,
    RequestVote,
    RequestVoteWithLeave,
    TimeoutNow,
    Vote,
)

from tests.protocols.raft.raft_nodes import CONFIG, NOTHING, Server, effects, entry, follower, settled_leader

ASKED = (2, 3)


def handing_over() -> Server:
    """A leader of term 1 that wants another to lead, and whose newest entry nobody else holds yet."""
    server = settled_leader()
    server.submit(b"a")
    assert server.step(HandOver()) == NOTHING, "nobody holds all"
    return server


def test_a_leader_that_stops_asks_one_that_holds_all_to_stand() -> None:
    server = settled_leader()
    server.now += 0.01
    server.on(3, Appended(1, 1))
    assert server.step(HandOver()) == effects(early=[(3, TimeoutNow(1))]), "the one that was heard last"
    assert server.step(HandOver()) == NOTHING, "once"


def test_a_leader_whose_disk_takes_nothing_asks_the_one_that_holds_most_and_leads_no_longer() -> None:
    server = settled_leader()
    server.submit(b"a")
    server.on(2, Appended(1, 2))
    server.now += 0.01
    server.on(3, Appended(1, 1))
    turn = server.step(Stalled("disk full"))
    assert [(send.to, send.message) for send in turn.early] == [((2,), TimeoutNow(1))], "though 3 was heard last"
    assert (server.core.role, turn.sends, turn.records) == ("follower", (), ())


def test_nobody_is_asked_who_was_not_heard_lately_nor_by_a_server_that_does_not_lead() -> None:
    server = settled_leader()
    server.now += 2 * CONFIG.election_timeout_s_min
    assert server.step(Stalled("disk full")).early == ()
    assert follower().step(Stalled("disk full")).early == ()


def test_it_waits_until_all_is_committed_and_a_member_holds_it() -> None:
    server = handing_over()
    turn = server.on(3, Appended(1, 2))
    assert TimeoutNow(1) not in [send.message for send in turn.early], "its own disk has not got it"
    turn = server.on(1, Appended(1, 2))
    assert [(send.to, send.message) for send in turn.early if isinstance(send.message, TimeoutNow)] == [
        ((3,), TimeoutNow(1))
    ]


def test_it_takes_no_values_meanwhile_and_proposes_them_if_nothing_comes_of_it() -> None:
    server = handing_over()
    assert server.submit(b"kept") == NOTHING
    held = CONFIG.election_timeout_s_min
    while held > 0.11:
        for peer in ASKED:
            server.on(peer, Appended(1, 2))
        server.beat()
        held -= CONFIG.heartbeat_s
        assert len(server.log) == 2
    turns = [server.beat(), server.beat()]
    assert [record.value for turn in turns for record in turn.records] == [Entries(3, [entry(1, "kept")])]
    assert server.core.role == "leader"
    assert server.submit(b"more").records, "it leads as before"


def test_it_asks_again_at_a_heartbeat() -> None:
    server = settled_leader()
    server.step(HandOver())
    turn = server.beat()
    assert TimeoutNow(1) in [send.message for send in turn.early]


def test_what_it_kept_is_dropped_when_another_leads() -> None:
    server = handing_over()
    server.submit(b"kept")
    assert server.on(3, RequestVoteWithLeave(2, 2, 1)).outputs == [Leads(2, None)]
    turn = server.on(3, Heartbeat(2, 0, 0))
    assert turn.outputs == [Leads(2, 3), Dropped((b"kept",), HANDING_OVER)]
    assert server.on(3, Heartbeat(2, 0, 0)).outputs == ()


def test_whoever_is_asked_stands_at_once() -> None:
    server = follower(2)
    turn = server.on(2, TimeoutNow(1))
    assert [record.value for record in turn.records] == [HardState(2, 1)]
    assert [(send.to, send.message) for send in turn.sends] == [((1, 2, 3), RequestVoteWithLeave(2, 0, 0))]
    assert server.core.role == "candidate"
    assert server.on(3, TimeoutNow(1)).sends, "that of an older term is answered, and asks for nothing"
    assert server.core.term == 2


@pytest.mark.parametrize("why", ["stalled", "an old term", "leads itself"])
def test_whoever_must_not_stand_does_not(why: str) -> None:
    server = settled_leader() if why == "leads itself" else follower(2, term=3)
    if why == "stalled":
        server.stall("disk full")
    server.on(2, TimeoutNow(2 if why == "an old term" else server.core.term))
    assert server.core.role in ("follower", "leader")


def test_a_voter_that_hears_the_leader_votes_for_whom_it_asked_and_for_nobody_else() -> None:
    server = follower(2)
    assert server.on(3, RequestVote(2, 0, 0)) == NOTHING
    turn = server.on(3, RequestVoteWithLeave(2, 0, 0))
    assert turn.records[-1].value == HardState(2, 3)
    assert turn.sends[0].message == Vote(2, True)


def test_a_log_that_is_older_gets_no_vote_all_the_same() -> None:
    server = follower(2, log=[1, 1])
    assert server.on(3, RequestVoteWithLeave(2, 1, 1)).sends[0].message == Vote(2, False)


def test_nobody_is_asked_by_one_that_is_alone_or_does_not_lead() -> None:
    alone = Server(peers=(1,))
    assert alone.step(HandOver()) == NOTHING
    assert follower(2).step(HandOver()) == NOTHING


# --- to a certain one, as an operator wants it ---


def test_the_one_that_is_named_is_asked_though_another_was_heard_last() -> None:
    server = settled_leader()
    server.now += 0.01
    server.on(3, Appended(1, 1))
    assert server.step(HandOver(to=2)) == effects(early=[(2, TimeoutNow(1))])


def test_the_others_are_not_asked_where_the_one_that_is_named_is_behind() -> None:
    server = settled_leader()
    server.submit(b"a")
    server.step(HandOver(to=2))
    turns = [server.on(3, Appended(1, 2)), server.on(1, Appended(1, 2))]
    assert TimeoutNow(1) not in [send.message for turn in turns for send in turn.early]
    turn = server.on(2, Appended(1, 2))
    assert [(send.to, send.message) for send in turn.early if isinstance(send.message, TimeoutNow)] == [
        ((2,), TimeoutNow(1))
    ]


def test_one_that_stops_meanwhile_asks_anybody() -> None:
    server = settled_leader()
    server.submit(b"a")
    server.step(HandOver(to=2))
    server.step(HandOver())
    server.on(3, Appended(1, 2))
    turn = server.on(1, Appended(1, 2))
    assert [send.to for send in turn.early if isinstance(send.message, TimeoutNow)] == [(3,)]


@pytest.mark.parametrize("to", [1, 7])
def test_itself_or_one_that_there_is_not_is_nobody_to_ask(to: int) -> None:
    server = settled_leader()
    turn = server.step(HandOver(to=to))
    assert not turn.early
    for _ in range(30):
        for peer in ASKED:
            server.on(peer, Appended(1, 1))
        server.beat()
    assert (server.core.role, server.core.is_handing_over) == ("leader", False)


def test_why_a_transfer_would_be_in_vain() -> None:
    server = settled_leader()
    core = server.core
    assert core.why_not_hand_over() is None
    assert core.why_not_hand_over(2) is None
    assert core.why_not_hand_over(7) == "node 7 does not vote: choose one of 1, 2, 3"
    server.now += CONFIG.election_timeout_s_min
    server.on(3, Appended(1, 1))
    assert core.why_not_hand_over(2) == f"node 2 has not answered within {CONFIG.election_timeout_s_min:g} s"
    assert core.why_not_hand_over() is None
    server.submit(*[b"v"] * (CONFIG.message_entries_max + 1))
    behind = f"is behind, by {CONFIG.message_entries_max + 1} entries: wait until it has caught up"
    assert core.why_not_hand_over(3) == f"node 3 {behind}"
    assert core.why_not_hand_over() == f"each other node that votes {behind}"
    server.step(HandOver(to=3))
    assert core.why_not_hand_over(3) == HANDING_OVER


def test_a_leader_that_nobody_answers_has_nobody_to_transfer_to() -> None:
    server = settled_leader()
    server.now += 2 * CONFIG.election_timeout_s_min
    server.on(1, Appended(1, 1))  # its own disk
    why = server.core.why_not_hand_over()
    assert why == f"no other node that votes has answered within {CONFIG.election_timeout_s_min:g} s"
