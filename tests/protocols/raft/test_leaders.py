"""The leader's side of replication: proposals, flow control, retransmission, back-off, commit, step-down."""

import msgspec
import pytest

from quorate.parts.log.replicated import Busy, Decided, Dropped, Leads
from quorate.protocols.raft import RaftConfig
from quorate.protocols.raft.messages import (
    Appended,
    AppendEntries,
    Conflict,
    Entries,
    HardState,
    Heartbeat,
    HeartbeatReply,
    Propose,
)

from tests.protocols.raft.raft_nodes import (
    CONFIG,
    NOTHING,
    Server,
    candidate,
    effects,
    entry,
    follower,
    leader,
    log_of,
    noop,
    settled_leader,
)
from tests.protocols.stepped import FIVE


def with_config(**fields: int) -> RaftConfig:
    return msgspec.structs.replace(CONFIG, **fields)


def sent_to(turn: object, node: int) -> list[AppendEntries]:
    """The AppendEntries that leave for a node."""
    return [s.message for s in turn.early if node in s.to and isinstance(s.message, AppendEntries)]  # type: ignore[attr-defined]


# --- proposals ---


def test_a_proposal_is_written_and_sent_in_parallel_to_all_with_one_message() -> None:
    server = settled_leader()
    assert server.submit("x", "y") == effects(
        records=[Entries(2, [entry(1, "x"), entry(1, "y")])],
        early=[((2, 3), AppendEntries(1, 1, 1, [entry(1, "x"), entry(1, "y")], 1))],
        sends=[(1, Appended(1, 3))],
    )


def test_proposals_of_one_step_travel_together() -> None:
    server = settled_leader()
    turn = server.on(2, Propose([b"x"]), Propose([b"y"]))
    assert sent_to(turn, 2) == [AppendEntries(1, 1, 1, [entry(1, "x"), entry(1, "y")], 1)]
    assert turn.sends == effects(sends=[(1, Appended(1, 3))]).sends


def test_a_follower_passes_on_and_others_refuse() -> None:
    assert follower(leader=2).submit("x") == effects(early=[(2, Propose([b"x"]))])
    refused = effects(outputs=[Dropped((b"x",), "no leader is known")])
    assert Server().submit("x") == refused
    assert candidate().submit("x") == refused
    assert follower(leader=2).on(3, Propose([b"x"])) == NOTHING, "not passed on twice"


def test_what_is_passed_on_fits_messages() -> None:
    server = follower(leader=2, config=with_config(message_entries_max=2, message_bytes_max=100))
    turn = server.submit("a", "b", "c", "d" * 200, "e")
    assert [[len(value) for value in send.message.values] for send in turn.early] == [[1, 1], [1], [200], [1]]
    assert b"".join(value for send in turn.early for value in send.message.values) == b"abc" + b"d" * 200 + b"e"
    with pytest.raises(ValueError, match=r"reads_pending_max is 65537: .* at most 65536"):
        with_config(reads_pending_max=65_537).__post_init__()


def test_a_stalled_follower_refuses() -> None:
    server = follower()
    server.stall("disk full")
    assert server.submit("x") == effects(outputs=[Dropped((b"x",), "disk full")])


def test_too_much_that_waits_for_a_quorum_is_refused_and_taken_again_once_it_is_committed() -> None:
    server = settled_leader(config=with_config(uncommitted_bytes_max=100))
    server.submit("x" * 101)
    assert server.submit("y") == effects(outputs=[Busy((b"y",), "too much is waiting for a quorum")])
    server.on(1, Appended(1, 2))
    server.on(2, Appended(1, 2))
    assert server.submit("y").records == effects(records=[Entries(3, [entry(1, "y")])]).records


# --- flow control ---


def test_a_new_leader_probes_with_one_message_and_streams_after_the_first_answer() -> None:
    server = leader(log=[1], term=1)
    assert sent_to(server.submit("x"), 2) == [], "one message is out"
    turn = server.on(2, Appended(2, 2))
    assert sent_to(turn, 2) == [AppendEntries(2, 2, 2, [entry(2, "x")], 0)]
    assert len(sent_to(server.submit("y"), 2)) == 1, "now without waiting"
    assert len(sent_to(server.submit("z"), 2)) == 1
    assert sent_to(server.submit("z"), 3) == [], "the other has not answered"


