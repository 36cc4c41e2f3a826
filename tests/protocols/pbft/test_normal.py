"""Handlers of the normal case: what is odd about a message is met, whatever came before it."""

from quorate.kernel import Asked, Blame, Done, Failed, Received, Stalled, Submitted
from quorate.parts.crypto.keys import VerifyBatch
from quorate.parts.log.entries import COMMAND, Entry
from quorate.parts.log.replicated import Decided, Dropped, ReadReady
from quorate.protocols.pbft.messages import Prepare, Prepared

from tests.protocols.pbft.pbft_nodes import CONFIG, Node, X, Y, commit, pre_prepare, prepare, prepared


def test_a_vote_for_nothing_before_the_proposal_costs_no_round() -> None:
    """A liar names another batch, with a signature that is not the primary's, before the proposal is here."""
    node = Node()
    good = pre_prepare(1, X)
    lie = pre_prepare(1, Y, primary=3)
    turn = node.on(3, prepare(3, lie))
    assert turn.blames == [Blame(3, "prepares what the primary did not propose")]
    node.on(4, prepare(4, good))
    turn = node.on(1, good)
    assert turn.blames == ()
    assert [type(record.value) for record in turn.records][-1] is Prepared, "1, 2 and 4 are a quorum"


def test_of_two_votes_that_differ_the_one_that_proves_is_found() -> None:
    """A liar's comes first in the order of digests or not: the other shows that the primary told two stories."""
    for nonsense in (b"\0" * 32, b"\xff" * 32):
        node = Node()
        good, other = pre_prepare(1, X), pre_prepare(1, Y)
        node.on(3, Prepare(0, 1, nonsense, b"", b""))
        node.on(4, prepare(4, other))
        turn = node.on(1, good)
        assert Blame(1, "proposes two batches at one number") in turn.blames
        assert (node.core.view.number, node.core.view.is_changing) == (1, True)


def test_a_proposal_whose_check_failed_is_taken_when_it_comes_again() -> None:
    """The job that checks signatures can fail (a thread that cannot start): that says nothing about the batch."""
    node = Node()
    proposed = pre_prepare(1, X)
    job = node.host.step([Received(1, proposed)], node.now).jobs[0]
    node.step(Done(job.key, Failed("no thread"), ()))
    turn = node.on(1, proposed)
    assert node.core.log.slots[1].digest == proposed.digest
    assert any(type(send.message) is Prepare for send in turn.sends)


def test_a_proposal_that_was_checked_while_the_disk_was_full_is_taken_when_it_comes_again() -> None:
    node = Node()
    proposed = pre_prepare(1, X)
    job = node.host.step([Received(1, proposed)], node.now).jobs[0]
    node.step(Stalled("full"))
    assert node.step(node._check(job)).sends == ()
    node.step(Stalled(None))
    node.on(1, proposed)
    assert node.core.log.slots[1].digest == proposed.digest


def test_the_request_timer_runs_again_after_a_full_disk() -> None:
    """It may have run out meanwhile, when nothing could be done about it."""
    node = Node()
    node.submit(X)
    node.step(Stalled("full"))
    node.fire("request", CONFIG.request_timeout_s)
    assert not node.core.view.is_changing
    node.step(Stalled(None))
    node.fire("request", CONFIG.request_timeout_s)
    assert node.core.view.is_changing


def test_a_submitted_request_whose_check_failed_is_refused() -> None:
    node = Node()
    job = node.host.step([Submitted((X,))], node.now).jobs[0]
    assert isinstance(job.work, VerifyBatch)
    turn = node.step(Done(job.key, Failed("no thread"), ()))
    assert turn.outputs == [Dropped((X,), "its signature could not be checked")]


def test_a_read_does_not_wait_for_what_the_new_view_left_out() -> None:
    """What prepared here alone, and no view-change of the new view has, was committed nowhere."""
    node = Node()
    node.on(1, pre_prepare(1, X))
    node.on(3, prepare(3, pre_prepare(1, X)))
    node.on(4, prepare(4, pre_prepare(1, X)))
    assert 1 in node.core.log.prepared
    node.step(Asked((1,)))
    node.enter(2)
    turn = node.step(Asked((2,)))
    assert turn.outputs == [ReadReady((2,))]


def test_a_read_waits_for_what_the_new_view_took_over() -> None:
    """It had prepared here: a client may have an answer to it."""
    node = Node()
    first, again = pre_prepare(1, X), pre_prepare(1, X, view=2)
    node.on(1, first)
    node.on(3, prepare(3, first))
    node.enter(2, prepared(1, X), batches=[(X,)])
    assert node.step(Asked((2,))).outputs == ()
    node.on(1, prepare(1, again))
    node.on(3, commit(3, again))
    assert node.on(4, commit(4, again)).outputs == [
        Decided(1, [Entry(0, X, COMMAND)]),
        ReadReady((2,)),
    ]
