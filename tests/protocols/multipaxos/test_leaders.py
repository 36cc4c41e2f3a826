"""Standing, leading, counting: state, one step, exact effects."""

import msgspec
import pytest

from quorate.kernel import Received, Submitted, mask_of
from quorate.parts.leaderlog.proposals import Propose
from quorate.parts.leaderlog.reads import ReadReply, ReadRequest
from quorate.parts.log.configuration import Voters, encode_change
from quorate.parts.log.replicated import Busy, Decided, Dropped, Leads, ReadFailed, ReadReady
from quorate.parts.quorum.choice import (
    GridChoice,
    ListedChoice,
    MajorityChoice,
    QuorumChoice,
    SizesChoice,
    WeightedChoice,
)
from quorate.protocols.multipaxos import MultiPaxosConfig
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
    Run,
    Snapshotted,
    Voted,
)

from tests.protocols.multipaxos.multipaxos_nodes import (
    CONFIG,
    Node,
    agreed,
    entries,
    entry,
    follower,
    leader,
    members,
    messages,
    noop,
    polling,
    preparing,
    promised,
    records,
    run,
    voted,
)
from tests.protocols.raft.raft_nodes import NOTHING, effects
from tests.protocols.stepped import FIVE, THREE

NONCE = 77


# --- standing ---


def test_silence_begins_a_poll_which_promises_nothing() -> None:
    turn = Node().time_out()
    assert turn.early == effects(early=[((2, 3), Poll(1, 0))]).early
    assert turn.records == turn.sends == ()


def test_a_quorum_of_yeses_begins_phase_1_in_a_ballot_that_is_recorded_first() -> None:
    node = polling(records=[promised((4, 2))])
    assert node.on(2, PollReply(1, False, (6, 3))) == NOTHING
    turn = node.on(3, PollReply(1, True, (0, 0)))
    assert records(turn) == [Promised((7, 1), 0)], "above all that was promised or heard of"
    assert turn.sends == effects(sends=[(THREE, Prepare((7, 1), 1))]).sends


def test_answers_to_an_earlier_poll_count_nothing() -> None:
    node = polling()
    node.time_out()
    assert node.on(2, PollReply(1, True, (0, 0))) == NOTHING


def test_what_was_lost_of_phase_1_goes_again() -> None:
    node = preparing()
    node.on(2, Promise((1, 1), 1, [], 0))
    assert node.beat().sends == effects(sends=[(1, Prepare((1, 1), 1)), (3, Prepare((1, 1), 1))]).sends


def test_a_promise_in_parts_is_asked_for_part_by_part() -> None:
    node = preparing()
    node.on(1, Promise((1, 1), 1, [], 0))
    part = Promise((1, 1), 1, [run((0, 2), 1, "")], 3)
    part = msgspec.structs.replace(part, runs=[])
    assert node.on(2, part) == effects(sends=[(2, Prepare((1, 1), 3))])
    assert node.on(2, part) == NOTHING, "a copy is not answered: copies would multiply"
    assert node.core.role == "preparing"
    node.on(2, Promise((1, 1), 3, [], 0))
    assert node.core.role == "leader"


@pytest.mark.parametrize(
    ("runs", "next_slot"),
    [
        ([run((1, 1), 1, "a"), run((2, 2), 2, "b")], 0),
        ([run((0, 2), 1, "a")], 0),
        ([run((1, 1), 33, "a")], 0),
        ([], 1),
    ],
)
def test_a_promise_that_cannot_be_is_blamed_and_counts_nothing(runs: list[Run], next_slot: int) -> None:
    """Of a ballot above the one promised, or none; of a slot beyond all windows; with more that is no more."""
    node = preparing()
    node.on(1, Promise((1, 1), 1, [], 0))
    turn = node.on(2, Promise((1, 1), 1, runs, next_slot))
    assert [blame.node for blame in turn.blames] == [2]
    assert node.core.role == "preparing"
    assert not node.core._preparation.found


