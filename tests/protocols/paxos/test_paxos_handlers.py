"""Paxos, one handler at a time, by its exact effects; and what no correct node sends."""

from itertools import product

import pytest

from quorate.kernel import Blame, Fired, Received, Stalled, Submitted, Timer, Turn
from quorate.parts.ballot import ROUND_MAX
from quorate.parts.log.replicated import Dropped
from quorate.protocols.paxos import PaxosConfig
from quorate.protocols.paxos.messages import (
    Accept,
    Accepted,
    Ask,
    Begun,
    Decided,
    Nack,
    Prepare,
    Promise,
    Promised,
    Voted,
)

from tests.protocols.effects import to, written
from tests.protocols.paxos.paxos_nodes import CONFIG, Node, without_timers
from tests.protocols.stepped import FIVE, THREE

REFUSED = "this node does not propose, or has proposed already"


def test_a_node_that_nobody_asks_does_nothing() -> None:
    assert Node().started == Turn()
    asking = Node(config=PaxosConfig(ask_s=2.0))
    assert asking.started == Turn(timers=[Timer((), "ask", 2.0)])


def test_a_submitted_value_begins_a_ballot() -> None:
    node = Node(2)
    turn = node.submit(b"x")
    assert [timer.key for timer in turn.timers] == ["retry"]
    assert without_timers(turn) == Turn(records=written(Begun((1, 2))), sends=[to(THREE, Prepare((1, 2)))])


def test_only_one_value_is_proposed() -> None:
    node = Node()
    assert node.submit(b"x", b"y").outputs == [Dropped((b"y",), REFUSED)]
    assert node.submit(b"z") == Turn(outputs=[Dropped((b"z",), REFUSED)])
    assert node.submit() == Turn()


def test_promises_of_a_quorum_begin_phase_2() -> None:
    node = Node()
    node.submit(b"x")
    assert node.on(1, Promise((1, 1))) == Turn()
    assert node.on(1, Promise((1, 1))) == Turn(), "a node counts once"
    assert node.on(2, Promise((1, 1))) == Turn(sends=[to(THREE, Accept((1, 1), b"x"))])
    assert node.on(3, Promise((1, 1))) == Turn(), "phase 2 begins once"


def test_promises_of_an_earlier_ballot_do_not_count() -> None:
    node = Node(records=[Begun((4, 1))])
    assert node.submit(b"x").records == written(Begun((5, 1)))
    assert node.on(2, Promise((4, 1)), Promise((4, 1))) == Turn()
    assert node.on(3, Promise((4, 1))) == Turn()


def test_a_refused_proposer_waits_and_goes_above_what_was_in_the_way() -> None:
    node = Node()
    node.submit(b"x")
    turn = node.on(2, Nack((1, 1), (7, 3)))
    assert [timer.key for timer in turn.timers] == ["retry"]
    assert without_timers(turn) == Turn()
    assert node.on(3, Nack((1, 1), (6, 2))) == Turn(), "refused is refused"
    assert node.on(2, Promise((1, 1))) == Turn(), "and over"
    turn = node.retry()
    assert without_timers(turn) == Turn(records=written(Begun((8, 1))), sends=[to(THREE, Prepare((8, 1)))])


def test_back_off_grows_with_each_refusal_up_to_a_bound() -> None:
    waits = []
    for seed_node in range(1, 6):
        node = Node(seed_node, FIVE)
        node.submit(b"x")
        for round_ in range(1, 12):
            ballot = node.core.proposer.ballot
            other = seed_node % 5 + 1
            turn = node.on(other, Nack(ballot, (ballot[0] + 1, other)))
            waits.append((round_, turn.timers[-1].at - 10.0))
            node.retry()
    assert all(0 <= wait <= min(CONFIG.retry_s * 2**tries, CONFIG.retry_s_max) for tries, wait in waits)
    assert max(wait for tries, wait in waits if tries > 6) > CONFIG.retry_s_max / 2
    assert len({wait for _, wait in waits}) == len(waits), "no two wait the same"


def test_silence_begins_the_next_ballot_and_it_waits_longer() -> None:
    """A time-out below a round trip would fail for ever."""
    node = Node()
    node.submit(b"x")
    assert node.retry().records == written(Begun((2, 1)))
    waits = [node.retry().timers[-1].at - 10.0 for _ in range(20)]
    assert all(CONFIG.retry_s <= wait <= CONFIG.retry_s + CONFIG.retry_s_max for wait in waits)
    assert max(waits) > CONFIG.retry_s_max / 2


