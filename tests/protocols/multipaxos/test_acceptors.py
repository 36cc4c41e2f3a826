"""One acceptor: state, one step, exact effects."""

import msgspec
import pytest

from quorate.kernel import Record
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Decided, Leads, Restored
from quorate.protocols.multipaxos.acceptor import Acceptor
from quorate.protocols.multipaxos.messages import (
    Accept,
    Accepted,
    Behind,
    Heartbeat,
    HeartbeatReply,
    Membership,
    Nack,
    Poll,
    PollReply,
    Prepare,
    Promise,
    Promised,
    Snapshotted,
    Voted,
)

from tests.protocols.multipaxos.multipaxos_nodes import (
    CONFIG,
    Node,
    entries,
    entry,
    follower,
    messages,
    promised,
    records,
    run,
    voted,
)
from tests.protocols.raft.raft_nodes import NOTHING, effects


def test_a_promise_is_recorded_and_tells_what_was_accepted() -> None:
    node = Node(records=[voted((1, 2), 1, "ab")])
    turn = node.on(3, Prepare((2, 3), 1))
    assert records(turn) == [Promised((2, 3), 0)]
    assert turn.sends == effects(sends=[(3, Promise((2, 3), 1, [run((1, 2), 1, "ab")], 0))]).sends
    assert turn.early == ()


def test_a_lower_ballot_is_refused_with_the_one_that_was_promised() -> None:
    node = Node(records=[promised((3, 3))])
    assert node.on(2, Prepare((2, 2), 1)) == effects(sends=[(2, Nack((2, 2), (3, 3)))])
    assert node.on(2, Accept((2, 2), 1, [entry(2, "x")], 0)) == effects(sends=[(2, Nack((2, 2), (3, 3)))])
    assert node.on(2, Heartbeat((2, 2), 0, 1)) == effects(sends=[(2, Nack((2, 2), (3, 3)))])


def test_a_copy_of_a_prepare_is_answered_again_and_writes_nothing() -> None:
    node = Node(records=[promised((2, 3))])
    assert node.on(3, Prepare((2, 3), 1)) == effects(sends=[(3, Promise((2, 3), 1, [], 0))])


def test_a_promise_comes_in_parts_that_fit_a_message() -> None:
    small = msgspec.structs.replace(CONFIG, message_entries_max=2)
    node = Node(records=[voted((1, 2), 1, "abc"), voted((1, 2), 6, "f"), promised((2, 3))], config=small)
    parts = []
    first = 1
    while first:
        (part,) = messages(node.on(3, Prepare((2, 3), first)))
        parts.append(part)
        first = part.next_slot
    assert parts == [
        Promise((2, 3), 1, [run((1, 2), 1, "ab")], 3),
        Promise((2, 3), 3, [run((1, 2), 3, "c")], 4),
        Promise((2, 3), 4, [run((1, 2), 6, "f")], 0),
    ]


def test_values_are_accepted_and_one_number_answers() -> None:
    node = follower()
    turn = node.on(2, Accept((1, 2), 1, entries(1, "ab"), 0), Accept((1, 2), 3, entries(1, "c"), 1))
    assert records(turn) == [voted((1, 2), 1, "ab"), voted((1, 2), 3, "c")]
    assert turn.sends == effects(sends=[(2, Accepted((1, 2), 3))]).sends
    assert turn.outputs == [Decided(1, entries(1, "a"))]


def test_behind_a_gap_values_are_accepted_and_not_counted() -> None:
    node = follower()
    turn = node.on(2, Accept((1, 2), 3, entries(1, "cd"), 0))
    assert turn == effects(records=[voted((1, 2), 3, "cd")], sends=[(2, Accepted((1, 2), 0))])
    assert node.core.acceptor.ahead == {3: ((1, 2), entry(1, "c")), 4: ((1, 2), entry(1, "d"))}
    turn = node.on(2, Accept((1, 2), 1, entries(1, "ab"), 0))
    assert turn == effects(records=[voted((1, 2), 1, "ab")], sends=[(2, Accepted((1, 2), 4))])
    assert node.log == entries(1, "abcd")
    assert not node.core.acceptor.ahead


