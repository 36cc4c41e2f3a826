"""AppendEntries and Heartbeat at a follower (§3.5): what it takes, what it refuses, what it never cuts."""

import pytest

from quorate.parts.log.replicated import Decided, Leads
from quorate.protocols.raft.messages import (
    Appended,
    AppendEntries,
    Conflict,
    Entries,
    HardState,
    Heartbeat,
    HeartbeatReply,
)

from tests.protocols.raft.raft_nodes import NOTHING, Server, effects, entry, follower, log_of, noop, snapshotted

A, B, C = entry(3, "a"), entry(3, "b"), entry(3, "c")


def test_entries_that_follow_are_written_before_they_are_acknowledged() -> None:
    server = follower(term=3, log=[1, 2])
    assert server.on(2, AppendEntries(3, 2, 2, [A, B], 1)) == effects(
        records=[Entries(3, [A, B])], sends=[(2, Appended(3, 4))], outputs=[Decided(1, log_of([1]))]
    )
    assert server.terms == [1, 2, 3, 3]


def test_several_messages_of_one_step_are_acknowledged_once() -> None:
    server = follower(term=3)
    assert server.on(2, AppendEntries(3, 0, 0, [A], 0), AppendEntries(3, 1, 3, [B], 1)) == effects(
        records=[Entries(1, [A]), Entries(2, [B])], sends=[(2, Appended(3, 2))], outputs=[Decided(1, [A])]
    )


def test_entries_of_a_later_term_record_the_term_first() -> None:
    server = follower(term=2)
    turn = server.on(3, AppendEntries(3, 0, 0, [A], 0))
    turn.timers = ()
    assert turn == effects(
        records=[HardState(3, None), Entries(1, [A])], sends=[(3, Appended(3, 1))], outputs=[Leads(3, 3)]
    )


def test_a_duplicate_writes_nothing_and_is_acknowledged_again() -> None:
    server = follower(term=3)
    message = AppendEntries(3, 0, 0, [A, B], 0)
    server.on(2, message)
    assert server.on(2, message) == effects(sends=[(2, Appended(3, 2))])


def test_a_message_that_was_overtaken_cuts_nothing() -> None:
    """The trap: to cut after the last entry of *this* message would lose what was acknowledged since."""
    server = follower(term=3)
    server.on(2, AppendEntries(3, 0, 0, [A, B, C], 0))
    assert server.on(2, AppendEntries(3, 0, 0, [A], 0)) == effects(sends=[(2, Appended(3, 1))])
    assert server.log == [A, B, C]
    assert server.on(2, AppendEntries(3, 1, 3, [], 0)) == effects(sends=[(2, Appended(3, 1))])
    assert server.log == [A, B, C]


def test_a_message_that_overtook_its_predecessor_is_refused_with_where_the_log_ends() -> None:
    server = follower(term=3, log=[1])
    assert server.on(2, AppendEntries(3, 2, 3, [B], 0)) == effects(sends=[(2, Conflict(3, 2, 1, 1))])


def test_entries_that_conflict_are_replaced_from_the_first_that_does() -> None:
    server = follower(term=3, log=[1, 2, 2, 2])
    new = [*log_of([1, 2])[1:], A]
    assert server.on(2, AppendEntries(3, 1, 1, new, 0)) == effects(
        records=[Entries(3, [A])], sends=[(2, Appended(3, 3))]
    )
    assert server.terms == [1, 2, 3]


def test_a_refusal_skips_the_terms_that_the_leader_cannot_have() -> None:
    server = follower(term=9, log=[1, 1, 4, 4, 5, 5])
    assert server.on(2, AppendEntries(9, 6, 3, [A], 0)) == effects(sends=[(2, Conflict(9, 6, 2, 1))])
    assert server.on(2, AppendEntries(9, 6, 4, [A], 0)) == effects(sends=[(2, Conflict(9, 6, 4, 4))])
    assert server.terms == [1, 1, 4, 4, 5, 5], "a refusal cuts nothing"


def test_what_a_snapshot_stands_for_is_skipped() -> None:
    server = follower(term=3, records=snapshotted(5))
    turn = server.on(2, AppendEntries(3, 3, 1, [entry(1), entry(1), A, B], 6))
    assert turn == effects(records=[Entries(6, [A, B])], sends=[(2, Appended(3, 7))], outputs=[Decided(6, [A])])
    assert server.on(2, AppendEntries(3, 1, 1, [entry(1)], 6)) == effects(sends=[(2, Appended(3, 2))])


# --- commit ---


def test_commit_is_bounded_by_what_the_message_proved() -> None:
    server = follower(term=3, log=[1, 2, 2])
    assert server.on(2, AppendEntries(3, 1, 1, [], 9)).outputs == [Decided(1, log_of([1]))]
    assert server.core.commit_index == 1, "entries 2 and 3 may differ from the leader's"


def test_commit_never_goes_back() -> None:
    server = follower(term=3)
    server.on(2, AppendEntries(3, 0, 0, [A, B], 2))
    assert server.on(2, AppendEntries(3, 0, 0, [A], 1)).outputs == ()
    assert server.on(2, Heartbeat(3, 1, 0)) == NOTHING
    assert server.core.commit_index == 2


def test_a_heartbeat_commits_what_the_leader_knows_to_be_here() -> None:
    server = follower(term=3, log=[3, 3])
    assert server.on(2, Heartbeat(3, 2, 0)) == effects(outputs=[Decided(1, log_of([3, 3]))])


def test_a_heartbeat_with_a_round_is_answered_at_once_and_one_without_is_not() -> None:
    server = follower(term=3)
    assert server.on(2, Heartbeat(3, 0, 5)) == effects(early=[(2, HeartbeatReply(3, 5))])
    assert server.on(2, Heartbeat(3, 0, 0)) == NOTHING


def test_a_heartbeat_of_a_later_term_is_followed() -> None:
    server = follower(term=3)
    turn = server.on(3, Heartbeat(4, 0, 1))
    turn.timers = ()
    assert turn == effects(records=[HardState(4, None)], early=[(3, HeartbeatReply(4, 1))], outputs=[Leads(4, 3)])


# --- hostile content ---


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (AppendEntries(3, 0, 0, [entry(9)], 0), "leads term 3 but sent an entry of term 9"),
        (AppendEntries(3, 1, 1, [noop(3)], 0), "sent an entry for index 2, which is committed with another term"),
        (Heartbeat(3, 9, 1), "says that index 9 is here, but the log ends at 2"),
    ],
)
def test_what_no_correct_leader_sends_is_blamed_and_changes_nothing(
    message: AppendEntries | Heartbeat, why: str
) -> None:
    server = follower(term=3, log=[1, 2])
    server.on(2, Heartbeat(3, 2, 0))
    assert server.on(2, message) == effects(blames=[(2, why)])
    assert (server.terms, server.core.commit_index) == ([1, 2], 2)


def test_a_commit_beyond_the_log_is_taken_as_far_as_the_log_goes() -> None:
    server = follower(term=3)
    assert server.on(2, AppendEntries(3, 0, 0, [A], 2**61)).outputs == [Decided(1, [A])]


def test_a_start_of_the_log_with_a_term_is_refused() -> None:
    server = Server(term=3)
    assert server.on(2, AppendEntries(3, 0, 7, [A], 0)).sends == effects(sends=[(2, Conflict(3, 0, 0, 0))]).sends
    assert server.log == []
