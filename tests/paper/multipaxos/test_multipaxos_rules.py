"""Sentences of the Multi-Paxos papers, one test each, on exact effects."""

import msgspec
import pytest

from quorate.kernel import Received, Submitted
from quorate.parts.log.configuration import encode_change
from quorate.parts.log.replicated import Decided, ReadReady
from quorate.parts.quorum import Flexible, Majority, Threshold
from quorate.parts.quorum.choice import SizesChoice
from quorate.protocols.multipaxos import MultiPaxos
from quorate.protocols.multipaxos.messages import (
    Accept,
    Accepted,
    Heartbeat,
    HeartbeatReply,
    Membership,
    Nack,
    PollReply,
    Prepare,
    Promise,
    Promised,
    Snapshotted,
    Voted,
)

from tests.protocols.cluster import Cluster
from tests.protocols.multipaxos.multipaxos_nodes import (
    CONFIG,
    Node,
    agreed,
    entries,
    entry,
    follower,
    leader,
    messages,
    noop,
    polling,
    preparing,
    promised,
    records,
    run,
    voted,
)
from tests.protocols.raft.raft_nodes import effects
from tests.protocols.stepped import FIVE, THREE

# --- Lamport 2001, "Paxos made simple" ---


def test_a_proposer_remembers_its_highest_number_and_begins_with_a_higher_one() -> None:
    """§2.5: durable before Prepare leaves; a restart begins above it."""
    node = polling()
    turn = node.on(2, PollReply(1, True, (0, 0)))
    assert records(turn) == [Promised((1, 1), 0)]
    assert turn.early == (), "Prepare waits for the disk"
    again = preparing(records=records(turn))
    assert again.core.ballot == (2, 1)


def test_an_acceptor_records_before_it_answers() -> None:
    """§2.5: promise and acceptance leave through the barrier."""
    node = Node()
    turn = node.on(2, Prepare((1, 2), 1))
    assert (records(turn), turn.early) == ([Promised((1, 2), 0)], ())
    turn = node.on(2, Accept((1, 2), 1, entries(1, "a"), 0))
    assert (records(turn), turn.early) == ([voted((1, 2), 1, "a")], ())


def test_a_promise_holds_after_a_restart() -> None:
    """§2.5."""
    node = Node(records=records(Node().on(3, Prepare((5, 3), 1))))
    assert node.on(2, Accept((4, 2), 1, entries(4, "x"), 0)).sends == effects(sends=[(2, Nack((4, 2), (5, 3)))]).sends


def test_p1a_it_accepts_unless_it_has_promised_a_higher_number() -> None:
    """§2.2, P1a; to accept a higher ballot is to promise it."""
    node = Node(records=[promised((2, 3))])
    assert messages(node.on(2, Accept((2, 2), 1, entries(2, "x"), 0))) == [Nack((2, 2), (2, 3))]
    assert records(node.on(2, Accept((3, 2), 1, entries(3, "x"), 0)))[-1] == voted((3, 2), 1, "x")
    assert messages(node.on(3, Accept((2, 3), 1, entries(2, "y"), 0))) == [Nack((2, 3), (3, 2))]


def test_p2c_in_each_slot_the_value_of_the_highest_ballot_is_proposed() -> None:
    """§2.2, P2c: in whichever order the promises come."""
    for order in ((2, 3), (3, 2)):
        node = preparing(peers=FIVE)
        found = {2: [run((1, 4), 1, "ab")], 3: [run((2, 5), 2, "x"), run((1, 4), 3, "c")]}
        node = preparing(peers=FIVE, records=[promised((2, 5))])
        node.on(1, Promise((3, 1), 1, [], 0))
        for peer in order:
            turn = node.on(peer, Promise((3, 1), 1, found[peer], 0))
        assert records(turn) == [Voted((3, 1), 1, [entry(1, "a"), entry(2, "x"), entry(1, "c")], 0)]


def test_a_free_slot_takes_a_value_of_our_own_only_after_all_promises_are_complete() -> None:
    """§2.2, P2c: that nothing was accepted is known when the last part is here."""
    node = preparing()
    node.on(1, Promise((1, 1), 1, [], 0))
    node.on(2, Promise((1, 1), 1, [], 3))
    assert node.submit("new").records == ()
    assert node.core.role == "preparing"


def test_acceptances_of_two_ballots_are_not_counted_together() -> None:
    """§2.3: a value is chosen when *one* proposal is accepted by a majority."""
    node = Node(2, records=[voted((1, 3), 1, "a"), promised((2, 1))])
    turn = node.on(1, Accept((2, 1), 2, entries(2, "b"), 0))
    assert messages(turn) == [Accepted((2, 1), 0)], "slot 1 was accepted in another ballot"


def test_phase_1_is_done_once_for_all_slots() -> None:
    """§3: the number of Prepare messages does not grow with that of values."""
    cluster = Cluster(lambda env: MultiPaxos(env, CONFIG), 3, delay_s=(0.001, 0.002))
    sent: list[object] = []
    cluster.watch = lambda node, turn: sent.extend(messages(turn))
    assert cluster.run(30, lambda: any(m.core.role == "leader" for m in cluster.members.values()))
    leads = next(n for n, m in cluster.members.items() if m.core.role == "leader")
    before = sum(isinstance(m, Prepare) for m in sent)
    for number in range(50):
        cluster.submit(leads, b"%d" % number)
        cluster.run(0.01)
    cluster.run(0.5)
    assert len(cluster[leads].applied) == 50
    assert sum(isinstance(m, Prepare) for m in sent) == before == 1


