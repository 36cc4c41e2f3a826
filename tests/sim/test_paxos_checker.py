"""The checkers of Paxos say nothing of what is right, and catch what is planted."""

from types import SimpleNamespace
from typing import Any

import pytest

from quorate.parts.log.configuration import encode_change
from quorate.parts.log.entries import CONFIGURATION, Entry, Log
from quorate.parts.log.replicated import Decided
from quorate.parts.quorum import Majority
from quorate.protocols.multipaxos.invariants import MultiPaxosInvariants
from quorate.protocols.multipaxos.messages import MultiPaxosConfig
from quorate.protocols.paxos.invariants import PaxosInvariants
from quorate.sim.checkers.base import Violation

X, Y = Entry(1, b"x"), Entry(1, b"y")
PEERS = (0, 1, 2)
ALPHA = 8


# --- one instance a slot ---


def single(**changes: Any) -> SimpleNamespace:
    """A log with slot 1 open, of which the acceptor has this."""
    acceptor = SimpleNamespace(promised=(0, 0), accepted=(0, 0), value=b"")
    proposer = SimpleNamespace(ballot=(0, 0), phase="idle")
    for name, value in changes.items():
        setattr(proposer if hasattr(proposer, name) else acceptor, name, value)
    quorums = SimpleNamespace(phase2=Majority(PEERS))
    one = SimpleNamespace(acceptor=acceptor, proposer=proposer, quorums=quorums)
    return SimpleNamespace(open={1: one}, delivered=0, ahead={})


def step(checker: Any, node: int, core: Any, release: bool = True) -> None:
    checker.stepped(node, core)
    if release:
        checker.released(node, checker.mark(node))


def watching(checker: Any, make: Any) -> Any:
    for node in PEERS:
        checker.started(node, make())
    return checker


def test_a_healthy_decision() -> None:
    checker = watching(PaxosInvariants(), single)
    for node in PEERS:
        step(checker, node, single(promised=(1, 0)))
        step(checker, node, single(promised=(1, 0), accepted=(1, 0), value=b"x"))
    assert checker.chosen == {1: ((1, 0), b"x")}
    step(checker, 0, single(promised=(2, 1), accepted=(2, 1), value=b"x"))
    checker.started(1, single(promised=(1, 0), accepted=(1, 0), value=b"x"))


def test_a_promise_that_left_and_is_forgotten_in_a_restart() -> None:
    checker = watching(PaxosInvariants(), single)
    step(checker, 0, single(promised=(1, 1)))
    with pytest.raises(Violation, match=r"promises are kept: node 0 had promised ballot .1, 1. in slot 1"):
        checker.started(0, single())


def test_a_promise_that_never_left_may_be_forgotten() -> None:
    checker = watching(PaxosInvariants(), single)
    step(checker, 0, single(promised=(1, 1)), release=False)
    checker.started(0, single())


def test_an_acceptance_that_left_and_is_forgotten() -> None:
    checker = watching(PaxosInvariants(), single)
    step(checker, 0, single(promised=(1, 1), accepted=(1, 1), value=b"x"))
    with pytest.raises(Violation, match="had accepted in ballot"):
        checker.started(0, single(promised=(1, 1)))


def test_a_decided_slot_needs_no_votes() -> None:
    checker = watching(PaxosInvariants(), single)
    step(checker, 0, single(promised=(1, 1), accepted=(1, 1), value=b"x"))
    core = single()
    core.delivered, core.open = 1, {}
    checker.started(0, core)


def test_two_values_in_one_ballot() -> None:
    checker = watching(PaxosInvariants(), single)
    step(checker, 0, single(promised=(1, 1), accepted=(1, 1), value=b"x"))
    with pytest.raises(Violation, match="one value a ballot"):
        step(checker, 2, single(promised=(1, 1), accepted=(1, 1), value=b"y"))


