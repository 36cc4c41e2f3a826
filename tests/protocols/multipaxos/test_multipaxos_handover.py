"""A leader that is about to stop has another node lead, and reads by its lease no more: one step at a time."""

import msgspec

from quorate.kernel import HandOver, Stalled
from quorate.parts.leaderlog.handover import HANDING_OVER
from quorate.parts.log.replicated import Dropped, ReadReady
from quorate.protocols.multipaxos.messages import (
    Accepted,
    Heartbeat,
    HeartbeatReply,
    Poll,
    PollReply,
    Prepare,
    PrepareWithLeave,
    Promised,
    TakeOver,
)

from tests.protocols.multipaxos.multipaxos_nodes import CONFIG, Node, follower, leader, messages, records
from tests.protocols.raft.raft_nodes import NOTHING

LEASED = msgspec.structs.replace(CONFIG, lease_s=1.0, clock_drift=0.1)


def leased() -> Node:
    """A leader with a lease that began just now, and of which all know that it leads."""
    node = leader(config=LEASED)
    number = node.core._reads.rounds.number
    for peer in (2, 3):
        node.on(peer, Accepted((1, 1), 0), HeartbeatReply((1, 1), number))
    assert node.read(6).outputs == [ReadReady((6,))]
    return node


def asked(turn: object) -> list[object]:
    return [m for m in messages(turn) if isinstance(m, TakeOver)]  # type: ignore[arg-type]


def test_a_leader_gives_up_its_lease_before_it_asks_another_to_lead() -> None:
    node = leased()
    assert asked(node.step(HandOver())) == [TakeOver((1, 1))]
    turn = node.read(7)
    assert turn.outputs == ()
    number = max(m.round for m in messages(turn) if isinstance(m, Heartbeat))
    assert node.on(2, HeartbeatReply((1, 1), number)).outputs == [ReadReady((7,))], "a quorum confirms reads as ever"


def test_a_leader_whose_disk_takes_nothing_asks_another_and_leads_no_longer() -> None:
    node = leased()
    turn = node.step(Stalled("disk full"))
    assert asked(turn) == [TakeOver((1, 1))]
    assert (node.core.role, records(turn)) == ("follower", [])
    assert not [out for out in node.read(7).outputs if isinstance(out, ReadReady)], "by no lease"


def test_it_has_no_lease_any_more_though_nothing_came_of_it() -> None:
    node = leased()
    node.step(HandOver())
    for _ in range(12):
        node.beat()
        for peer in (2, 3):
            node.on(peer, HeartbeatReply((1, 1), node.core._reads.rounds.number))
    assert not node.core.handover.is_under_way
    assert node.read(8).outputs == (), "a Prepare with leave may still be on its way"


def test_it_keeps_values_and_drops_them_when_another_leads() -> None:
    node = leased()
    node.step(HandOver())
    assert node.submit(b"kept") == NOTHING
    assert records(node.on(3, PrepareWithLeave((2, 3), 1, (1, 1)))) == [Promised((2, 3), 0)]
    assert node.core.role == "follower"
    assert Dropped((b"kept",), HANDING_OVER) in list(node.on(3, Heartbeat((2, 3), 0, 0)).outputs)


def test_a_leader_that_has_its_lease_is_not_deposed_by_a_leave_of_its_ballot() -> None:
    node = leased()
    assert node.on(3, PrepareWithLeave((2, 3), 1, (1, 1))) == NOTHING


def test_whoever_is_asked_begins_phase_1_at_once() -> None:
    node = follower(2, config=LEASED)
    node.now += 1.0
    node.on(2, Heartbeat((1, 2), 0, 0))
    turn = node.on(2, TakeOver((1, 2)))
    assert records(turn) == [Promised((2, 1), 0)]
    assert messages(turn) == [PrepareWithLeave((2, 1), 1, (1, 2))]
    assert messages(node.beat())[0] == PrepareWithLeave((2, 1), 1, (1, 2)), "and again where it was lost"


def test_a_node_whose_disk_takes_nothing_does_not() -> None:
    node = follower(2)
    node.stall("disk full")
    assert node.on(2, TakeOver((1, 2))) == NOTHING


def test_an_acceptor_lets_only_the_leader_that_it_heard_go() -> None:
    def heard() -> Node:
        node = follower(2, ballot=(3, 2), config=LEASED)
        node.now += 1.0
        node.on(2, Heartbeat((3, 2), 0, 0))
        return node

    node = heard()
    assert node.on(3, Prepare((4, 3), 1)) == NOTHING
    assert node.on(3, PrepareWithLeave((4, 3), 1, (1, 1))) == NOTHING, "of an earlier leader, who gave up its own lease"
    assert node.on(3, PrepareWithLeave((4, 3), 1, (0, 0))) == NOTHING, "of nobody"
    assert messages(node.on(3, Poll(1, 0))) == [PollReply(1, False, (3, 2))]
    assert records(node.on(3, PrepareWithLeave((4, 3), 1, (3, 2)))) == [Promised((4, 3), 0)]


def test_after_a_restart_no_leave_counts_for_as_long_as_a_lease_may_hold() -> None:
    """An earlier life may have confirmed the lease of a later leader, which it did not record."""
    node = follower(2, config=LEASED)
    assert node.on(3, PrepareWithLeave((2, 3), 1, (1, 2))) == NOTHING
    node.now += 0.999
    node.on(2, Heartbeat((1, 2), 0, 0))
    assert node.on(3, PrepareWithLeave((2, 3), 1, (1, 2))) == NOTHING
    node.now += 0.001
    assert records(node.on(3, PrepareWithLeave((2, 3), 1, (1, 2)))) == [Promised((2, 3), 0)]


def test_without_leases_there_is_nothing_to_wait_for() -> None:
    node = follower(2)
    assert records(node.on(3, PrepareWithLeave((2, 3), 1, (1, 2)))) == [Promised((2, 3), 0)]


def test_the_one_that_is_named_is_asked() -> None:
    node = leased()
    turn = node.step(HandOver(to=2))
    assert [send.to for send in (*turn.sends, *turn.early) if isinstance(send.message, TakeOver)] == [(2,)]
    assert node.core.is_handing_over


def test_why_a_transfer_would_be_in_vain() -> None:
    core = leased().core
    assert core.why_not_hand_over(2) is None
    assert core.why_not_hand_over(7) == "node 7 does not vote: choose one of 1, 2, 3"
    assert follower(2).core.why_not_hand_over() == "this node does not lead"