def test_a_prepare_is_promised_and_its_copy_promised_again() -> None:
    node = Node()
    assert node.on(2, Prepare((3, 2))) == Turn(records=written(Promised((3, 2))), sends=[to(2, Promise((3, 2)))])
    assert node.on(2, Prepare((3, 2))) == Turn(sends=[to(2, Promise((3, 2)))])
    assert node.on(2, Prepare((2, 2))) == Turn(sends=[to(2, Nack((2, 2), (3, 2)))])


def test_an_accept_is_told_to_all_learners_and_its_copy_again() -> None:
    node = Node(records=[Promised((3, 2))])
    accepted = to(THREE, Accepted((3, 2), b"x"))
    assert node.on(2, Accept((3, 2), b"x")) == Turn(records=written(Voted((3, 2), b"x")), sends=[accepted])
    assert node.on(2, Accept((3, 2), b"x")) == Turn(sends=[accepted])
    assert node.on(2, Prepare((3, 2))) == Turn(), "a late copy"
    assert node.on(2, Accept((2, 2), b"y")) == Turn(sends=[to(2, Nack((2, 2), (3, 2)))])


def test_a_quorum_for_one_ballot_is_a_decision() -> None:
    node = Node()
    assert node.on(1, Accepted((3, 2), b"x")) == Turn()
    assert node.on(2, Accepted((3, 2), b"x")) == Turn(outputs=[b"x"])
    assert node.on(3, Accepted((3, 2), b"x")) == Turn(), "delivered once"


def test_a_proposer_stops_when_a_value_is_chosen() -> None:
    node = Node()
    node.submit(b"x")
    assert node.on(2, Decided(b"y")) == Turn(outputs=[b"y"], timers=[Timer((), "retry", None)])
    assert node.retry() == Turn()


def test_whoever_knows_the_decision_answers_with_it() -> None:
    node = Node()
    node.on(3, Decided(b"y"))
    for message in (Prepare((1, 2)), Accept((1, 2), b"z"), Ask()):
        assert node.on(2, message) == Turn(sends=[to(2, Decided(b"y"))])
    assert node.on(2, Decided(b"y"), Accepted((1, 2), b"z")) == Turn()
    assert node.submit(b"x") == Turn(outputs=[Dropped((b"x",), REFUSED)])


def test_a_learner_asks_until_it_knows() -> None:
    node = Node(config=PaxosConfig(ask_s=2.0))
    assert node.step(Fired("ask")) == Turn(timers=[Timer((), "ask", 12.0)], sends=[to(THREE, Ask())])
    node.on(2, Decided(b"x"))
    assert node.step(Fired("ask")) == Turn()


def test_an_acceptor_answers_a_question_with_its_vote() -> None:
    assert Node().on(2, Ask()) == Turn()
    assert Node(records=[Voted((3, 2), b"x")]).on(2, Ask()) == Turn(sends=[to(2, Accepted((3, 2), b"x"))])


def test_a_full_disk_makes_silent() -> None:
    node = Node()
    node.step(Stalled("disk full"))
    quiet = [Prepare((1, 2)), Accept((1, 2), b"x"), Accepted((1, 2), b"x"), Decided(b"x")]
    assert node.on(2, *quiet) == Turn()
    assert node.submit(b"x") == Turn(outputs=[Dropped((b"x",), REFUSED)])
    node.step(Stalled(None))
    assert node.on(2, Prepare((1, 2))).records == written(Promised((1, 2)))


def test_a_proposer_waits_for_room_on_the_disk() -> None:
    node = Node()
    node.submit(b"x")
    turn = node.step(Stalled("disk full"), Fired("retry"))
    assert turn == Turn(timers=[Timer((), "retry", 10.0 + CONFIG.retry_s)])
    assert node.step(Stalled(None), Fired("retry")).records == written(Begun((2, 1)))


def test_a_checkpoint_is_as_good_as_all_records() -> None:
    node = Node()
    node.submit(b"x")
    node.on(1, Prepare((1, 1)), Accept((1, 1), b"x"))
    node.on(2, Prepare((2, 2)))
    assert node.records == [Begun((1, 1)), Voted((1, 1), b"x"), Promised((2, 2))]
    assert Node(records=node.records).records == node.records


# --- roles ---

ROLES = PaxosConfig(proposers=(1,), acceptors=(2, 3, 4), learners=(1, 5), ask_s=None)


def test_each_role_runs_alone() -> None:
    """A proposer (which learns, so as to know when to stop), an acceptor, a learner."""
    proposer, acceptor, learner = (Node(node, FIVE, config=ROLES) for node in (1, 2, 5))
    prepares = [to(node, Prepare((1, 1))) for node in (2, 3, 4)]
    assert proposer.submit(b"x").sends == prepares
    assert acceptor.on(1, Prepare((1, 1))).sends == [to(1, Promise((1, 1)))]
    assert proposer.on(2, Promise((1, 1))) == Turn()
    assert len(proposer.on(3, Promise((1, 1))).sends) == 3
    accepted = Accepted((1, 1), b"x")
    assert acceptor.on(1, Accept((1, 1), b"x")).sends == [to(1, accepted), to(5, accepted)]
    assert learner.on(2, accepted) == Turn()
    assert learner.on(4, accepted).outputs == [b"x"]
    assert learner.records == []
    assert acceptor.submit(b"y").outputs == [Dropped((b"y",), REFUSED)]


