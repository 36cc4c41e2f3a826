"""A node outside its water marks votes for what a new view goes on with, and for nothing else: others may need its vote
before it can catch up. What it said there it shows later, with the checkpoint on which it rests."""

import pytest

from quorate.kernel import Turn
from quorate.protocols.pbft.group import Group
from quorate.protocols.pbft.messages import (
    Accepted,
    Checkpoint,
    Commit,
    Entered,
    Footing,
    Image,
    NewView,
    Offer,
    Prepare,
    Prepared,
    Stable,
    Status,
    ViewChange,
    digest_of,
)

from tests.protocols.effects import to, written
from tests.protocols.pbft.pbft_nodes import (
    CONFIG,
    FOUR,
    SCHEME,
    X,
    Y,
    Z,
    new_view,
    pre_prepare,
    prepare,
    prepared,
    request,
    stable,
    view_change,
)
from tests.protocols.pbft.test_recovery import Life

EIGHT = tuple((request(f"{number}"),) for number in range(8))
CHECKPOINT = stable(*EIGHT)
OTHERS = (1, 3, 4)


def view(number: int = 2, *batches: tuple[bytes, ...], behind: int = 0) -> NewView:
    """From view-changes of nodes that have the checkpoint at 8, and prepared these batches after it."""
    orders = [prepared(at, *batch) for at, batch in enumerate(batches, 9)]
    changes = {node: view_change(node, number, *orders, stable=CHECKPOINT) for node in OTHERS}
    return new_view(changes, *batches, first=9)


def votes(turn: Turn) -> list[int]:
    """The numbers of prepares and commits in it."""
    return [send.message.sequence for send in turn.sends if isinstance(send.message, Prepare | Commit)]


def test_a_node_that_is_behind_votes_for_what_the_view_goes_on_with() -> None:
    node, message = Life(), view(2, (X,), (Y,))
    assert (node.core.history.executed, node.core.history.high) == (0, 4)
    turn = node.on(3, message)
    orders = [pre_prepare(9, X, view=2), pre_prepare(10, Y, view=2)]
    accepted = [Accepted(2, order.sequence, order.digest, order.signature) for order in orders]
    assert turn.records == written(Entered(message), Footing(CHECKPOINT), *accepted)
    assert [send for send in turn.sends if isinstance(send.message, Prepare)] == [
        to(OTHERS, prepare(2, order)) for order in orders
    ]
    turn = node.on(4, prepare(4, orders[0]))
    assert [type(record.value) for record in turn.records] == [Prepared]
    assert votes(turn) == [9]
    assert isinstance(turn.sends[0].message, Commit)


def test_as_primary_it_counts_for_what_it_proposes() -> None:
    node = Life(3)
    for other in (1, 2):
        turn = node.on(other, view_change(other, 2, prepared(9, X), stable=CHECKPOINT))
    assert node.core.view.is_primary
    assert NewView in [type(send.message) for send in turn.sends]
    order = pre_prepare(9, X, view=2)
    node.on(1, prepare(1, order))
    assert votes(node.on(4, prepare(4, order))) == [9]


def test_it_votes_for_nothing_that_the_view_does_not_go_on_with() -> None:
    node = Life()
    node.on(3, view(2, (X,)))
    for sequence in (5, 8, 10):
        order = pre_prepare(sequence, Y, view=2)
        turn = node.on(3, order)
        assert votes(turn) == []
        node.on(1, prepare(1, order))
        assert votes(node.on(4, prepare(4, order))) == []
    assert sorted(node.core.log.accepted) == [9]


@pytest.mark.parametrize("why", ["others vote there", "it has no checkpoint of its members"])
def test_it_does_not_vote_there_if(why: str) -> None:
    node = Life()
    if why == "others vote there":
        node.core.history.change_members((1, 2, 3), 6)
    else:
        node.core.history.began_at = 2
    node.on(3, view(2, (X,)))
    assert node.core.log.accepted == {}


def test_it_shows_what_it_said_there_in_this_life_and_in_the_next() -> None:
    node = Life()
    node.on(3, view(2, (X,)))
    node.on(4, prepare(4, pre_prepare(9, X, view=2)))
    (proof,) = node.core.log.prepared.values()
    change = view_change(2, 3, proof, stable=CHECKPOINT)
    for life in (node, node.again()):
        node.now += 1
        turns = [life.on(other, view_change(other, 3, stable=CHECKPOINT)) for other in (1, 3)]
        assert to(OTHERS, change) in turns[-1].sends
        assert Group(FOUR, SCHEME.keys(1)).why_odd(change, CONFIG.window) is None


