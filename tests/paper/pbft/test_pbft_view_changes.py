"""View changes, one test a rule: Castro and Liskov, OSDI 1999, §4.4 and §4.5."""

from collections.abc import Sequence

import msgspec
import pytest

from quorate.kernel import Blame, Timer, Turn
from quorate.parts.log.entries import COMMAND, Entry
from quorate.parts.log.replicated import Decided, Leads
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft.messages import (
    NEW_VIEW,
    Accepted,
    Changing,
    Entered,
    FetchBatch,
    NewView,
    Stable,
    ViewChange,
    digest_of,
    new_view_statement,
)
from quorate.protocols.pbft.view import STEADY

from tests.protocols.effects import to, written
from tests.protocols.pbft.pbft_nodes import (
    CONFIG,
    SCHEME,
    Node,
    X,
    Y,
    Z,
    checkpoint,
    commit,
    new_view,
    point,
    pre_prepare,
    prepare,
    prepared,
    proposal,
    request,
    stable,
    view_change,
)

OTHERS = (1, 3, 4)
NULL_BATCH: tuple[bytes, ...] = ()
XY = [(X,), (Y,)]


def changes_of(view: int, *certificates: Certificate, nodes: Sequence[int] = OTHERS) -> dict[int, ViewChange]:
    return {node: view_change(node, view, *certificates) for node in nodes}


# --- section 4.4: out of a view ---


def test_when_the_timer_runs_out_a_backup_leaves_the_view() -> None:
    """§4.4: it records that, and multicasts a view-change for v + 1."""
    node = Node()
    node.submit(X)
    turn = node.fire("request", CONFIG.request_timeout_s)
    assert turn == Turn(records=written(Changing(1)), sends=[to(OTHERS, view_change(2, 1))], outputs=[Leads(1, None)])


def test_a_backup_stops_its_timer_when_the_request_is_executed() -> None:
    """§4.4: "it stops the timer when it is no longer waiting to execute the request"."""
    node = Node()
    node.submit(X)
    node.order(1, X)
    assert node.fire("request", CONFIG.request_timeout_s) == Turn()


def test_the_timer_starts_again_if_another_request_waits() -> None:
    """§4.4: "but restarts it if at that point it is waiting to execute some other request"."""
    node = Node()
    node.submit(X, Y)
    node.now += 1.5
    node.order(1, X)
    node.fire("request", 0.5)
    assert not node.core.view.is_changing
    node.fire("request", 1.5)
    assert node.core.view.is_changing


def test_a_request_that_is_passed_over_costs_the_view_whatever_else_is_executed() -> None:
    """Deviation 5: what came a timeout after the oldest renews nobody's time, so a primary cannot starve one client."""
    node = Node()
    node.submit(X)
    for sequence, other in enumerate((Y, Z, request("w")), 1):
        node.now += 0.9
        node.submit(other)
        node.order(sequence, other)
    node.fire("request", 0.9)
    assert not node.core.view.is_changing, "Z came within a timeout, and was given one"
    node.fire("request", 0.2)
    assert node.core.view.is_changing


def test_an_idle_primary_is_not_suspected() -> None:
    node = Node()
    node.now += 1000
    for key in ("request", "view", "beat"):
        node.fire(key)
    assert not node.core.view.is_changing


def test_a_view_change_holds_the_stable_checkpoint_and_all_that_prepared_above_it() -> None:
    """§4.4: n, C and P; P_m with its pre-prepare and 2f prepares. What was only accepted is not in it."""
    node = Node()
    for sequence, batch in enumerate([*XY, (Z,)], 1):
        node.order(sequence, *batch)
    node.on(1, Stable(stable(*XY)))
    node.on(1, pre_prepare(4, X))
    node.submit(Y)
    turn = node.fire("request", 10)
    third = next(iter(node.core.log.prepared.values()))
    assert turn.sends == [to(OTHERS, view_change(2, 1, third, stable=stable(*XY)))]


def test_in_a_view_change_it_takes_only_checkpoints_view_changes_and_new_views() -> None:
    """§4.4: "it stops accepting messages (other than checkpoint, view-change, and new-view messages)"."""
    node = Node()
    node.on(1, pre_prepare(1, X))
    node.change(1)
    assert node.on(3, prepare(3, pre_prepare(1, X))) == Turn()
    assert node.on(1, pre_prepare(2, X)) == Turn()
    node.on(3, checkpoint(3, *point(*XY)))
    assert node.core.checkpoints.collectors[2]