def test_a_gap_is_filled_with_no_ops() -> None:
    """§3: no-ops are proposed for it, and leave the state as it is."""
    node = preparing(records=[promised((1, 2))])
    node.on(1, Promise((2, 1), 1, [], 0))
    turn = node.on(2, Promise((2, 1), 1, [run((1, 2), 3, "c")], 0))
    assert records(turn) == [Voted((2, 1), 1, [noop(2), noop(2), entry(1, "c")], 0)]


def test_new_values_may_be_proposed_before_earlier_ones_are_chosen() -> None:
    """§3: a leader can be alpha commands ahead."""
    node = leader()
    assert records(node.submit(*"abc"))
    assert records(node.submit(*"defghijk")) == [Voted((1, 1), 4, entries(1, "defgh"), 0)], "8 slots are open, no more"


def test_the_members_of_a_slot_are_those_that_the_state_alpha_slots_before_says() -> None:
    """§3: reconfiguration, alpha slots later."""
    node = leader(peers=FIVE, config=msgspec.structs.replace(CONFIG, members=(1, 2, 3)))
    node.step(Submitted((encode_change((4, 5)),)))
    agreed(node, 2)
    assert [node.core.members.at(slot).members for slot in (8, 9)] == [(1, 2, 3), (4, 5)]


def test_only_one_who_hears_no_leader_stands() -> None:
    """§2.4: progress needs a distinguished proposer; two that stand for ever would stop each other."""
    node = follower(2)
    node.now += 0.9
    node.on(2, Heartbeat((1, 2), 0, 0))
    node.now += 0.9
    assert node.step() == effects()
    assert messages(node.on(3, Prepare((7, 3), 1))) == []


# --- Howard, Malkhi and Spiegelman 2016, "Flexible Paxos" ---


def test_only_quorums_of_different_phases_must_meet() -> None:
    """§3: with five acceptors, four promise and any two choose."""
    node = preparing(peers=FIVE, config=msgspec.structs.replace(CONFIG, quorum=SizesChoice(4, 2)))
    for peer in (1, 2, 3):
        node.on(peer, Promise((1, 1), 1, [], 0))
    assert node.core.role == "preparing"
    node.on(4, Promise((1, 1), 1, [], 0))
    node.submit("a")
    node.on(5, Accepted((1, 1), 1))
    assert node.on(3, Accepted((1, 1), 1)).outputs == [Decided(1, entries(1, "a"))]


def test_a_pair_that_does_not_meet_is_refused_and_named() -> None:
    """§3: each phase-1 quorum meets each phase-2 quorum."""
    with pytest.raises(ValueError, match=r"phase-1 quorum \[1, 2\] and phase-2 quorum \[3, 4, 5\] share no node"):
        Flexible(Threshold(FIVE, 2), Threshold(FIVE, 3))
    with pytest.raises(ValueError, match="share no node"):
        Flexible(Threshold(FIVE, 2), Majority(FIVE))


# --- Chandra, Griesemer and Redstone 2007, "Paxos made live" ---


def test_a_lease_serves_reads_without_messages() -> None:
    """§5.2: the master's state is up to date for as long as its lease holds."""
    node = leader(config=msgspec.structs.replace(CONFIG, lease_s=1.0))
    node.on(2, HeartbeatReply((1, 1), node.core._reads.rounds.number))
    assert node.read(7) == effects(outputs=[ReadReady((7,))])


def test_while_a_lease_holds_others_are_refused() -> None:
    """§5.2: no other can have a value chosen."""
    node = follower(2, config=msgspec.structs.replace(CONFIG, lease_s=1.0))
    node.now += 0.999
    assert node.on(3, Prepare((2, 3), 1)).records == ()


def test_a_snapshot_stands_for_the_log_before_it_and_says_whose_votes_count() -> None:
    """§5.5: the framework truncates the log; what Paxos needs of it is in the snapshot's handle."""
    node = Node(records=[Snapshotted(7, 1, 7, 1, (Membership(1, (1, 2)), Membership(9, THREE)))])
    assert node.core.acceptor.chosen_index == 7
    assert [node.core.members.at(slot).members for slot in (8, 9)] == [(1, 2), THREE]


# --- van Renesse and Altinbuken 2015, "Paxos made moderately complex" ---


def test_a_refused_leader_gives_up_its_ballot() -> None:
    """Its commander is preempted by a higher ballot."""
    node = leader()
    node.on(2, Nack((1, 1), (2, 3)))
    assert node.core.role == "follower"


def test_decisions_of_one_step_are_delivered_in_order_without_a_gap() -> None:
    """A replica performs decisions in the order of slots."""
    node = leader()
    node.submit("a")
    node.submit("b")
    answers = [Received(1, Accepted((1, 1), 2)), Received(2, Accepted((1, 1), 2)), Received(2, Accepted((1, 1), 1))]
    assert node.step(*answers).outputs == [Decided(1, entries(1, "ab"))]