def test_a_refusal_ends_the_ballot_and_the_next_is_higher() -> None:
    node = preparing()
    turn = node.on(2, Nack((1, 1), (5, 3)))
    assert node.core.role == "follower"
    assert turn.sends == ()
    node.time_out()
    assert records(node.on(2, PollReply(2, True, (5, 3)))) == [Promised((6, 1), 0)]


def test_a_node_alone_leads_at_once() -> None:
    node = Node(peers=(1,))
    (prepare,) = messages(node.started)
    assert prepare == Prepare((1, 1), 1)
    (promise,) = messages(node.on(1, prepare))
    node.on(1, promise)
    assert node.core.role == "leader"
    assert node.read(7) == effects(outputs=[ReadReady((7,))])


def test_who_is_no_member_waits_twice_as_long_before_it_stands() -> None:
    config = msgspec.structs.replace(CONFIG, members=(2, 3))
    node = Node(config=config)
    assert node.time_out().early == ()
    assert messages(node.time_out()) == [Poll(1, 0)]
    node.on(2, Heartbeat((1, 2), 0, 0))
    assert node.time_out().early == ()


# --- leading ---


def test_a_new_leader_without_anything_found_proposes_nothing_and_asks_how_far_the_others_are() -> None:
    node = preparing()
    node.on(1, Promise((1, 1), 1, [], 0))
    turn = node.on(3, Promise((1, 1), 1, [], 0))
    assert turn.outputs == [Leads(1, 1)]
    assert turn.records == turn.sends == ()
    assert (
        turn.early
        == effects(
            early=[
                (2, Heartbeat((1, 1), 0, 1)),
                (2, Accept((1, 1), 1, [], 0)),
                (3, Heartbeat((1, 1), 0, 1)),
                (3, Accept((1, 1), 1, [], 0)),
            ]
        ).early
    )


def test_values_of_one_step_are_one_write_and_one_message() -> None:
    node = leader()
    turn = node.step(Submitted((b"a", b"b")), Received(2, Propose([b"c"])))
    assert turn == effects(
        records=[voted((1, 1), 1, "abc")],
        early=[((2, 3), Accept((1, 1), 1, entries(1, "abc"), 0))],
        sends=[(1, Accepted((1, 1), 3))],
    )


def test_what_promises_report_is_proposed_again_and_gaps_are_filled() -> None:
    """The highest ballot of each slot, a no-op where there is none, and new values after that."""
    node = preparing(records=[voted((1, 2), 1, "a"), voted((1, 2), 4, "d"), promised((2, 3))])
    node.on(1, Promise((3, 1), 1, [run((1, 2), 1, "a"), run((1, 2), 4, "d")], 0))
    turn = node.step(Received(2, Promise((3, 1), 1, [run((2, 3), 1, "xy")], 0)), Submitted((b"new",)))
    proposed = [entry(2, "x"), entry(2, "y"), noop(3), entry(1, "d"), entry(3, "new")]
    assert records(turn) == [Voted((3, 1), 1, proposed, 0)]
    assert [m.entries for m in messages(turn) if isinstance(m, Accept)][-1] == proposed


def test_a_quorum_of_one_ballot_chooses_and_the_next_message_says_so() -> None:
    node = leader()
    node.submit("a")
    assert node.on(2, Accepted((1, 1), 1)) == NOTHING, "our own disk has it not yet"
    turn = node.on(1, Accepted((1, 1), 1))
    assert turn == effects(outputs=[Decided(1, entries(1, "a"))], early=[(2, Heartbeat((1, 1), 1, 0))])
    assert messages(node.submit("b"))[0] == Accept((1, 1), 2, entries(1, "b"), 1)


def test_answers_of_another_ballot_count_nothing() -> None:
    node = leader(records=[promised((1, 2))])
    assert node.core.ballot == (2, 1)
    node.submit("a")
    node.on(1, Accepted((2, 1), 1))
    assert node.on(2, Accepted((1, 1), 1)) == NOTHING
    assert node.on(2, Accepted((2, 1), 1)).outputs == [Decided(1, entries(2, "a"))]