def test_what_the_others_decide_is_decided_for_a_node_that_changes_views() -> None:
    """Deviation 7: it does not vote, and does not fall behind."""
    node = Node()
    node.on(1, pre_prepare(1, X))
    node.change(2)
    turns = [node.on(other, commit(other, pre_prepare(1, X))) for other in OTHERS]
    assert turns[-1] == Turn(outputs=[Decided(1, [Entry(0, X, COMMAND)])])


# --- section 4.4: view-changes ---


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (view_change(4, 1), "bears a signature that is wrong"),
        (view_change(3, 1, prepared(1, X, nodes=(1, 2))), "lists orders that are not proven"),
        (view_change(3, 1, prepared(1, X, nodes=(1, 2, 5))), "lists orders that are not proven"),
        (view_change(3, 1, prepared(1, X, view=1)), "lists orders that are out of place"),
        (view_change(3, 1, prepared(2, X), prepared(1, Y)), "lists orders that are out of place"),
        (view_change(3, 1, prepared(1, X), prepared(1, X)), "lists orders that are out of place"),
        (view_change(3, 1, prepared(5, X)), "lists orders that are out of place"),
        (view_change(3, 5, stable(*XY)), "lists orders that are not proven"),
        (view_change(3, 1, stable=stable(*XY, nodes=(3, 4))), "rests on a checkpoint that is not proven"),
        (view_change(3, 1, stable=prepared(2, Y)), "rests on a checkpoint that is not proven"),
    ],
)
def test_a_view_change_counts_only_with_its_proofs(change: ViewChange, why: str) -> None:
    """§4.4: "properly signed, contains ... valid" certificates. It takes no place of one that does."""
    node = Node()
    assert node.on(3, change) == Turn(blames=[Blame(3, f"sends a view-change that {why}")])
    good = view_change(3, 1, prepared(1, X))
    node.on(3, good)
    assert node.core.view.changes == {3: good}


def test_the_next_primary_makes_the_new_view_of_2f_plus_1_view_changes() -> None:
    """§4.4: its own among them. Record first; V, O, and its signature."""
    node = Node()
    assert node.on(3, view_change(3, 1, prepared(1, X))) == Turn()
    turn = node.on(4, view_change(4, 1))
    assert node.core.view.number == 1, "f + 1 want it: it joins, and that makes 2f + 1"
    own = view_change(2, 1)
    message = new_view({2: own, 3: view_change(3, 1, prepared(1, X)), 4: view_change(4, 1)}, (X,))
    proposed = proposal(1, 1, digest_of((X,)))
    assert turn.records == written(Changing(1), Entered(message), Accepted(1, 1, digest_of((X,)), proposed.signature))
    assert to(OTHERS, own) in turn.sends
    assert turn.sends[-1] == to(OTHERS, message)
    assert FetchBatch(digest_of((X,))) in [send.message for send in turn.sends], "it has not the batch itself"


def test_2f_view_changes_make_no_view() -> None:
    node = Node()
    node.submit(X)
    node.fire("request", 10)
    assert node.on(3, view_change(3, 1)).sends == ()
    assert node.core.view.is_changing


# --- section 4.4: the set O ---


def test_o_begins_after_the_latest_checkpoint_and_ends_at_the_highest_that_prepared() -> None:
    """§4.4, step 1: min-s and max-s."""
    node = Node()
    node.on(3, view_change(3, 1, prepared(1, Z), prepared(4, Z)))
    turn = node.on(4, view_change(4, 1, prepared(3, Y), stable=stable(*XY)))
    message = turn.sends[-1].message
    assert [(p.sequence, p.digest) for p in message.proposals] == [(3, digest_of((Y,))), (4, digest_of((Z,)))]
    assert node.core.log.next_sequence == 5


def test_of_several_that_prepared_at_a_number_the_highest_view_counts() -> None:
    """§4.4, step 2 (1). Whatever their order."""
    early, late = prepared(1, X), prepared(1, Y, view=1)
    for one, other in ((early, late), (late, early)):
        node = Node(3)
        node.on(1, view_change(1, 2, one))
        message = node.on(4, view_change(4, 2, other)).sends[-1].message
        assert [p.digest for p in message.proposals] == [digest_of((Y,))]


