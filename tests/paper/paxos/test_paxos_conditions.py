"""The conditions of "Paxos made simple" (2001), one test a condition or sentence; each on exact effects."""

import pytest

from quorate.kernel import Core, Env, Turn
from quorate.parts.quorum.choice import SizesChoice
from quorate.protocols.paxos import Paxos, PaxosConfig
from quorate.protocols.paxos.messages import Accept, Accepted, Begun, Nack, Prepare, Promise, Promised, Voted

from tests.protocols.cluster import Cluster
from tests.protocols.effects import to, written
from tests.protocols.paxos.paxos_nodes import Node
from tests.protocols.stepped import FIVE, THREE


def test_p1_an_acceptor_accepts_the_first_proposal_that_it_receives() -> None:
    """§2.1, P1: without any promise before it."""
    turn = Node().on(2, Accept((1, 2), b"x"))
    assert turn.records == written(Voted((1, 2), b"x"))


def test_p1a_it_accepts_unless_it_has_answered_a_prepare_of_a_higher_number() -> None:
    """§2.2, P1a."""
    node = Node(records=[Promised((2, 3))])
    assert node.on(2, Accept((2, 2), b"x")) == Turn(sends=[to(2, Nack((2, 2), (2, 3)))])
    assert node.on(3, Accept((2, 3), b"y")).records == written(Voted((2, 3), b"y"))
    assert node.on(2, Accept((3, 2), b"x")).records == written(Voted((3, 2), b"x")), "higher: nothing forbids it"


def test_p2_a_higher_ballot_that_is_chosen_has_the_chosen_value() -> None:
    """§2.2, P2: whichever quorum the next proposer asks."""
    for quorum in ((1, 2), (1, 3), (2, 3)):
        proposer = Node(3)
        proposer.submit(b"y")
        acceptors = {1: Node(1, records=[Voted((1, 1), b"x")]), 2: Node(2, records=[Voted((1, 1), b"x")]), 3: Node(3)}
        sends = []
        for acceptor in quorum:
            promise = acceptors[acceptor].on(3, Prepare((1, 3))).sends[0].message
            sends += proposer.on(acceptor, promise).sends
        assert sends == [to(THREE, Accept((1, 3), b"x"))]


def test_p2a_acceptors_accept_in_a_higher_ballot_only_what_was_issued_in_it() -> None:
    """§2.2, P2a follows from P2b; an acceptor that slept through the decision keeps no other value alive."""
    node = Node(3, records=[Promised((1, 3))])
    assert node.on(1, Accept((1, 1), b"z")) == Turn(sends=[to(1, Nack((1, 1), (1, 3)))])
    assert node.on(2, Accept((2, 2), b"x")).sends == [to(THREE, Accepted((2, 2), b"x"))]


def test_p2b_a_proposer_issues_the_value_that_the_promises_name() -> None:
    """§2.2, P2b."""
    node = Node()
    node.submit(b"own")
    node.on(2, Promise((1, 1), (0, 3), b""))  # no ballot: nothing accepted
    assert node.on(3, Promise((1, 1))).sends == [to(THREE, Accept((1, 1), b"own"))]
    node.retry()
    node.on(2, Promise((2, 1), (1, 3), b"theirs"))
    assert node.on(3, Promise((2, 1))).sends == [to(THREE, Accept((2, 1), b"theirs"))]


@pytest.mark.parametrize("order", [(2, 3, 4), (4, 3, 2), (3, 4, 2)])
def test_p2c_of_several_values_that_of_the_highest_ballot_is_issued(order: tuple[int, ...]) -> None:
    """§2.2, P2c (b): in whichever order the promises come."""
    answers = {2: Promise((9, 1), (3, 4), b"c"), 3: Promise((9, 1), (3, 5), b"highest"), 4: Promise((9, 1))}
    node = Node(1, FIVE, records=[Begun((8, 1))])
    node.submit(b"own")
    turns = [node.on(acceptor, answers[acceptor]) for acceptor in order]
    assert turns[:2] == [Turn(), Turn()]
    assert turns[2] == Turn(sends=[to(FIVE, Accept((9, 1), b"highest"))])


def test_p2c_a_free_value_needs_a_quorum_that_accepted_nothing() -> None:
    """§2.2, P2c (a): and no less than a quorum."""
    node = Node(1, FIVE)
    node.submit(b"own")
    assert [node.on(acceptor, Promise((1, 1))).sends for acceptor in (5, 2)] == [(), ()]
    assert node.on(3, Promise((1, 1))).sends == [to(FIVE, Accept((1, 1), b"own"))]