def test_no_more_than_a_window_is_open() -> None:
    node = leader()
    turn = node.submit(*"abcdefghij")
    assert records(turn) == [voted((1, 1), 1, "abcdefgh")]
    node.on(1, Accepted((1, 1), 8))
    turn = node.on(2, Accepted((1, 1), 1))
    assert turn.outputs == [Decided(1, entries(1, "a"))]
    assert records(turn) == [Voted((1, 1), 9, entries(1, "i"), 1)]


def test_a_node_that_lacks_something_is_sent_it_again() -> None:
    node = leader()
    node.on(2, Accepted((1, 1), 0))
    node.submit("a")
    node.submit("b")
    turn = node.beat()
    assert effects(early=[((2, 3), Accept((1, 1), 1, entries(1, "ab"), 0))]).early[0] in turn.early


def test_a_follower_that_knows_more_than_a_new_leader_is_believed() -> None:
    node = leader()
    assert node.on(3, Accepted((1, 1), 7)).blames == ()
    turn = node.submit("a")
    assert turn.blames == ()


def test_a_refused_leader_steps_down_and_drops_what_it_had_not_proposed() -> None:
    node = leader()
    node.submit(*"abcdefghij")
    node.read(7)
    turn = node.on(2, Nack((1, 1), (2, 3)))
    assert turn.outputs == [
        ReadFailed((7,), "leadership was lost"),
        Dropped((b"i", b"j"), "leadership was lost"),
        Leads(1, None),
    ]
    assert node.core.role == "follower"


def test_a_leader_that_no_quorum_answers_steps_down() -> None:
    node = leader()
    node.beat(1.9)
    assert node.core.role == "leader"
    assert Leads(1, None) in node.beat(0.2).outputs


def test_a_full_disk_ends_a_leadership_and_refuses_values() -> None:
    node = leader()
    assert node.stall("disk full").outputs == [Leads(1, None)]
    assert node.submit("a") == effects(outputs=[Dropped((b"a",), "disk full")])
    assert node.time_out().early == ()


def test_values_go_to_the_leader_in_messages_of_bounded_size() -> None:
    node = follower(config=msgspec.structs.replace(CONFIG, message_entries_max=2))
    turn = node.submit("a", "b", "c")
    assert turn == effects(early=[(2, Propose([b"a", b"b"])), (2, Propose([b"c"]))])


def test_too_much_that_waits_is_refused() -> None:
    node = leader(config=msgspec.structs.replace(CONFIG, uncommitted_bytes_max=30))
    node.submit("x" * 20)
    assert node.submit("y").outputs == [Busy((b"y",), "too much is waiting for a quorum")]
    agreed(node, 2)
    assert node.submit("y").outputs == ()


# --- reads ---


def test_a_read_waits_for_nodes_that_meet_every_phase_1_quorum() -> None:
    node = leader(peers=FIVE, config=msgspec.structs.replace(CONFIG, quorum=SizesChoice(4, 2)))
    turn = node.read(7)
    assert [m for m in messages(turn) if m.round == 2] == [Heartbeat((1, 1), 0, 2)] * 4
    assert node.on(2, HeartbeatReply((1, 1), 2)) == effects(outputs=[ReadReady((7,))]), "two meet any four of five"
    wide = leader(peers=FIVE, config=msgspec.structs.replace(CONFIG, quorum=SizesChoice(2, 4)))
    wide.read(7)
    for node_ in (2, 3):
        assert wide.on(node_, HeartbeatReply((1, 1), 2)) == NOTHING
    assert wide.on(4, HeartbeatReply((1, 1), 2)).outputs == [ReadReady((7,))], "any two of five are met by four"


def test_reads_wait_until_all_that_was_found_is_chosen() -> None:
    node = leader(Promise((2, 1), 1, [run((1, 2), 1, "a")], 0), records=[promised((1, 2))])
    assert node.read(7) == NOTHING
    turn = agreed(node, 2)
    assert turn.outputs == [Decided(1, entries(1, "a"))]
    assert node.on(3, HeartbeatReply((2, 1), 2)).outputs == [ReadReady((7,))]


