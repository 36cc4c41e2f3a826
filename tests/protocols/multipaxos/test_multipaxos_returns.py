"""A node that lost its memory, one handler at a time: what it must not do, when it returns, which promises lapse."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.parts.leaderlog.returns import Return, Returned, return_entry
from quorate.parts.log.replicated import Chunk, Written
from quorate.parts.quorum.choice import SizesChoice
from quorate.protocols.multipaxos.messages import (
    Accept,
    Accepted,
    AcceptedAs,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshotAfter,
    Membership,
    MultiPaxosConfig,
    Poll,
    PollReply,
    Prepare,
    Promise,
    PromiseAs,
    Run,
    TakeOver,
)

from tests.protocols.multipaxos.multipaxos_nodes import CONFIG, Node, entries, leader, messages, preparing, records
from tests.protocols.stepped import FIVE

ANEW, OTHER = b"incarnation 2 ..", b"incarnation 3 .."


def forgetful(**given: Any) -> Node:
    """Node 3 of three has lost its memory."""
    return Node(3, incarnation=ANEW, **given)


def returned() -> Node:
    """It has returned in slot 2, in ballot (4, 2)."""
    node = forgetful()
    node.on(2, Accept((4, 2), 1, [*entries(4, "a"), return_entry(4, 3, ANEW)], 2))
    assert node.core.standing().role == "follower"
    return node


# --- what it must not do ---


def test_it_promises_nothing_does_not_stand_and_confirms_no_reads() -> None:
    node = forgetful()
    assert node.core.standing().role == "learner"
    assert messages(node.on(1, Poll(1, 0))) == [PollReply(1, False, (0, 0))]
    assert messages(node.on(1, Prepare((1, 1), 1))) == []
    assert messages(node.time_out()) == []
    assert messages(node.time_out()) == [], "nor when it waited"
    assert messages(node.on(2, Heartbeat((1, 2), 0, 4))) == [AcceptedAs((1, 2), 0, ANEW, False)]
    assert messages(node.on(2, TakeOver((1, 2)))) == []


def test_what_it_accepts_does_not_count() -> None:
    turn = forgetful().on(2, Accept((1, 2), 1, entries(1, "a"), 0))
    assert messages(turn) == [AcceptedAs((1, 2), 1, ANEW, False)]


# --- when it returns ---


def test_it_returns_when_that_is_chosen() -> None:
    node = forgetful()
    node.on(2, Accept((4, 2), 1, [*entries(4, "a"), return_entry(4, 3, ANEW)], 1))
    assert node.core.standing().role == "learner", "it is accepted, and not chosen"
    turn = node.on(2, Heartbeat((4, 2), 2, 7))
    assert Returned(ANEW) in records(turn)
    assert messages(turn) == [HeartbeatReply((4, 2), 7)]
    assert messages(node.on(2, Accept((4, 2), 3, entries(4, "b"), 2))) == [AcceptedAs((4, 2), 3, ANEW, True)]
    again = Node(3, incarnation=ANEW, records=node.records)
    assert again.core.standing().role == "follower"


def test_it_answers_phase_1_by_its_new_name() -> None:
    node = returned()
    node.now += 2 * CONFIG.election_timeout_s_min
    (promise,) = messages(node.on(1, Prepare((5, 1), 2)))
    assert promise == PromiseAs((5, 1), 2, [Run((4, 2), 2, [return_entry(4, 3, ANEW)])], 0, ANEW)


@pytest.mark.parametrize("returns", [(Return(3, ANEW, 7),), (Return(3, OTHER, 7),)])
def test_it_returns_by_a_snapshot_that_says_so(returns: tuple[Return, ...]) -> None:
    node = forgetful()
    node.on(2, Heartbeat((4, 2), 9, 0))
    part = InstallSnapshotAfter((4, 2), Chunk(9, 4, 0, b"state", 5), (Membership(1, (1, 2, 3)),), _nobody(), returns)
    node.on(2, part)
    turn = node.done("install", Written(9, 4, 5, True))
    assert (Returned(ANEW) in records(turn)) == (returns[0].incarnation == ANEW)
    again = Node(3, incarnation=OTHER, records=[r for r in node.records if r != Returned(ANEW)])
    assert again.core._snapshots.returns.until(9) == returns, "it is durable with the snapshot"


def _nobody() -> Any:
    from quorate.parts.log.configuration import FOUNDERS_ALONE

    return FOUNDERS_ALONE


# --- what a leader makes of it ---


def test_a_return_is_proposed_and_not_chosen_by_who_returns() -> None:
    node = leader()
    ballot = node.core.ballot
    turn = node.on(3, AcceptedAs(ballot, 0, ANEW, False))
    assert Accept(ballot, 1, [return_entry(ballot[0], 3, ANEW)], 0) in messages(turn)
    node.on(3, AcceptedAs(ballot, 1, ANEW, False))
    node.on(3, Accepted(ballot, 1))
    node.on(1, Accepted(ballot, 1))
    assert node.core.acceptor.chosen_index == 0
    node.on(2, Accepted(ballot, 1))
    assert node.core.acceptor.chosen_index == 1
    node.submit("b")
    node.on(1, Accepted(ballot, 2))
    node.on(3, AcceptedAs(ballot, 2, ANEW, True))
    assert node.core.acceptor.chosen_index == 2, "from now on it counts"
    assert not records(node.on(3, AcceptedAs(ballot, 2, ANEW, True))), "and is not proposed again"


# --- promises that lapse ---


def among_five() -> Node:
    """Node 1 of five asks for promises, and has its own."""
    node = preparing(peers=FIVE)
    turn = node.on(1, Prepare(node.core.ballot, 1))
    node.on(1, *[send.message for send in turn.sends])
    return node


def test_a_promise_lapses_when_another_tells_that_its_node_has_returned() -> None:
    node = among_five()
    ballot = node.core.ballot
    node.on(5, Promise(ballot, 1, [], 0))
    node.on(2, Promise(ballot, 1, [Run((1, 0), 1, [return_entry(1, 5, ANEW)])], 0))
    assert node.core.role == "preparing", "node 5 does not know of its promise, and accepts in lower ballots"
    asked = node.beat()
    assert {send.to for send in asked.sends if isinstance(send.message, Prepare)} == {(3,), (4,), (5,)}
    node.on(5, PromiseAs(ballot, 1, [], 0, ANEW))
    assert node.core.role == "leader"


def test_what_a_returned_node_helped_to_choose_outlives_the_promise_that_it_forgot() -> None:
    """ADR 0030: node 4 asks for a ballot, 5 promises and forgets, returns in a lower one, and accepts there."""
    leads, two, three, five = leader(peers=FIVE), Node(2, FIVE), Node(3, FIVE), Node(5, FIVE)
    low, asks = leads.core.ballot, preparing(node=4, peers=FIVE)
    high = asks.core.ballot
    assert high > low
    asks.on(4, *messages(asks.on(4, Prepare(high, 1))))
    asks.on(5, *messages(five.on(4, Prepare(high, 1))))

    five = Node(5, FIVE, incarnation=ANEW)
    (accept,) = messages(leads.on(5, *messages(five.on(1, Heartbeat(low, 0, 1)))))[:1]
    assert accept.entries == [return_entry(low[0], 5, ANEW)]
    leads.on(1, Accepted(low, 1))
    for number, node in ((5, five), (2, two), (3, three)):
        leads.on(number, *messages(node.on(1, accept)))
    assert leads.core.acceptor.chosen_index == 1, "it returns, by nodes 1, 2 and 3"
    (value,) = [m for m in messages(leads.submit("e")) if isinstance(m, Accept)]
    leads.on(1, Accepted(low, 2))
    for number, node in ((3, three), (5, five)):
        leads.on(number, *messages(node.on(1, value)))
    assert leads.core.acceptor.chosen_index == 2, "a value is chosen, by nodes 1, 3 and 5"

    for node in (two, five):
        node.now += 2 * CONFIG.election_timeout_s_min
    asks.on(2, *messages(two.on(4, Prepare(high, 1))))
    assert asks.core.role == "preparing", "nodes 4, 2 and the former 5 do not know of the value"
    asks.on(5, *messages(five.on(4, Prepare(high, 1))))
    assert asks.core.role == "leader"
    assert asks.log == [return_entry(low[0], 5, ANEW), *value.entries]


def test_of_two_returns_the_later_counts() -> None:
    node = among_five()
    ballot = node.core.ballot
    node.on(5, PromiseAs(ballot, 1, [], 0, ANEW))
    run = Run((1, 0), 1, [return_entry(1, 5, ANEW), return_entry(1, 5, OTHER)])
    node.on(2, Promise(ballot, 1, [run], 0))
    assert node.core.role == "preparing"
    node.on(5, PromiseAs(ballot, 1, [], 0, OTHER))
    assert node.core.role == "leader"


def test_the_parts_of_a_promise_are_of_one_life() -> None:
    node = among_five()
    ballot = node.core.ballot
    node.on(2, Promise(ballot, 1, [Run((1, 0), 1, [return_entry(1, 5, ANEW)])], 0))
    node.on(5, Promise(ballot, 1, [Run((1, 0), 1, entries(1, "a"))], 2))
    node.on(5, PromiseAs(ballot, 2, [], 0, ANEW))
    assert node.core.role == "preparing", "what it accepted in slot 1 it has not said"
    node.on(5, PromiseAs(ballot, 1, [], 0, ANEW))
    assert node.core.role == "leader"


# --- quorums ---


@pytest.mark.parametrize(
    ("peers", "quorum", "words"),
    [
        ((1, 2, 3), None, ""),
        ((1, 2), None, "no quorum for the first phase"),
        (FIVE, SizesChoice(4, 2), ""),
        (FIVE, SizesChoice(5, 1), "no quorum for the first phase"),
        (FIVE, SizesChoice(1, 5), "no quorum for the second phase"),
    ],
)
def test_who_cannot_be_spared_cannot_be_repaired(peers: tuple[int, ...], quorum: Any, words: str) -> None:
    config = CONFIG if quorum is None else MultiPaxosConfig(quorum=quorum)
    why = Node(1, peers, config=config).core.unrepairable()
    assert words in why if words else why == ""