def test_a_copy_writes_nothing_and_is_answered() -> None:
    node = follower(records=[voted((1, 2), 1, "abc"), voted((1, 2), 6, "f")])
    assert node.on(2, Accept((1, 2), 2, entries(1, "bc"), 0)) == effects(sends=[(2, Accepted((1, 2), 3))])
    assert node.on(2, Accept((1, 2), 6, entries(1, "f"), 0)) == effects(sends=[(2, Accepted((1, 2), 3))])


def test_in_a_new_ballot_older_acceptances_count_no_more_but_are_remembered() -> None:
    node = Node(records=[voted((1, 2), 1, "abc", 0), promised((1, 2), 1)])
    turn = node.on(3, Accept((2, 3), 2, entries(1, "b"), 1))
    assert records(turn) == [Promised((2, 3), 1), voted((2, 3), 2, "b", 1, round_=1)]
    assert turn.sends == effects(sends=[(3, Accepted((2, 3), 2))]).sends, "1 is chosen, 2 is accepted, 3 is neither"
    assert node.core.acceptor.ahead == {3: ((1, 2), entry(1, "c"))}
    assert messages(node.on(3, Prepare((2, 3), 1)))[0].runs == [run((2, 3), 1, "ab", round_=1)]


def test_chosen_is_no_more_than_what_was_accepted_in_the_ballot_of_who_says_so() -> None:
    node = Node(records=[voted((1, 2), 1, "abc")])
    node.on(3, Heartbeat((2, 3), 3, 0))
    assert node.core.acceptor.chosen_index == 0, "what is here may be another value than what was chosen"
    node.on(3, Accept((2, 3), 1, entries(2, "xy"), 3))
    assert node.core.acceptor.chosen_index == 2


def test_what_lies_beyond_the_window_is_not_accepted_and_the_leader_hears_how_far_we_are() -> None:
    node = follower()
    turn = node.on(2, Accept((1, 2), 8, entries(1, "hijk"), 0))
    assert turn == effects(records=[voted((1, 2), 8, "h")], sends=[(2, Accepted((1, 2), 0))])
    assert node.on(2, Accept((1, 2), 20, entries(1, "x"), 0)) == effects(sends=[(2, Accepted((1, 2), 0))])


def test_two_values_in_one_ballot_are_blamed() -> None:
    node = follower(records=[voted((1, 2), 1, "ab")])
    turn = node.on(2, Accept((1, 2), 2, entries(1, "x"), 0))
    assert [blame.node for blame in turn.blames] == [2]
    assert turn.records == turn.sends == ()


def test_who_hears_a_leader_promises_nothing_and_would_not() -> None:
    node = follower(2)
    assert node.on(3, Poll(1, 0)) == effects(early=[(3, PollReply(1, False, (1, 2)))])
    assert node.on(3, Prepare((9, 3), 1)) == NOTHING
    node.now += CONFIG.election_timeout_s_min
    assert node.on(3, Poll(2, 0)) == effects(early=[(3, PollReply(2, True, (1, 2)))])
    assert records(node.on(3, Prepare((9, 3), 1))) == [Promised((9, 3), 0)]


def test_a_candidate_that_lacks_what_is_compacted_or_too_much_is_refused() -> None:
    base = Snapshotted(5, 1, 5, 1, (Membership(1, (1, 2, 3)),))
    node = Node(records=[base])
    assert messages(node.on(3, Poll(1, 4))) == [PollReply(1, False, (0, 0))]
    assert node.on(3, Prepare((1, 3), 5)) == effects(sends=[(3, Behind((1, 3), 5))])
    assert messages(node.on(3, Poll(2, 5))) == [PollReply(2, True, (0, 0))]
    far = Node(records=[voted((1, 2), 1, "abcdefghi"), promised((1, 2), 9)])
    assert messages(far.on(3, Poll(1, 0))) == [PollReply(1, False, (1, 2))]
    assert messages(far.on(3, Poll(1, 1))) == [PollReply(1, True, (1, 2))]
    assert far.on(3, Prepare((2, 3), 1)) == effects(sends=[(3, Behind((2, 3), 9))])
    assert far.core.acceptor.promised == (1, 2), "and promises it nothing"