def test_reads_of_followers_are_answered_with_the_slot() -> None:
    node = leader()
    node.submit("a")
    agreed(node, 2)
    node.on(2, ReadRequest(NONCE, [5]))
    assert node.on(3, HeartbeatReply((1, 1), 2)) == effects(early=[(2, ReadReply(NONCE, [5], 1))])


def test_a_deposed_leader_confirms_no_read() -> None:
    node = leader()
    node.read(7)
    node.on(3, Heartbeat((2, 3), 0, 0))
    assert node.on(2, HeartbeatReply((1, 1), 2)) == NOTHING


# --- leases ---

LEASED = msgspec.structs.replace(CONFIG, lease_s=1.0, clock_drift=0.1)


def leased() -> Node:
    """A leader with a lease that began just now."""
    node = leader(config=LEASED)
    number = node.core._reads.rounds.number
    node.on(2, HeartbeatReply((1, 1), number))
    return node


def test_a_lease_serves_reads_without_a_message_and_less_long_than_it_is_kept() -> None:
    node = leased()
    assert node.read(7) == effects(outputs=[ReadReady((7,))])
    node.now += 0.9 / 1.1 - 0.001
    assert node.read(8) == effects(outputs=[ReadReady((8,))])
    node.now += 0.002
    turn = node.read(9)
    assert turn.outputs == ()
    assert all(isinstance(m, Heartbeat) for m in messages(turn))
    assert node.on(2, HeartbeatReply((1, 1), node.core._reads.rounds.number)).outputs == [ReadReady((9,))]
    assert node.read(10).outputs == [ReadReady((10,))], "that round was a lease as well"


def test_a_lease_counts_from_when_its_round_began() -> None:
    node = leader(config=LEASED)
    number = node.core._reads.rounds.number
    node.now += 0.8
    node.on(2, HeartbeatReply((1, 1), number))
    assert node.read(7).outputs == [ReadReady((7,))]
    node.now += 0.02
    assert node.read(8).outputs == ()


def test_a_lease_ends_with_the_leadership() -> None:
    node = leased()
    node.on(3, Heartbeat((2, 3), 0, 0))
    assert node.read(7).outputs == ()


def test_who_answers_a_round_promises_nothing_for_as_long_as_the_lease() -> None:
    """From the last word of the leader on; also where it stands itself by then, or follows nobody."""
    node = follower(2, config=LEASED)
    node.now += 0.999
    assert node.on(3, Prepare((2, 3), 1)) == NOTHING
    assert messages(node.on(3, Poll(1, 0))) == [PollReply(1, False, (1, 2))]
    node.stall("disk full")
    node.stall(None)
    assert node.on(3, Prepare((2, 3), 1)) == NOTHING
    node.now += 0.001
    assert records(node.on(3, Prepare((2, 3), 1))) == [Promised((2, 3), 0)]


def test_after_a_restart_nothing_is_promised_for_as_long_as_a_lease_may_hold() -> None:
    node = Node(config=LEASED)
    assert node.on(2, Prepare((1, 2), 1)) == NOTHING
    assert messages(node.on(2, Poll(1, 0))) == [PollReply(1, False, (0, 0))]
    node.now += 1.0
    assert records(node.on(2, Prepare((1, 2), 1))) == [Promised((1, 2), 0)]


def test_a_sole_member_waits_after_a_restart_as_well() -> None:
    """An earlier life may have confirmed the lease of a leader that does not know yet that it was removed."""
    records_of_alone = [Snapshotted(9, 1, 9, 1, (Membership(9, (1,)),))]
    assert Node(records=records_of_alone).core.role == "preparing", "without leases there is nothing to wait for"
    node = Node(config=LEASED, records=records_of_alone)
    assert (node.core.role, messages(node.started)) == ("follower", [])
    node.time_out()
    assert node.core.role == "preparing"


