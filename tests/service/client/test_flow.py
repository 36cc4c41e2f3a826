"""Flow: a client that is refused as too much sends less at once; what waits for its turn is known not to be sent."""

from collections.abc import Iterator

import pytest

from quorate.service.client.call import COMMAND, ClientCall
from quorate.service.client.flow import FEW, ROUND_S, Flow
from quorate.service.requests import Code, Failure

NOW = 1000.0
BUSY = Failure(1, Code.BUSY, "too many requests wait")


def no_delay(_: int) -> float:
    return 0.0


def calls() -> Iterator[ClientCall]:
    number = 0
    while True:
        number += 1
        call = ClientCall(COMMAND, b"x", 10.0)
        call.id = number
        yield call


def full(count: int) -> tuple[Flow, list[ClientCall], Iterator[ClientCall]]:
    """A flow with so many calls on the link."""
    flow, made = Flow(100), calls()
    sent = [next(made) for _ in range(count)]
    for call in sent:
        flow.sent(call)
    return flow, sent, made


def test_refusals_halve_what_is_sent_at_once_and_those_of_one_round_only_once() -> None:
    flow, sent, _ = full(40)
    for call in sent[:10]:
        flow.refused(call, BUSY, 5.0, no_delay)
    assert flow.window == 20
    assert not flow.has_room(NOW)
    flow.refused(sent[10], BUSY, 5.0 + 1.1 * ROUND_S, no_delay)
    assert flow.window == 10
    for number in range(11, 40):
        flow.refused(sent[number], BUSY, 10.0 * number, no_delay)
    assert flow.window == 1
    assert flow.has_room(NOW), "one may always go"


def test_a_round_of_answers_makes_room_for_one_more() -> None:
    flow, sent, _ = full(8)
    flow.refused(sent[0], BUSY, 0.0, no_delay)
    assert flow.window == 4
    for _ in range(4):
        flow.answered()
    assert flow.window == pytest.approx(5.0, abs=0.1)
    for _ in range(100_000):
        flow.answered()
    assert flow.window == 100


def test_the_newest_of_those_that_wait_goes_first_and_all_know_why() -> None:
    flow, sent, made = full(4)
    flow.refused(sent[0], BUSY, 0.0, no_delay)
    first, second = next(made), next(made)
    flow.hold(first)
    flow.hold(second)
    assert (first.why, first.sent) == (BUSY, False)
    assert flow.next() is second
    flow.sent(second)
    assert flow.next() is first
    flow.over(first)
    assert flow.held == {}


def test_silence_counts_only_where_many_are_under_way() -> None:
    flow, _, _ = full(FEW)
    flow.silent(1.0)
    assert flow.window == 100
    flow, _, _ = full(FEW + 1)
    flow.silent(1.0)
    assert flow.window == (FEW + 1) / 2


def test_a_new_link_has_nothing_under_way() -> None:
    flow, sent, _ = full(40)
    flow.refused(sent[0], BUSY, 0.0, no_delay)
    assert not flow.has_room(NOW)
    flow.left()
    assert flow.has_room(NOW)


def test_a_node_that_refused_is_left_alone_and_longer_if_it_refuses_again() -> None:
    flow, sent, _ = full(8)
    asked: list[int] = []

    def delay(refusals: int) -> float:
        asked.append(refusals)
        return 0.1

    for call in sent[:3]:
        flow.refused(call, BUSY, 1.0, delay)
    assert not flow.has_room(1.05)
    flow.refused(sent[3], BUSY, 2.0, delay)
    flow.refused(sent[4], BUSY, 3.0, delay)
    assert asked == [0, 1, 2], "once for each time that it was tried"
    flow.answered()
    flow.refused(sent[5], BUSY, 4.0, delay)
    assert asked[3] == 0


def test_those_whose_time_is_up_wait_no_more() -> None:
    flow, _, made = full(100)
    late, gone, early = next(made), next(made), next(made)
    late.deadline, gone.deadline, early.deadline = 3.0, 2.0, 1.0
    for call in (late, gone, early):
        flow.hold(call)
    flow.over(gone)
    assert flow.next_deadline == 1.0
    assert flow.overdue(2.5) == [early]
    assert flow.held == {late.id: late}
    assert flow.overdue(2.5) == []
    assert flow.overdue(3.0) == [late]
