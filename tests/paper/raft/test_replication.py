"""Rules of log replication and commitment, one test a rule: dissertation, figure 3.1, §3.5, 3.6.2, 3.7, 10.2."""

import pytest

from quorate.parts.log.replicated import Decided
from quorate.protocols.raft import Raft
from quorate.protocols.raft.messages import Appended, AppendEntries, Conflict, Entries, Heartbeat

from tests.protocols.cluster import Cluster
from tests.protocols.raft.raft_nodes import (
    CONFIG,
    Server,
    effects,
    entry,
    follower,
    leader,
    log_of,
    noop,
    settled_leader,
)
from tests.protocols.stepped import FIVE

A, B = entry(3, "a"), entry(3, "b")


# --- section 3.5: replication ---


def test_a_leader_appends_a_command_and_sends_it_to_all() -> None:
    """§3.5, figure 3.1 (leaders)."""
    turn = settled_leader(peers=FIVE).submit("x")
    assert turn.records == effects(records=[Entries(2, [entry(1, "x")])]).records
    assert turn.early == effects(early=[((2, 3, 4, 5), AppendEntries(1, 1, 1, [entry(1, "x")], 1))]).early


def test_a_leader_never_cuts_or_changes_its_log() -> None:
    """Figure 3.2 (leader append-only): whatever followers say."""
    server = leader(term=3, log=[1, 2])
    before = server.log
    for message in (Conflict(4, 2, 0, 0), Appended(4, 1), AppendEntries(4, 0, 0, [entry(4)], 0), Heartbeat(4, 0, 0)):
        server.on(2, message)
        server.submit("x")
        assert server.log[: len(before)] == before
        before = server.log


def test_entries_are_taken_only_after_one_that_agrees() -> None:
    """§3.5 (consistency check), figure 3.1 (AppendEntries 2)."""
    server = follower(term=3, log=[1, 2])
    assert server.on(2, AppendEntries(3, 2, 1, [A], 0)).records == ()
    assert server.on(2, AppendEntries(3, 3, 3, [A], 0)).records == ()
    assert server.on(2, AppendEntries(3, 2, 2, [A], 0)).records


def test_an_entry_that_conflicts_goes_and_all_after_it() -> None:
    """Figure 3.1 (AppendEntries 3)."""
    server = follower(term=3, log=[1, 2, 2, 2])
    server.on(2, AppendEntries(3, 1, 1, [A], 0))
    assert server.terms == [1, 3]


def test_entries_that_agree_stay_and_so_does_what_follows_them() -> None:
    """Figure 3.1 (AppendEntries 3 and 4): only a conflict cuts, only what is new is added."""
    server = follower(term=3)
    server.on(2, AppendEntries(3, 0, 0, [A, B], 0))
    assert server.on(2, AppendEntries(3, 0, 0, [A], 0)).records == ()
    assert server.log == [A, B]


def test_a_follower_acknowledges_only_what_it_compared() -> None:
    """Figure 3.1: entries beyond the message may be another leader's."""
    server = follower(term=3, log=[1, 2, 2])
    assert server.on(2, AppendEntries(3, 1, 1, [], 0)) == effects(sends=[(2, Appended(3, 1))])


def test_a_message_received_twice_does_no_harm() -> None:
    """§3.8: requests are idempotent."""
    server = follower(term=3)
    message = AppendEntries(3, 0, 0, [A], 1)
    server.on(2, message)
    state = (server.log, server.core.commit_index)
    server.on(2, message)
    assert (server.log, server.core.commit_index) == state


def test_a_refused_leader_steps_back_until_the_logs_agree() -> None:
    """§3.5, figure 3.1 (leaders): and then the follower's log becomes its own."""
    ours, other = leader(term=6, log=[1, 1, 4, 5]), Server(node=3, term=6, log=[1, 1, 2, 2, 2, 3])
    message = AppendEntries(7, 4, 5, [noop(7)], 0)
    for _ in range(10):
        (reply,) = other.on(1, message).sends
        turn = ours.on(3, reply.message)
        if isinstance(reply.message, Appended):
            break
        (send,) = turn.early
        message = send.message
    assert other.log == ours.log


def test_a_refusal_lets_the_leader_skip_a_whole_term() -> None:
    """§3.5, last paragraph."""
    server = leader(term=9, log=[1] + [5] * 50)
    (send,) = server.on(3, Conflict(10, 51, 40, 4)).early
    assert send.message.prev_index == 1