def test_a_planted_bug_shows_it_without_what_it_rests_on_and_that_is_odd() -> None:
    """Were the footing not durable, an honest node would be blamed after a restart."""
    node = Life()
    node.on(3, view(2, (X,)))
    node.on(4, prepare(4, pre_prepare(9, X, view=2)))
    node.wrote = [record for record in node.wrote if not isinstance(record, Footing)]
    life = Life(records=node.wrote)
    sends = [send.message for other in (1, 3) for send in life.on(other, view_change(other, 3)).sends]
    (change,) = [message for message in sends if isinstance(message, ViewChange)]
    assert Group(FOUR, SCHEME.keys(1)).why_odd(change, CONFIG.window) == "lists orders that are out of place"


def test_a_later_checkpoint_takes_the_place_of_what_was_said_before_it() -> None:
    node = Life()
    node.on(3, view(2, (X,), (Y,), (Z,)))
    assert sorted(node.core.log.accepted) == [9, 10, 11]
    later = stable(*EIGHT, (X,), (Y,))
    changes = {other: view_change(other, 3, prepared(11, Z), stable=later) for other in OTHERS}
    node.on(4, new_view(changes, (Z,), first=11))
    for life in (node, node.again()):
        assert life.core.history.footing == later
        assert sorted(life.core.log.accepted) == [11]


def test_an_earlier_one_does_not() -> None:
    node = Life()
    node.on(3, view(2, (X,), (Y,)))
    earlier = stable(*EIGHT[:6])
    batches = (*EIGHT[6:], (X,), (Y,))
    changes = {
        other: view_change(other, 3, *[prepared(at, *batch) for at, batch in enumerate(batches, 7)], stable=earlier)
        for other in OTHERS
    }
    turn = node.on(4, new_view(changes, *batches, first=7))
    assert node.core.history.footing == CHECKPOINT
    assert votes(turn) == [9, 10], "below it all is settled"


def test_what_is_reached_needs_it_no_more() -> None:
    node = Life()
    node.on(3, view(2, (X,)))
    for sequence, batch in enumerate(EIGHT, 1):
        node.core.log.keep_batch(digest_of(batch), batch)
        node.core.log.proven[sequence] = digest_of(batch)
    for _ in range(4):
        node.on(1, Stable(CHECKPOINT))
        node.fire("execute")
    assert node.core.history.low == 8
    for life in (node, node.again()):
        assert life.core.history.footing is None
        assert sorted(life.core.log.accepted) == [9]


def test_what_members_made_who_had_no_vote_there_is_forgotten() -> None:
    """A liar's view-change had it: those who made it voted there as members of a later epoch."""
    node = Life()
    node.on(3, view(2))
    assert node.core.history.footing == CHECKPOINT
    node.core.members._will_change((1, 2, 3), 6)
    assert node.core.history.footing is None


def test_other_members_know_only_what_they_can_check() -> None:
    node = Life()
    node.on(3, view(2))
    image = Image(10, 10, bytes(32), 9, bytes(32), (2, 11, 12, 13), 1, (), 0, 10, FOUR)
    node.core.members.take_over(image, node.core.history.nodes)
    assert node.core.history.footing is None


def test_who_votes_since_a_snapshot_says_nothing_of_what_came_before() -> None:
    """To those who are behind it has no vote there, and would be blamed."""
    node = Life(5, peers=(*FOUR, 5))
    node.core.history.executed, node.core.history.digests = 8, {sequence: bytes(32) for sequence in range(1, 9)}
    node.core.log.prepared = {7: prepared(7, X), 9: prepared(9, Y, nodes=(2, 3, 5))}
    node.core.members.begin_epoch(Group((2, 3, 4, 5), node.core.view.keys, 1, 8, FOUR))
    assert sorted(node.core.log.prepared) == [9]
    sends = node.on(1, Status(0, False, 4, 4)).sends
    assert [type(send.message) for send in sends] == [Offer, Commit]
    assert sends[1].message.sequence == 9
    node.core.checkpoints.points[8] = (8, bytes(32))
    node.now += 1
    node.core.checkpoints.resend(1, 4)
    assert not [send for send in node.step().sends if isinstance(send.message, Checkpoint)]