# --- members ---


def test_new_members_count_a_window_after_the_slot_that_names_them() -> None:
    node = leader(peers=FIVE, config=msgspec.structs.replace(CONFIG, members=(1, 2, 3)))
    node.step(Submitted((encode_change((3, 4, 5)),)))
    turn = agreed(node, 2)
    assert turn.outputs == [Decided(1, [members(1, 3, 4, 5)])]
    assert [m for m in messages(turn) if isinstance(m, Prepare)] == [Prepare((1, 1), 2)] * 3, "they promise first"
    assert records(turn) == [Voted((1, 1), 2, [noop(1)] * 7, 1)], "no-ops up to where they count"
    for peer in (4, 5):
        node.on(peer, Promise((1, 1), 2, [], 0))
    node.submit("x")
    assert node.core.acceptor.log.last_index == 8, "and nothing where they do before all until there is chosen"
    node.on(4, Accepted((1, 1), 8))
    node.on(5, Accepted((1, 1), 8))
    assert node.core.acceptor.chosen_index == 1, "the old ones count before that"
    turn = agreed(node, 2)
    assert node.core.acceptor.chosen_index == 8
    assert records(turn) == [Promised((1, 1), 8), Voted((1, 1), 9, [entry(1, "x")], 8)], "this decides who votes"
    assert [m for m in messages(turn) if isinstance(m, Accept)] == [Accept((1, 1), 9, [entry(1, "x")], 8)]
    assert node.core.voters == Voters((1, 2, 3), (3, 4, 5), 9), "nobody of the new ones may know yet"
    agreed(node, 4, 5)
    assert node.core.acceptor.chosen_index == 9
    assert node.core.voters == Voters((3, 4, 5), (), 9)


def test_what_new_members_accepted_before_is_proposed_again() -> None:
    node = leader(peers=FIVE, config=msgspec.structs.replace(CONFIG, members=(1, 2, 3)), records=[promised((1, 4))])
    node.step(Submitted((encode_change((3, 4, 5)),)))
    agreed(node, 2)
    node.on(4, Promise((2, 1), 2, [run((1, 4), 9, "x")], 0))
    node.on(5, Promise((2, 1), 2, [], 0))
    agreed(node, 2)
    assert node.log[-1] == entry(1, "x")


def test_nothing_is_proposed_past_members_who_have_not_promised_whatever_later_ones_did() -> None:
    node = leader(peers=FIVE, config=msgspec.structs.replace(CONFIG, members=(1, 2, 3)))
    node.step(Submitted((encode_change((4,)), b"a", encode_change((1, 2, 3)), encode_change((4, 5)))))
    for _ in range(3):
        agreed(node, 2)
    assert [span.first_slot for span in node.core.members.spans] == [1, 9, 11, 12]
    assert node.core.acceptor.chosen_index == 8
    assert node.core.acceptor.log.last_index == 8, "slot 9 is 4's, who may have accepted something there"
    node.submit("x")
    assert node.core.acceptor.log.last_index == 8


def test_a_leader_that_is_no_member_any_more_stays_until_the_new_ones_know() -> None:
    node = leader(peers=FIVE, config=msgspec.structs.replace(CONFIG, members=(1, 2, 3)))
    node.step(Submitted((encode_change((3, 4, 5)),)))
    agreed(node, 2)
    for peer in (4, 5):
        node.on(peer, Promise((1, 1), 2, [], 0))
    agreed(node, 2)
    node.on(4, Accepted((1, 1), 8))
    node.on(5, Accepted((1, 1), 8))
    node.beat()
    assert node.core.role == "leader", "they may have missed that slot 8 is chosen, and ask the old ones"
    agreed(node, 4, 5)
    assert node.core.acceptor.chosen_index == 9
    node.beat()
    assert node.core.role == "follower"


def grown_behind() -> Node:
    """Leads by the old members, and has no promise of the new ones for the next slot."""
    node = leader(peers=FIVE, config=msgspec.structs.replace(CONFIG, members=(1, 2, 3)))
    node.step(Submitted((encode_change(FIVE),)))
    agreed(node, 2)
    agreed(node, 2)
    assert node.core.acceptor.chosen_index == 8
    return node