def test_a_gap_is_filled_by_the_null_request() -> None:
    """§4.4, step 2 (2): it goes through the protocol like any, "but its execution is a no-op"."""
    node = Node()
    node.on(3, prepare(3, pre_prepare(2, Y)))
    turn = node.enter(2, prepared(2, Y), batches=[NULL_BATCH, (Y,)])
    assert not turn.blames
    filled = pre_prepare(1, view=2)
    for other in OTHERS:
        turn = node.on(other, commit(other, filled))
    assert (node.core.history.executed, node.core.history.index, turn.outputs) == (1, 0, ())


# --- section 4.4: new views ---


def test_a_backup_enters_a_view_that_it_can_compute() -> None:
    """§4.4: it adds the pre-prepares to its log and multicasts a prepare for each."""
    node = Node()
    node.order(1, X)
    message = new_view(changes_of(2, prepared(1, X)), (X,))
    turn = node.on(3, message)
    proposed = pre_prepare(1, X, view=2)
    assert turn == Turn(
        records=written(Entered(message), Accepted(2, 1, digest_of((X,)), proposed.signature)),
        sends=[to(OTHERS, prepare(2, proposed))],
        outputs=[Leads(2, 3)],
    )


def test_what_was_executed_is_not_executed_again() -> None:
    """§4.4: "they ... re-do the protocol ... but avoid re-executing client requests"."""
    node = Node()
    node.order(1, X)
    node.enter(2, prepared(1, X), batches=[(X,)])
    turns = [node.order(1, X, view=2), *(node.on(n, commit(n, pre_prepare(1, X, view=2))) for n in OTHERS)]
    assert all(turn.outputs == () for turn in turns)
    assert node.core.history.index == 1


def _tampered(**fields: object) -> NewView:
    """A new view of its primary's own making, rightly signed."""
    good = new_view(changes_of(2, prepared(1, X)), (X,))
    m = msgspec.structs.replace(good, **fields)
    signature = SCHEME.signer(3).sign(NEW_VIEW, new_view_statement(m.view, m.changes, m.proposals))
    return msgspec.structs.replace(m, signature=signature)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (_tampered(proposals=()), "proposes what does not follow from its view-changes"),
        (new_view(changes_of(2, prepared(1, X)), (Y,)), "proposes what does not follow from its view-changes"),
        (new_view(changes_of(2), (X,)), "proposes what does not follow from its view-changes"),
        (new_view(changes_of(2, prepared(1, X)), (X,), (Y,)), "proposes what does not follow from its view-changes"),
        (new_view(changes_of(2, prepared(2, X)), (X,), first=2), "proposes what does not follow from its view-changes"),
        (new_view(changes_of(2, nodes=(1, 3))), "has no quorum of view-changes"),
        (_tampered(changes=((1, view_change(1, 2)),) * 3), "names nodes twice, or some that do not vote"),
        (new_view({**changes_of(2, nodes=(1, 3)), 4: view_change(4, 3)}), "rests on view-changes to another view"),
        (new_view({**changes_of(2, nodes=(1, 3)), 4: view_change(1, 2)}), "rests on a view-change that is not proven"),
        (_tampered(proposals=(proposal(2, 1, digest_of((X,)), 4),)), "proposes with a signature that is wrong"),
    ],
)
def test_a_new_view_counts_only_if_all_of_it_follows(message: NewView, why: str) -> None:
    """§4.4: backups verify V, and "perform a similar computation" of O. The primary signed it, so it is blamed."""
    node = Node()
    assert node.on(1, message) == Turn(blames=[Blame(3, f"makes a new view that {why}")])
    assert (node.core.view.number, node.core.view.new_view) == (0, None)


def test_whoever_passes_on_a_new_view_that_its_primary_did_not_sign_is_blamed() -> None:
    good = new_view(changes_of(2))
    forged = msgspec.structs.replace(good, signature=b"")
    assert Node().on(4, forged) == Turn(blames=[Blame(4, "sends a new view that its primary did not sign")])


