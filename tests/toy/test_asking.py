"""Asking, a step at a time: what it asks its App, when it votes, and which answers it does not take."""

from typing import Any

import pytest

from quorate.kernel import ROOT, Done, Failed, Fired, Host, Job, Received, Send
from quorate.sim.chance import streams

from tests.kernel.machine import OneNode
from tests.toy.asking import NEVER, Asking, Build, Chosen, Entered, Join, Judge, Proposal, Run, Vote, Voted, Yes
from tests.toy.sick import IgnoresFailed, TakesStale

PEERS = (0, 1, 2)
ME = 2
"""The proposer of height 1, round 1."""


def voted(host: Host) -> Yes:
    assert isinstance(host.root, Asking)
    return host.root.voted


def started(core: type[Asking] = Asking, node: int = ME) -> Host:
    host = Host(core, node, PEERS, streams(0))
    host.start(0.0)
    return host


def joined(host: Host, *joins: Join) -> Any:
    """The Turn of a majority of joins, our own among them."""
    own = host.root
    assert isinstance(own, Asking)
    return host.step(
        [Received(host.node, Join(own.height, own.round, own.voted)), *[Received(1, join) for join in joins]], 1.0
    )


def judging(value: bytes = b"v") -> Host:
    """A node that has just asked whether this is good, of height 1 and round 1."""
    host = started(node=0)
    turn = host.step([Received(ME, Proposal(1, 1, value))], 1.0)
    assert turn.jobs == [Job(ROOT, ("ask", 1), Judge(1, value))]
    assert not turn.records
    assert not turn.sends
    return host


def test_the_proposer_asks_for_a_value_when_a_majority_has_joined_and_proposes_it() -> None:
    host = started()
    assert host.step([Received(ME, Join(1, 1, NEVER))], 1.0).jobs == ()
    turn = host.step([Received(1, Join(1, 1, NEVER))], 1.0)
    assert turn.jobs == [Job(ROOT, ("ask", 1), Build(1))]
    turn = host.step([Done(("ask", 1), b"v")], 2.0)
    assert turn.sends == [Send(PEERS, ROOT, Proposal(1, 1, b"v"))]
    assert not turn.records


def test_the_latest_yes_of_a_majority_is_proposed_again_and_the_app_is_not_asked() -> None:
    host = started()
    host.step([Fired("round")] * 3, 1.0)  # round 4
    turn = joined(host, Join(1, 4, (3, b"accepted")))
    assert turn.jobs == ()
    assert turn.sends == [Send(PEERS, ROOT, Proposal(1, 4, b"accepted"))]


def test_a_failed_build_is_no_proposal_and_the_round_ends_by_its_timer() -> None:
    host = started()
    joined(host, Join(1, 1, NEVER))
    turn = host.step([Done(("ask", 1), Failed("nobody does this"))], 2.0)
    assert not turn.sends
    assert not turn.records
    turn = host.step([Fired("round")], 3.0)
    assert turn.sends == [Send(PEERS, ROOT, Join(1, 2, NEVER))]


@pytest.mark.parametrize(("answer", "yes"), [(True, True), (False, False), (Failed("no"), False), (None, False)])
def test_a_vote_says_what_the_app_said_and_is_a_record(answer: Any, yes: bool) -> None:
    host = judging()
    turn = host.step([Done(("ask", 1), answer)], 2.0)
    assert [record.value for record in turn.records] == [Voted(1, b"v", yes)]
    assert turn.sends == [Send(PEERS, ROOT, Vote(1, 1, b"v", yes))]
    assert turn.jobs == ()


def test_a_core_that_takes_a_failed_for_a_yes_would_fail_these() -> None:
    host = started(IgnoresFailed, 0)
    host.step([Received(ME, Proposal(1, 1, b"v"))], 1.0)
    turn = host.step([Done(("ask", 1), Failed("no"))], 2.0)
    assert turn.sends == [Send(PEERS, ROOT, Vote(1, 1, b"v", True))]