def test_a_leader_that_new_members_cannot_answer_makes_room() -> None:
    """They went on without it, and have compacted what it asks for: one of them leads, and sends it a snapshot."""
    node = grown_behind()
    node.on(4, Behind((1, 1), 40))
    assert (node.core.role, node.core.leader) == ("follower", None)
    assert messages(node.time_out()) == [], "others go first"
    assert Poll(2, 8) in messages(node.time_out()), "but it does not wait for ever"


def test_who_is_behind_goes_on_where_it_can() -> None:
    node = leader(peers=FIVE, config=msgspec.structs.replace(CONFIG, members=(1, 2, 3)))
    node.on(4, Behind((1, 1), 40))
    assert node.core.role == "leader", "slots that it may propose in are left"
    node = grown_behind()
    node.on(4, Behind((1, 1), 8))
    assert node.core.role == "leader", "we know as much by now"
    assert [blame.node for blame in node.on(4, Behind((1, 4), 40)).blames] == [4]


def test_what_the_leader_said_is_chosen_counts_when_a_gap_is_closed() -> None:
    """Or who accepts the first slot of new members would not know that all before it is chosen."""
    node = follower(2)
    node.on(2, Accept((1, 2), 3, [entry(1, "c")], 2))
    assert node.core.acceptor.chosen_index == 0
    node.on(2, Accept((1, 2), 1, entries(1, "ab"), 0))
    assert node.core.acceptor.chosen_index == 2


def test_a_follower_records_that_new_members_begin_before_it_answers() -> None:
    node = follower(2)
    node.on(2, Accept((1, 2), 1, [members(1, 1, 2), *[noop(1)] * 7], 0))
    turn = node.on(2, Accept((1, 2), 9, [noop(1)], 8))
    assert records(turn) == [Voted((1, 2), 9, [noop(1)], 0), Promised((1, 2), 8)]
    assert messages(turn) == [Accepted((1, 2), 9)]
    assert node.core.voters == Voters(THREE, (1, 2), 9)
    again = Node(records=[record.value for record in node.host.checkpoint()])
    assert Poll(1, 8) in messages(again.time_out())
    assert again.core._poll._quorum.members == mask_of((1, 2)), "the new ones are asked"


def test_a_leader_that_is_no_member_stays_while_members_lack_what_is_compacted() -> None:
    """They could not be told by others, so none of them could lead."""
    base = Snapshotted(9, 1, 9, 1, (Membership(4, (2, 3)),))
    node = Node(records=[base])
    node.time_out()
    node.time_out()
    for peer in (2, 3):
        node.on(peer, PollReply(1, True, (0, 0)))
    for peer in (2, 3):
        node.on(peer, Promise((1, 1), 10, [], 0))
    assert node.core.role == "leader"
    node.submit("a")
    node.on(2, Accepted((1, 1), 3))
    node.beat()
    assert node.core.role == "leader"


def test_a_configuration_that_cannot_be_changes_nothing() -> None:
    node = leader()
    for value in (encode_change((1, 9)), encode_change((1,))[:-1], encode_change((1, 2), epoch=2)):
        node.step(Submitted((value,)))
        agreed(node, 2)
    assert len(node.core.members.spans) == 1
    assert node.core.voters == Voters((1, 2, 3), (), 1)


def test_a_change_counts_in_the_epoch_that_it_names_and_not_again() -> None:
    node = leader()
    for value in (encode_change((1, 2), 1), encode_change((1, 2, 3), 9), encode_change((1, 2), 1)):
        node.step(Submitted((value,)))
        agreed(node, 2)
    assert [(span.first_slot, span.members) for span in node.core.members.spans] == [
        *((1, (1, 2, 3)), (9, (1, 2)), (17, (1, 2, 3)))
    ]
    assert node.core.voters.next_members == (1, 2, 3)
    assert node.core.voters.epoch == 17