def test_a_leader_sends_again_until_it_is_answered() -> None:
    """§3.5: for ever, even after it has answered the client."""
    server = settled_leader()
    server.submit("x")
    server.on(1, Appended(1, 2))
    server.on(2, Appended(1, 2))
    assert server.core.commit_index == 2
    server.beat()
    for _ in range(20):
        server.on(2, Appended(1, 2))
        turn = server.beat()
        assert [s.to for s in turn.early if isinstance(s.message, AppendEntries)] == [(3,)]


# --- commitment: figure 3.1, section 3.6.2 ---


def test_an_entry_of_the_own_term_on_a_majority_is_committed_with_all_before() -> None:
    """§3.5, §3.6.2, figure 3.1 (leaders)."""
    server = leader(term=2, log=[1, 2])
    server.on(1, Appended(3, 3))
    assert server.on(2, Appended(3, 3)).outputs == [Decided(1, [*log_of([1, 2]), noop(3)])]


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting() -> None:
    """§3.6.2, figure 3.7."""
    server = leader(term=2, log=[1, 2])
    server.on(1, Appended(3, 2))
    server.on(2, Appended(3, 2))
    server.on(3, Appended(3, 2))
    assert server.core.commit_index == 0


def test_a_follower_learns_the_commit_index_and_applies_in_order() -> None:
    """§3.5, figure 3.1 (all servers)."""
    server = follower(term=3)
    assert server.on(2, AppendEntries(3, 0, 0, [A, B], 1)).outputs == [Decided(1, [A])]
    assert server.on(2, AppendEntries(3, 2, 3, [], 2)).outputs == [Decided(2, [B])]


def test_a_follower_commits_no_further_than_the_last_new_entry() -> None:
    """Figure 3.1 (AppendEntries 5)."""
    server = follower(term=3, log=[1, 2, 2])
    server.on(2, AppendEntries(3, 0, 0, log_of([1]), 3))
    assert server.core.commit_index == 1


# --- section 3.7: crashes of followers ---


def test_a_follower_that_was_down_is_brought_up_to_date() -> None:
    """§3.7: the leader goes on trying."""
    cluster = Cluster(lambda env: Raft(env, CONFIG), 3, seed=2)
    cluster.fire(1, "election")
    cluster.calm()
    cluster.crash(3)
    for value in (b"x", b"y", b"z"):
        cluster.submit(1, value)
        cluster.calm()
    cluster.restart(3)
    for _ in range(3):
        cluster.fire(1, "heartbeat")
        cluster.calm()
    assert cluster[3].applied == [b"x", b"y", b"z"]


# --- section 10.2: performance ---


def test_the_leader_writes_in_parallel_with_its_followers() -> None:
    """§10.2.1: the entries leave before its own write is durable; its own acknowledgement after."""
    turn = settled_leader().submit("x")
    assert [type(s.message) for s in turn.early] == [AppendEntries]
    assert turn.sends == effects(sends=[(1, Appended(1, 2))]).sends


def test_an_entry_may_be_committed_before_the_leader_has_it_on_disk() -> None:
    """§10.2.1: a majority of the followers is enough; with one follower it is not."""
    for peers, committed in (((1, 2, 3), 2), ((1, 2), 1)):
        server = settled_leader(peers=peers)
        server.submit("x")
        for peer in peers[1:]:
            server.on(peer, Appended(1, 2))
        assert server.core.commit_index == committed


def test_commands_of_one_step_are_one_message_and_one_write() -> None:
    """§10.2.2 (batching)."""
    turn = settled_leader().submit("x", "y", "z")
    assert len(turn.records) == 1
    assert len(turn.early) == 1


def test_messages_leave_without_waiting_for_answers() -> None:
    """§10.2.2 (pipelining): the consistency check keeps their order."""
    server = settled_leader()
    prevs = [server.submit("x").early[0].message.prev_index for _ in range(4)]
    assert prevs == [1, 2, 3, 4]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_pipeline_with_a_hole_is_refused_and_mended(lost: int) -> None:
    """§10.2.2: what follows the hole does not agree, and the leader goes back."""
    cluster = Cluster(lambda env: Raft(env, CONFIG), 3, seed=3)
    cluster.fire(1, "election")
    cluster.calm()
    for number in range(3):
        cluster.submit(1, b"%d" % number)
    flights = cluster.take(1, 3)
    for number, flight in enumerate(flights):
        if number != lost:
            cluster.arrive(flight)
    cluster.calm()
    for _ in range(3):
        cluster.fire(1, "heartbeat")
        cluster.calm()
    assert cluster[3].applied == [b"0", b"1", b"2"]