def test_a_vote_waits_until_it_is_durable() -> None:
    machine = OneNode(Asking, 0, PEERS)
    machine.sync()
    machine.step(Received(ME, Proposal(1, 1, b"v")))
    machine.sent.clear()
    machine.step(Done(("ask", 1), True))
    assert machine.sent == []
    machine.crash()
    machine.boot()
    assert voted(machine.host) == NEVER  # nobody saw it
    machine = OneNode(Asking, 0, PEERS)
    machine.step(Received(ME, Proposal(1, 1, b"v")))
    machine.step(Done(("ask", 1), True))
    machine.sync()
    assert machine.sent[-1] == Send(PEERS, ROOT, Vote(1, 1, b"v", True))
    machine.crash()
    machine.boot()
    machine.sync()
    assert machine.sent[-1] == Send(PEERS, ROOT, Join(1, 2, (1, b"v")))


def test_the_next_round_cancels_the_question() -> None:
    host = judging()
    turn = host.step([Fired("round")], 2.0)
    assert turn.jobs == [Job(ROOT, ("ask", 1), None)]
    assert [record.value for record in turn.records] == [Entered(2)]


OVER = {
    "a later round": Received(1, Join(1, 5, NEVER)),
    "decided": Received(1, Chosen(1, b"other")),
}


@pytest.mark.parametrize("end", OVER.values(), ids=OVER)
def test_an_answer_to_a_question_that_is_over_is_ignored(end: Any) -> None:
    host = judging()
    with_answer = host.fork().step([end, Done(("ask", 1), True)], 2.0)
    assert with_answer == host.step([end], 2.0)


def test_an_answer_to_another_question_is_ignored() -> None:
    for core in (Asking, TakesStale):
        host = started(core, 0)
        host.step([Received(ME, Proposal(1, 1, b"good"))], 1.0)
        turn = host.step([Received(0, Proposal(1, 2, b"bad"))], 1.0)
        assert turn.jobs[-1] == Job(ROOT, ("ask", 2), Judge(1, b"bad"))
        turn = host.step([Done(("ask", 1), True)], 2.0)
        assert bool(turn.sends) is (core is TakesStale)
        assert voted(host) == ((2, b"bad") if core is TakesStale else NEVER)


def test_a_proposal_that_comes_twice_is_one_question() -> None:
    host = judging()
    assert host.step([Received(ME, Proposal(1, 1, b"v"))], 2.0).jobs == ()


def test_a_majority_of_yes_decides_and_has_the_value_run() -> None:
    host = judging()
    host.step([Received(1, Vote(1, 1, b"v", True))], 2.0)
    turn = host.step([Received(ME, Vote(1, 1, b"v", True))], 2.0)
    assert [record.value for record in turn.records] == [Chosen(1, b"v"), Entered(1)]
    assert [entry.data for entry in turn.outputs[0].entries] == [b"v"]
    assert turn.jobs == [Job(ROOT, ("run", 1), Run(1, (b"v",))), Job(ROOT, ("ask", 1), None)]
    assert turn.sends == [Send(PEERS, ROOT, Join(2, 1, NEVER))]


def test_a_majority_of_no_ends_the_round() -> None:
    host = judging()
    turn = host.step([Received(node, Vote(1, 1, b"v", False)) for node in (1, 2)], 2.0)
    assert turn.sends == [Send(PEERS, ROOT, Join(1, 2, NEVER))]
    assert not turn.outputs


def test_one_that_is_behind_is_told_what_was_chosen() -> None:
    host = judging()
    host.step([Received(1, Chosen(1, b"v"))], 2.0)
    assert host.step([Received(1, Join(1, 3, NEVER))], 2.0).sends == [Send((1,), ROOT, Chosen(1, b"v"))]


def test_a_proposal_out_of_turn_is_blamed() -> None:
    host = started(node=0)
    turn = host.step([Received(1, Proposal(1, 1, b"v"))], 1.0)
    assert [blame.node for blame in turn.blames] == [1]
    assert turn.jobs == ()