def test_a_promise_and_an_acceptance_are_durable_before_the_answer_leaves() -> None:
    """§2.5: an acceptor remembers, even if it fails and restarts; answers pass the barrier with their record."""
    node = Node()
    for message in (Prepare((1, 2)), Accept((1, 2), b"x")):
        turn = node.on(2, message)
        assert turn.records
        assert turn.sends
        assert turn.early == ()
    again = Node(records=node.records)
    assert again.on(3, Prepare((2, 3))).sends == [to(3, Promise((2, 3), (1, 2), b"x"))]


def test_a_number_is_recorded_before_it_is_used_and_never_used_again() -> None:
    """§2.5: each proposer remembers the highest-numbered proposal it tried, and begins with a higher one."""
    node = Node()
    turn = node.submit(b"x")
    assert turn.records == written(Begun((1, 1)))
    assert turn.early == ()
    assert Node(records=node.records).submit(b"y").records == written(Begun((2, 1)))


def test_different_proposers_choose_from_disjoint_numbers() -> None:
    """§2.5."""
    ballots = [Node(node).submit(b"x").sends[0].message.ballot for node in THREE]
    assert len(set(ballots)) == 3


def test_a_learner_learns_from_a_majority_for_one_proposal() -> None:
    """§2.3: three acceptances in three ballots are no decision, though the value be the same."""
    node = Node(1, FIVE)
    for acceptor in (2, 3, 4):
        assert node.on(acceptor, Accepted((1, acceptor), b"x")) == Turn()
    node.on(2, Accepted((2, 5), b"y"))
    assert node.on(3, Accepted((2, 5), b"y")) == Turn()
    assert node.on(2, Accepted((1, 3), b"x")) == Turn(), "older than what it accepted since"
    assert node.on(4, Accepted((2, 5), b"y")).outputs == [b"y"]


SLOW = PaxosConfig(ask_s=None, retry_s=0.5, retry_s_max=8.0)


def rush(env: Env) -> Core:
    """A proposer without back-off."""
    paxos = Paxos(env, SLOW)
    assert paxos.proposer
    paxos.proposer._jitter = lambda: 0.0  # type: ignore[method-assign]
    return paxos


def patient(env: Env) -> Core:
    """A proposer as it is."""
    return Paxos(env, SLOW)


@pytest.mark.parametrize(("make", "decides"), [(rush, False), (patient, True)])
def test_two_proposers_can_keep_issuing_numbers_for_ever_unless_one_waits(make: type[Core], decides: bool) -> None:
    """§2.4: of two that duel none ever gets through; random back-off ends it."""
    cluster = Cluster(make, 3, delay_s=lambda message: (0.2, 0.2) if type(message) is Accept else (0.05, 0.05))
    cluster.submit(1, b"x")
    cluster.run(0.2)
    cluster.submit(2, b"y")
    outputs = [cluster[node].outputs for node in cluster.peers]
    assert cluster.run(20.0, until=lambda: all(outputs)) is decides
    assert cluster[1].core.proposer.tries > 0, "it was refused"
    if decides:
        assert len({output[0] for output in outputs}) == 1
    else:
        assert outputs == [[], [], []]


def test_a_promise_holds_after_a_restart() -> None:
    """§2.5: even where nothing was accepted."""
    node = Node()
    node.on(3, Prepare((2, 3)))
    again = Node(records=node.records)
    assert again.on(2, Accept((1, 2), b"x")) == Turn(sends=[to(2, Nack((1, 2), (2, 3)))])


def test_only_quorums_of_different_phases_must_meet() -> None:
    """Howard and others 2016: four of five promise, any two choose; a pair that does not meet is refused."""
    node = Node(peers=FIVE, config=PaxosConfig(quorum=SizesChoice(4, 2)))
    node.submit(b"x")
    for acceptor in (2, 3, 4):
        assert node.on(acceptor, Promise((1, 1))).sends == ()
    assert node.on(5, Promise((1, 1))).sends == [to(FIVE, Accept((1, 1), b"x"))]
    node.on(2, Accepted((1, 1), b"x"))
    assert b"x" in node.on(3, Accepted((1, 1), b"x")).outputs
    with pytest.raises(ValueError, match="share no node"):
        Node(peers=FIVE, config=PaxosConfig(quorum=SizesChoice(2, 3)))