def test_messages_in_flight_are_bounded_in_number() -> None:
    server = settled_leader(config=with_config(inflight_messages_max=3))
    assert [len(sent_to(server.submit("x"), 2)) for _ in range(5)] == [1, 1, 1, 0, 0]
    turn = server.on(2, Appended(1, 2))
    assert [m.prev_index for m in sent_to(turn, 2)] == [4], "what waited goes in one message"
    assert len(sent_to(turn, 2)[0].entries) == 2
    assert sent_to(server.on(2, Appended(1, 2)), 2) == [], "a duplicate makes no room"


def test_messages_in_flight_are_bounded_in_bytes() -> None:
    server = settled_leader(config=with_config(inflight_bytes_max=200))
    assert [len(sent_to(server.submit("x" * 84), 2)) for _ in range(4)] == [1, 1, 0, 0]
    assert len(sent_to(server.on(2, Appended(1, 2)), 2)) == 1


def test_messages_are_bounded_in_entries_and_bytes() -> None:
    server = settled_leader(config=with_config(message_entries_max=2, message_bytes_max=100))
    turn = server.submit("a", "b", "c", "d" * 200, "e")
    assert [[len(e.data) for e in m.entries] for m in sent_to(turn, 2)] == [[1, 1], [1], [200], [1]]


# --- loss ---


def test_a_message_that_was_lost_goes_again_after_two_heartbeats() -> None:
    server = settled_leader()
    server.beat()
    server.submit("x")
    server.on(2, Appended(1, 2))
    turn = server.beat()
    assert sent_to(turn, 2) == []
    assert sent_to(turn, 3) == [AppendEntries(1, 1, 1, [entry(1, "x")], 1)]


def test_a_follower_that_moves_is_not_sent_the_same_again() -> None:
    server = settled_leader()
    for value in range(2, 6):
        server.submit("x")
        server.submit("x")
        server.on(2, Appended(1, 2 * value - 2))
        assert sent_to(server.beat(), 2) == []


def test_a_lost_probe_goes_again_as_it_was() -> None:
    """Else a follower that was away for a moment gets the log from its beginning, or a snapshot."""
    server = leader(log=[1, 1, 1], term=1)
    for _ in range(3):
        assert sent_to(server.beat(), 3) == [AppendEntries(2, 3, 1, [noop(2)], 0)]


def test_a_probe_goes_again_from_where_a_conflict_had_brought_it() -> None:
    server = leader(log=[1, 1, 2, 2], term=2)
    first = sent_to(server.on(3, Conflict(3, 4, 2, 1)), 3)
    assert [m.prev_index for m in first] == [2]
    assert sent_to(server.beat(), 3) == first


# --- back-off ---


def test_a_conflict_moves_the_probe_below_the_hint() -> None:
    server = leader(log=[1, 1, 1, 4, 4], term=4)
    turn = server.on(3, Conflict(5, 5, 5, 3))
    assert turn == effects(early=[(3, AppendEntries(5, 3, 1, [*log_of([1, 1, 1, 4, 4])[3:], noop(5)], 0))]), (
        "no entry of term 4 can agree with a log whose last term is 3"
    )


@pytest.mark.parametrize(
    "stale", [Conflict(1, 0, 0, 0), Conflict(1, 1, 0, 0), Conflict(1, 9, 0, 0), Conflict(0, 2, 0, 0)]
)
def test_a_conflict_about_something_older_is_ignored(stale: Conflict) -> None:
    server = settled_leader()
    server.submit("x")
    assert server.on(2, stale) == NOTHING


def test_whole_terms_are_skipped_where_the_paper_steps_back_one_entry_a_round_trip() -> None:
    """40 terms of 5 entries each differ: naive back-off takes 200 round trips."""
    shared = [1] * 10
    ours = shared + [2 * n for n in range(1, 41) for _ in range(5)]
    theirs = shared + [2 * n + 1 for n in range(1, 41) for _ in range(5)]
    server = leader(term=100, log=ours)
    other = Server(node=3, term=100, log=theirs)
    message, trips = AppendEntries(101, len(ours), ours[-1], [noop(101)], 0), 0
    while True:
        trips += 1
        (reply,) = other.on(1, message).sends
        if isinstance(reply.message, Appended):
            break
        (message,) = sent_to(server.on(3, reply.message), 3)
    assert other.log == server.log
    assert trips <= 42, "one a term"