@pytest.mark.parametrize("first", [True, False])
def test_another_value_above_the_ballot_that_chose(first: bool) -> None:
    """Also where it was accepted before the quorum of the lower ballot was complete."""
    checker = watching(PaxosInvariants(), single)
    step(checker, 0, single(promised=(1, 1), accepted=(1, 1), value=b"x"))
    steps = [(1, single(promised=(1, 1), accepted=(1, 1), value=b"x"))]
    steps.insert(0 if first else 1, (2, single(promised=(2, 2), accepted=(2, 2), value=b"y")))
    step(checker, *steps[0])
    with pytest.raises(Violation, match="what is chosen stays"):
        step(checker, *steps[1])


def test_a_ballot_that_is_used_again() -> None:
    checker = watching(PaxosInvariants(), single)
    step(checker, 0, single(ballot=(1, 0), phase="preparing"))
    checker.started(0, single())
    with pytest.raises(Violation, match=r"ballots are used once: node 0 uses ballot .1, 0. in slot 1 again"):
        step(checker, 0, single(ballot=(1, 0), phase="preparing"))


# --- Multi-Paxos ---


def multi(promised: Any = (0, 0), ballot: Any = (0, 0), entries: Any = (), chosen: int = 0, **more: Any) -> Any:
    """A node whose log has these entries, accepted in a ballot."""
    log = Log()
    log.append(list(entries))
    acceptor = SimpleNamespace(
        promised=promised,
        ballot=ballot,
        log=log,
        ahead=more.get("ahead", {}),
        chosen_index=chosen,
        has_forgotten=False,
        changes=(ballot, tuple(entries), tuple(more.get("ahead", {}))),
    )
    return SimpleNamespace(
        acceptor=acceptor,
        role=more.get("role", "follower"),
        stalled=more.get("stalled"),
        ballot=more.get("own", ballot),
        env=SimpleNamespace(peers=PEERS),
        config=MultiPaxosConfig(alpha=ALPHA),
    )


def test_a_healthy_log() -> None:
    checker = watching(MultiPaxosInvariants(), multi)
    for node in (0, 1):
        step(checker, node, multi((1, 0), (1, 0), [X, Y]))
    assert checker.chosen == {1: ((1, 0), X), 2: ((1, 0), Y)}
    step(checker, 0, multi((1, 0), (1, 0), [X, Y], 1))
    step(checker, 0, multi((2, 1), (2, 1), [X], 1, ahead={2: ((1, 0), Y)}))
    step(checker, 0, multi((2, 1), (2, 1), [X, Y], 1))
    checker.started(0, multi((2, 1), (2, 1), [X, Y]))


def test_a_leader_whose_disk_takes_nothing() -> None:
    checker = watching(MultiPaxosInvariants(), multi)
    step(checker, 0, multi((1, 0), (1, 0), [X], stalled="the disk hangs"))
    with pytest.raises(Violation, match=r"node 0 leads in ballot \(1, 0\), and cannot write: the disk hangs"):
        step(checker, 0, multi((1, 0), (1, 0), [X], role="leader", stalled="the disk hangs"))


def test_votes_of_a_log_are_votes_slot_by_slot() -> None:
    checker = watching(MultiPaxosInvariants(), multi)
    step(checker, 0, multi((1, 0), (1, 0), [X, Y]))
    step(checker, 1, multi((1, 0), (1, 0), [X], ahead={3: ((1, 0), Y)}))
    assert checker.chosen == {1: ((1, 0), X)}
    with pytest.raises(Violation, match="one value a ballot"):
        step(checker, 2, multi((1, 0), (1, 0), [X, X]))


def test_another_value_after_a_choice() -> None:
    checker = watching(MultiPaxosInvariants(), multi)
    for node in (0, 1):
        step(checker, node, multi((1, 0), (1, 0), [X]))
    with pytest.raises(Violation, match=r"in slot 1 ballot .1, 0. chose"):
        step(checker, 2, multi((2, 2), (2, 2), [Y]))