def test_a_new_view_may_come_from_anybody_and_to_a_node_that_did_not_ask() -> None:
    node = Node()
    node.on(4, new_view(changes_of(2)))
    assert (node.core.view.number, node.core.view.is_changing) == (2, False)


def test_a_node_that_wants_a_later_view_takes_no_earlier_one() -> None:
    """§4.4: its view-change said what prepared; nothing may prepare there after it."""
    node = Node()
    node.change(3)
    assert node.on(3, new_view(changes_of(2))) == Turn()


def test_messages_of_a_view_that_came_before_it_are_heard_when_it_begins() -> None:
    node = Node()
    proposed = pre_prepare(1, X, view=2)
    for sender, message in ((3, proposed), (1, prepare(1, proposed)), (4, prepare(4, proposed))):
        assert node.on(sender, message) == Turn()
    turn = node.enter(2)
    assert [type(record.value).__name__ for record in turn.records] == ["Entered", "Stored", "Accepted", "Prepared"]


def test_requests_that_wait_are_proposed_by_the_new_primary() -> None:
    """And those that the new view took over already are not."""
    node = Node()
    node.submit(X, Y)
    node.on(1, pre_prepare(1, X))
    node.on(3, view_change(3, 1, prepared(1, X)))
    turn = node.on(4, view_change(4, 1))
    assert turn.sends[-1] == to(OTHERS, pre_prepare(2, Y, view=1))
    assert node.core.log.accepted[1].digest == digest_of((X,))


# --- section 4.5.2: liveness ---


def view_timer(node: Node, delay_s: float) -> Timer:
    return Timer((), "view", node.now + delay_s)


def test_the_timer_of_a_new_view_starts_at_2f_plus_1_view_changes() -> None:
    """§4.5.2: "a replica that multicasts a view-change message for view v + 1 waits for 2f + 1 ... and then starts its
    timer to expire after some time T". A node alone waits for ever, and for nothing."""
    node = Node()
    node.submit(X)
    node.fire("request", 10)
    assert node.fire("view", 100) == Turn()
    node = Node()
    node.on(1, view_change(1, 2))
    turn = node.on(3, view_change(3, 2))
    assert view_timer(node, 2 * CONFIG.request_timeout_s) in turn.timers


def test_each_view_gets_twice_the_time_of_the_one_before() -> None:
    """§4.5.2: "it will wait 2T"; up to a limit."""
    node = Node(config=msgspec.structs.replace(CONFIG, view_timeout_s_max=10.0))
    waits = []
    for view in (2, 3, 4, 6):
        for other in (1, 3):
            turn = node.on(other, view_change(other, view))
        waits.append(node.core.view.timeout_s)
    assert waits == [4.0, 8.0, 10.0, 10.0]
    assert turn.sends


def test_a_view_that_does_not_begin_in_time_is_left_for_the_next() -> None:
    node = Node()
    node.change(2)
    turn = node.fire("view", 4.0)
    assert turn.records == written(Changing(3))


def test_a_view_that_got_something_done_resets_the_time() -> None:
    """Not with what it does soon after its beginning (deviation 11)."""
    node = Node()
    node.enter(2)
    assert node.core.view.timeout_s == CONFIG.request_timeout_s
    node.change(3)
    assert node.core.view.timeout_s == 2 * CONFIG.request_timeout_s
    node.enter(4)
    node.order(1, X, view=4)
    node.now += STEADY * 2 * CONFIG.request_timeout_s
    node.order(2, Y, view=4)
    node.change(5)
    assert node.core.view.timeout_s == CONFIG.request_timeout_s


def test_f_plus_1_view_changes_for_later_views_make_a_node_join_the_smallest() -> None:
    """§4.5.2: "even if its timer has not expired"."""
    node = Node()
    assert node.on(1, view_change(1, 6)) == Turn()
    turn = node.on(3, view_change(3, 3))
    assert turn.records == written(Changing(3))
    assert turn.sends == [to(OTHERS, view_change(2, 3))]


def test_f_liars_cannot_force_a_view_change() -> None:
    """§4.5.2: "faulty replicas are unable to impede progress by forcing frequent view changes"."""
    node = Node()
    for view in (1, 2, 3, 1 << 60):
        node.on(4, view_change(4, view))
    assert (node.core.view.number, node.core.view.is_changing) == (0, False)