def test_a_leader_that_is_followed_hears_as_well_that_it_asks_for_what_is_compacted() -> None:
    node = Node(records=[Snapshotted(5, 1, 5, 1, (Membership(1, (1, 2, 3)),))])
    node.on(3, Heartbeat((1, 3), 0, 0))
    assert node.core.leader == 3
    assert node.on(3, Prepare((1, 3), 5)) == effects(sends=[(3, Behind((1, 3), 5))])
    assert messages(node.on(3, Prepare((1, 3), 6))) == [Promise((1, 3), 6, [], 0)]


def test_a_full_disk_promises_nothing() -> None:
    node = Node()
    node.stall("disk full")
    assert node.on(2, Prepare((1, 2), 1)) == NOTHING


def test_a_round_is_answered_at_once() -> None:
    node = follower(2)
    assert node.on(2, Heartbeat((1, 2), 0, 7)) == effects(early=[(2, HeartbeatReply((1, 2), 7))])


# --- recovery ---


def votes_of(acceptor: Acceptor) -> dict[int, tuple[tuple[int, int], Entry]]:
    """What it would promise, by slot."""
    votes, first = {}, acceptor.log.base_index + 1
    while first:
        runs, first = acceptor.votes(first)
        for each in runs:
            for slot, value in enumerate(each.entries, each.first_slot):
                votes[slot] = (each.ballot, value)
    return votes


def test_what_was_recorded_as_chosen_is_delivered_at_the_start() -> None:
    node = Node(records=[voted((1, 2), 1, "ab"), voted((1, 2), 3, "c", 2)])
    assert node.started.outputs == [Leads(1, None), Decided(1, entries(1, "ab"))]
    assert node.core.acceptor.chosen_index == 2


@pytest.mark.parametrize("cut", range(12))
def test_a_checkpoint_anywhere_equals_all_records(cut: int) -> None:
    base = Snapshotted(2, 1, 1, 1, (Membership(1, (1, 2, 3)),))
    history = [
        promised((1, 2)),
        voted((1, 2), 1, "abc"),
        voted((1, 2), 5, "e", 1),
        promised((2, 3), 2),
        base,
        voted((2, 3), 3, "x", 2),
        voted((2, 3), 6, "f", 3),
        promised((3, 1), 3),
        voted((3, 1), 4, "yz", 3),
        Snapshotted(5, 3, 5, 3, (Membership(1, (1, 2, 3)),)),
        promised((4, 2), 5),
    ]
    whole = Node(records=history)
    first = Node(records=history[:cut])
    second = Node(records=[record.value for record in first.host.checkpoint()])
    for record in history[cut:]:
        second.core.restore(record)
    one, two = whole.core.acceptor, second.core.acceptor
    for name in ("promised", "chosen_index", "snapshot_index"):
        assert getattr(one, name) == getattr(two, name), name
    assert votes_of(one) == votes_of(two)


def test_a_snapshot_keeps_the_votes_after_it() -> None:
    """Ours and, above all, one that a leader sent: a vote may be the last copy of what was chosen."""
    node = Node(records=[voted((1, 2), 1, "abcdef")])
    node.core.restore(Snapshotted(4, 9, 4, 9, (Membership(1, (1, 2, 3)),)))
    assert node.core.acceptor.votes(5) == ([run((1, 2), 5, "ef")], 0)
    assert node.core.acceptor.chosen_index == 4


def test_a_journal_with_a_hole_is_an_error() -> None:
    with pytest.raises(ValueError, match="all up to slot 3 is chosen, but its log ends at 0"):
        Node(records=[promised((1, 2), 3)])
    with pytest.raises(ValueError, match="snapshot stands at 5, but its log ends at 2"):
        Node(records=[Snapshotted(5, 1, 2, 1, (Membership(1, (1, 2, 3)),))])


def test_a_restart_begins_after_its_snapshot() -> None:
    node = Node(records=[Snapshotted(5, 1, 5, 1, (Membership(1, (1, 2, 3)),)), voted((1, 2), 6, "fg", 5)])
    assert node.started.outputs == [Restored(5, 1), Leads(1, None)]
    assert node.core.delivered_index == 5


def test_records_survive_the_host() -> None:
    node = follower()
    node.on(2, Accept((1, 2), 1, entries(1, "ab"), 0))
    assert node.host.checkpoint() == [
        Record((), Voted((1, 2), 1, entries(1, "ab"), 0)),
        Record((), Promised((1, 2), 0)),
    ]