def test_one_long_term_is_skipped_at_once() -> None:
    server = leader(term=9, log=[1] + [9] * 500)
    other = Server(node=3, term=9, log=[1] + [5] * 500)
    (reply,) = other.on(1, AppendEntries(10, 501, 9, [noop(10)], 0)).sends
    (message,) = sent_to(server.on(3, reply.message), 3)
    assert message.prev_index == 1


# --- commit ---


def test_what_a_majority_holds_is_committed_and_announced() -> None:
    server = settled_leader()
    server.submit("x")
    assert server.on(2, Appended(1, 2)) == NOTHING, "our own disk has not answered"
    assert server.on(1, Appended(1, 2)) == effects(
        early=[(2, Heartbeat(1, 2, 0))], outputs=[Decided(2, [entry(1, "x")])]
    )
    assert server.on(3, Appended(1, 2)) == effects(early=[(3, Heartbeat(1, 2, 0))])


def test_two_followers_commit_without_the_leaders_disk() -> None:
    server = settled_leader()
    server.submit("x")
    server.on(2, Appended(1, 2))
    assert server.on(3, Appended(1, 2)).outputs == [Decided(2, [entry(1, "x")])]


def test_an_entry_of_an_earlier_term_waits_for_one_of_our_own() -> None:
    server = leader(peers=FIVE, term=2, log=[1, 2])
    for peer in (2, 3):
        server.on(peer, Appended(3, 2))
    assert server.on(1, Appended(3, 3)) == NOTHING, "index 2 is on a majority, but of term 2"
    server.on(2, Appended(3, 3))
    assert server.on(3, Appended(3, 3)).outputs == [Decided(1, [*log_of([1, 2]), noop(3)])]


def test_an_entry_submitted_and_acknowledged_in_other_orders_commits_once() -> None:
    server = settled_leader()
    server.submit("x")
    turn = server.on(2, Appended(1, 2), Appended(1, 1), Appended(1, 2))
    assert turn == NOTHING
    assert server.on(1, Appended(1, 2)).outputs == [Decided(2, [entry(1, "x")])]
    assert server.on(1, Appended(1, 2)) == NOTHING


@pytest.mark.parametrize("term", [0, 1, 2])
def test_acknowledgements_of_an_earlier_term_count_nothing(term: int) -> None:
    server = leader(term=2, log=[1, 2])
    server.on(1, Appended(3, 3))
    assert server.on(2, Appended(term, 3)) == NOTHING
    assert server.core.commit_index == 0


def test_an_acknowledgement_beyond_the_log_is_blamed() -> None:
    server = settled_leader()
    assert server.on(2, Appended(1, 2)) == effects(blames=[(2, "acknowledges index 2 of a log that ends at 1")])


def test_an_acknowledgement_of_a_later_term_deposes() -> None:
    server = settled_leader()
    turn = server.on(2, Appended(4, 1))
    turn.timers = ()
    assert turn == effects(records=[HardState(4, None)], outputs=[Leads(4, None)])


# --- heartbeats and step-down ---


def test_a_heartbeat_says_what_each_is_known_to_hold() -> None:
    server = settled_leader()
    server.submit("x")
    server.on(1, Appended(1, 2))
    server.on(2, Appended(1, 2))
    turn = server.beat()
    assert turn.early[:2] == effects(early=[(2, Heartbeat(1, 2, 1)), (3, Heartbeat(1, 1, 1))]).early
    assert turn.timers == effects(timers=[("heartbeat", server.now + 0.1)]).timers


def test_a_leader_that_no_quorum_answers_steps_down_after_two_election_time_outs() -> None:
    server = settled_leader(peers=FIVE)
    assert server.beat(1.9).early
    server.on(2, HeartbeatReply(1, 1))
    server.on(3, Conflict(1, 0, 0, 0))
    assert server.beat(1.9).early, "two of four answered"
    turn = server.beat(0.2)
    assert turn.outputs == [Leads(1, None)]
    assert turn.early == ()
    assert server.core.role == "follower"
    assert server.submit("x").outputs == [Dropped((b"x",), "no leader is known")]