# --- quorums ---


@pytest.mark.parametrize(
    ("quorum", "phase2"),
    [
        (MajorityChoice(), (1, 2, 3)),
        (SizesChoice(4, 2), (1, 2)),
        (SizesChoice(2, 4), (1, 2, 3, 4)),
        (WeightedChoice(((1, 3), (2, 1), (3, 1), (4, 1), (5, 1))), (1, 2)),
        (ListedChoice(((1, 2, 3),), ((1, 4), (2, 4), (3, 5))), (1, 4)),
    ],
)
def test_a_value_is_chosen_by_a_phase_2_quorum(quorum: QuorumChoice, phase2: tuple[int, ...]) -> None:
    node = preparing(peers=FIVE, config=msgspec.structs.replace(CONFIG, quorum=quorum), records=[])
    for peer in FIVE:
        node.on(peer, Promise((1, 1), 1, [], 0))
    assert node.core.role == "leader"
    node.submit("a")
    for peer in phase2[:-1]:
        assert node.on(peer, Accepted((1, 1), 1)).outputs == ()
    assert node.on(phase2[-1], Accepted((1, 1), 1)).outputs == [Decided(1, entries(1, "a"))]


def test_a_grid_takes_a_row_for_phase_1_and_a_column_for_phase_2() -> None:
    config = msgspec.structs.replace(CONFIG, quorum=GridChoice(((1, 2, 3), (4, 5, 6))))
    node = Node(peers=(1, 2, 3, 4, 5, 6), config=config)
    node.time_out()
    node.on(2, PollReply(1, True, (0, 0)))
    assert node.core.role == "polling"
    node.on(3, PollReply(1, True, (0, 0)))
    for peer in (1, 2, 3):
        node.on(peer, Promise((1, 1), 1, [], 0))
    assert node.core.role == "leader"
    node.submit("a")
    node.on(1, Accepted((1, 1), 1))
    assert node.on(2, Accepted((1, 1), 1)).outputs == ()
    assert node.on(4, Accepted((1, 1), 1)).outputs == [Decided(1, entries(1, "a"))]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            {"kind": "sizes", "phase1": 2, "phase2": 3},
            r"phase-1 quorum \[1, 2\] and phase-2 quorum \[3, 4, 5\]",
        ),
        (
            {"kind": "listed", "phase1": [[1, 2]], "phase2": [[3, 4]]},
            r"phase-1 quorum \[1, 2\] and phase-2 quorum \[3, 4\]",
        ),
        ({"kind": "grid", "rows": [[1, 2], [3, 4]]}, r"the quorums are of nodes \[1, 2, 3, 4\], but the members are"),
        ({"kind": "listed", "phase1": [[1, 9]], "phase2": [[1]]}, r"name nodes \[9\], which are no members"),
        ({"kind": "weighted", "weights": [[1, 1]]}, r"the quorums are of nodes \[1\]"),
    ],
)
def test_quorums_that_do_not_do_are_refused_at_construction(table: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Node(peers=FIVE, config=msgspec.convert({"quorum": table}, MultiPaxosConfig))
    with pytest.raises(ValueError, match=words):
        msgspec.convert({"quorum": table, "members": [1, 2, 3, 4, 5]}, MultiPaxosConfig)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"alpha": 0}, "alpha is 0"),
        ({"lease_s": 2.0}, "at most election_timeout_s_min"),
        ({"clock_drift": 1.0}, "clock_drift is 1.0"),
        ({"heartbeat_s": 1.0}, "at least two heartbeats"),
        ({"snapshot_entries": 0}, "snapshot_entries is 0"),
    ],
)
def test_a_configuration_that_cannot_work_says_why(fields: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MultiPaxosConfig(**fields)  # type: ignore[arg-type]


def test_members_must_be_peers() -> None:
    with pytest.raises(ValueError, match=r"members \[9\] are not in the group"):
        Node(config=msgspec.structs.replace(CONFIG, members=(1, 9)))