@pytest.mark.parametrize(
    ("node", "sender", "message", "why"),
    [
        (5, 1, Prepare((1, 1)), "takes this node for an acceptor, or itself for a proposer"),
        (2, 3, Accept((1, 3), b"x"), "takes this node for an acceptor, or itself for a proposer"),
        (5, 2, Promise((1, 5)), "takes this node for a proposer, or itself for an acceptor"),
        (1, 5, Nack((1, 1), (2, 1)), "takes this node for a proposer, or itself for an acceptor"),
        (2, 3, Accepted((1, 1), b"x"), "takes this node for a learner, or itself for an acceptor"),
        (5, 1, Accepted((1, 1), b"x"), "takes this node for a learner, or itself for an acceptor"),
        (2, 1, Decided(b"x"), "takes this node for a learner"),
        (2, 3, Ask(), "asks, and is no learner"),
    ],
)
def test_whoever_mistakes_a_role_is_blamed(node: int, sender: int, message: object, why: str) -> None:
    assert Node(node, FIVE, config=ROLES).on(sender, message) == Turn(blames=[Blame(sender, why)])


def test_a_journal_of_another_role_is_refused() -> None:
    with pytest.raises(ValueError, match="Promised, a record of a role"):
        Node(5, FIVE, config=ROLES, records=[Promised((1, 1))])
    with pytest.raises(ValueError, match="not in the group"):
        Node(1, THREE, config=ROLES)


@pytest.mark.parametrize(
    "wrong",
    [
        {"retry_s": 0.0},
        {"retry_s": float("nan")},
        {"retry_s_max": 0.1},
        {"ask_s": 0.0},
        {"learners": (2,)},
        {"proposers": (1,), "learners": (2,)},
    ],
)
def test_a_config_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"retry_s|ask_s|proposers"):
        PaxosConfig(**wrong)  # type: ignore[arg-type]


# --- lies ---


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (Prepare((1, 3)), "uses a ballot that is not its own"),
        (Prepare((0, 2)), "uses a ballot that is not its own"),
        (Accept((1, 3), b"x"), "uses a ballot that is not its own"),
        (Accept((1, 2), b"other"), "proposes two values in one ballot"),
        (Promise((2, 1)), "answers a ballot that was never used"),
        (Promise((1, 2)), "answers a ballot that was never used"),
        (Promise((1, 1), (1, 1), b"x"), "promised a ballot and says that it accepted a later one before"),
        (Nack((1, 1), (1, 1)), "refuses a ballot for one that is not higher"),
        (Nack((9, 1), (10, 1)), "answers a ballot that was never used"),
        (Accepted((0, 2), b"x"), "accepted in no ballot"),
        (Accepted((1, 2), b"other"), "accepted two values in one ballot"),
    ],
)
def test_what_no_correct_node_sends_is_blamed_and_changes_nothing(message: object, why: str) -> None:
    node = Node(records=[Voted((1, 2), b"x")])
    node.submit(b"x")
    node.on(2, Accepted((1, 2), b"x"))
    before = node.records
    assert node.on(2, message) == Turn(blames=[Blame(2, why)])
    assert node.records == before


def test_another_decision_is_blamed() -> None:
    node = Node()
    turn = node.on(2, Decided(b"x"), Decided(b"y"))
    assert (turn.outputs, turn.blames) == ([b"x"], [Blame(2, "says that another value was chosen")])


def test_no_well_typed_message_raises() -> None:
    ballots = [(0, 0), (0, 2), (1, 1), (1, 2), (2, 1), (ROUND_MAX, 2), (ROUND_MAX, 1023)]
    messages = [Ask(), *(kind(ballot) for kind, ballot in product((Prepare, Promise), ballots))]
    messages += [kind(ballot, b"x") for kind, ballot in product((Accept, Accepted), ballots)]
    messages += [Nack(*pair) for pair in product(ballots, ballots)]
    messages += [Promise(*pair, b"y") for pair in product(ballots, ballots)]
    for first in messages:
        node = Node()
        node.submit(b"x")
        node.step(Received(2, first), Fired("retry"))
        node.step(*[Received(2, message) for message in messages], Fired("retry"), Submitted((b"z",)), Fired("odd"))
        assert node.core.proposer.ballot[0] <= ROUND_MAX