def test_a_promise_an_acceptance_and_a_ballot_are_remembered() -> None:
    checker = watching(MultiPaxosInvariants(), multi)
    step(checker, 0, multi((1, 0), (1, 0), [X], role="preparing", own=(1, 0)))
    with pytest.raises(Violation, match=r"had promised ballot .1, 0. and told others"):
        checker.started(0, multi((0, 0), (1, 0), [X]))
    with pytest.raises(Violation, match=r"had accepted in ballot .1, 0. in slot 1"):
        checker.started(0, multi((1, 0), (0, 0), []))
    checker.started(0, multi((1, 0), (1, 0), [X]))
    with pytest.raises(Violation, match=r"uses ballot .1, 0. again"):
        step(checker, 0, multi((1, 0), (1, 0), [X], role="preparing", own=(1, 0)))


def test_votes_of_nodes_whose_word_counts_only_later_choose_nothing() -> None:
    checker = watching(MultiPaxosInvariants(), multi)
    for node in (0, 1):
        step(checker, node, multi((1, 0), (1, 0), ahead={9: ((1, 0), X)}))
    assert checker.chosen == {}


# --- each slot by its own members ---


def change(*members: int) -> Entry:
    return Entry(1, encode_change(members), CONFIGURATION)


def voted(checker: Any, entries: list[Entry], *nodes: int) -> None:
    """These nodes accept the whole log in ballot (1, 0), and tell others."""
    for node in nodes:
        step(checker, node, multi((1, 0), (1, 0), entries))


def filled(first: Entry, count: int) -> list[Entry]:
    return [first, *[Entry(1, b"%d" % number) for number in range(2, count + 1)]]


def test_members_count_from_a_window_after_the_slot_that_names_them() -> None:
    checker = watching(MultiPaxosInvariants(), multi)
    log = filled(change(2), ALPHA + 1)
    voted(checker, log[:ALPHA], 0, 1)
    checker.output(0, Decided(1, log[:ALPHA]))
    voted(checker, log, 2)
    checker.output(2, Decided(ALPHA + 1, log[ALPHA:]))
    assert checker.chosen[ALPHA + 1] == ((1, 0), log[ALPHA])


def test_votes_of_the_old_members_decide_no_slot_of_the_new() -> None:
    checker = watching(MultiPaxosInvariants(), multi)
    log = filled(change(2), ALPHA + 1)
    voted(checker, log, 0, 1)
    with pytest.raises(
        Violation, match=r"hands up .* in slot 9, whose members are \(2,\); .* mask 11 in ballot .1, 0."
    ):
        checker.output(0, Decided(1, log))


def test_votes_of_two_ballots_are_not_added_up() -> None:
    checker = watching(MultiPaxosInvariants(), multi)
    step(checker, 0, multi((1, 0), (1, 0), [X]))
    step(checker, 1, multi((2, 1), (2, 1), [X]))
    with pytest.raises(Violation, match="each slot by its own members: node 0 hands up"):
        checker.output(0, Decided(1, [X]))


@pytest.mark.parametrize(
    "refused",
    [encode_change((1, 7)), encode_change((1,), epoch=3), encode_change((1,), leavers=(1,))],
    ids=["unknown-node", "another-epoch", "member-that-leaves"],
)
def test_a_change_that_does_not_fit_changes_nobody(refused: bytes) -> None:
    checker = watching(MultiPaxosInvariants(), multi)
    log = filled(Entry(1, refused, CONFIGURATION), ALPHA + 1)
    voted(checker, log, 0, 1)
    checker.output(0, Decided(1, log))


def test_what_is_handed_up_again_is_judged_once() -> None:
    checker = watching(MultiPaxosInvariants(), multi)
    voted(checker, [X], 0, 1)
    checker.output(0, Decided(1, [X]))
    checker.output(2, Decided(1, [X]))
