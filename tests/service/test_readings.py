"""Reads that take several steps: who is answered when, what is dropped, and that a state's answers are of one place."""

from __future__ import annotations

import msgspec
import pytest

from quorate.machines.state_machine import StateMachine
from quorate.service import readings
from quorate.service.deadlines import TICK
from quorate.service.readings import GO_ON, LATE, PASS_BYTES, PAUSE_S, READINGS_MAX, RETURN_TICKS
from quorate.service.requests import Code, Failure, OpenSession, Query, Result

from tests.service.replicas import Bench, command, put


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.commit(OpenSession(9))
    return bench


def ask(bench: Bench, client: str, number: int, text: bytes, remaining_ms: int = 0, asker: int = 0) -> None:
    bench.request(client, Query(number, text, True, remaining_ms, asker))


def test_one_that_takes_steps_goes_on_between_others(bench: Bench) -> None:
    ask(bench, "ann", 1, b"3 steps")
    ask(bench, "bob", 2, b"quick")
    assert bench.settle() == [("bob", Result(2, b"0 stored for quick"))]
    assert bench.port.timers[GO_ON] == PAUSE_S
    assert bench.fire(GO_ON) == []
    assert bench.fire(GO_ON) == [("ann", Result(1, b"0 stored for 3 steps"))]
    assert GO_ON not in bench.port.timers, "an idle node has no timer for reads"


def test_the_answer_is_of_the_state_at_the_first_step(bench: Bench) -> None:
    ask(bench, "ann", 1, b"2 steps")
    bench.settle()
    bench.commit(put(1, 1))
    ask(bench, "bob", 2, b"q")
    assert bench.settle() == [("bob", Result(2, b"1 stored for q"))]
    assert bench.fire(GO_ON) == [("ann", Result(1, b"0 stored for 2 steps"))]


def test_they_take_turns(bench: Bench) -> None:
    ask(bench, "ann", 1, b"3 steps")
    ask(bench, "bob", 2, b"2 steps")
    bench.settle()
    assert bench.fire(GO_ON) == []
    assert bench.fire(GO_ON) == [("bob", Result(2, b"0 stored for 2 steps"))]
    assert bench.fire(GO_ON) == [("ann", Result(1, b"0 stored for 3 steps"))]


def test_a_pass_answers_so_much_and_the_next_the_rest(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "PASS_BYTES", 40)
    for number in range(5):
        ask(bench, "ann", number, b"q")
    assert [answer.id for _, answer in bench.settle()] == [0, 1, 2]
    assert bench.port.timers[GO_ON] == 0.0
    assert [answer.id for _, answer in bench.fire(GO_ON)] == [3, 4]
    assert PASS_BYTES == 256 << 10


def test_two_that_take_steps_are_a_pass(bench: Bench) -> None:
    for number in range(3):
        ask(bench, "ann", number, b"9 steps")
    bench.settle()
    assert bench.machine.under_way == 2
    bench.settle()
    assert bench.machine.under_way == 3


def test_so_many_are_under_way_at_most(bench: Bench) -> None:
    for number in range(READINGS_MAX + 1):
        ask(bench, "ann", number, b"9 steps")
    answers = [answer for _ in range(READINGS_MAX) for answer in bench.settle()]
    [(_, refused)] = answers
    assert isinstance(refused, Failure)
    assert (refused.id, refused.code) == (READINGS_MAX, Code.BUSY)
    assert bench.machine.under_way == READINGS_MAX, "what is refused holds nothing"


def test_nobody_waits_past_the_deadline(bench: Bench) -> None:
    ask(bench, "ann", 1, b"100 steps", remaining_ms=1500)
    ask(bench, "bob", 2, b"100 steps")
    bench.request("eve", Query(3, b"q", remaining_ms=1500))  # waits for the log
    bench.settle()
    [token] = bench.port.asked
    bench.fire(TICK)
    bench.fire(TICK)
    assert (bench.machine.under_way, len(bench.replica.reads)) == (2, 2), "not before it is past"
    bench.fire(TICK)
    assert bench.machine.under_way == 1, "the one without a deadline goes on"
    bench.replica._ready.append(token)
    assert bench.settle() == []


def test_what_is_due_late_is_not_begun(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "PASS_BYTES", 10)
    ask(bench, "ann", 1, b"q")
    ask(bench, "ann", 2, b"9 steps", remaining_ms=1)
    bench.settle()
    bench.replica.deadlines.now += 2
    assert bench.fire(GO_ON) == [("ann", Failure(2, Code.UNAVAILABLE, LATE))]
    assert bench.machine.under_way == 0


def test_the_clock_stands_while_nobody_waits(bench: Bench) -> None:
    ask(bench, "ann", 1, b"q", remaining_ms=1000)
    bench.settle()
    assert bench.port.timers == {}
    ask(bench, "ann", 2, b"9 steps", remaining_ms=1000)
    bench.settle()
    assert set(bench.port.timers) == {GO_ON, TICK}


def test_a_client_that_is_gone_is_not_worked_for(bench: Bench) -> None:
    ask(bench, "ann", 1, b"9 steps")
    ask(bench, "bob", 1, b"9 steps")
    bench.settle()
    bench.replica.closed("ann")
    assert bench.machine.under_way == 1


def test_one_that_asks_again_finds_it_under_way(bench: Bench) -> None:
    ask(bench, "ann", 1, b"4 steps", 60_000, asker=77)
    bench.settle()
    bench.fire(GO_ON)
    bench.replica.closed("ann")
    ask(bench, "ann again", 1, b"4 steps", 60_000, asker=77)
    bench.settle()
    bench.fire(GO_ON)
    assert bench.fire(GO_ON) == [("ann again", Result(1, b"0 stored for 4 steps"))]
    assert bench.machine.steps == 4, "the work was done once"


def test_a_copy_on_the_same_link_has_an_answer_of_its_own(bench: Bench) -> None:
    """A link counts what it has asked for and was not answered."""
    for _ in range(2):
        ask(bench, "ann", 1, b"2 steps", 60_000, asker=77)
        bench.settle()
    assert bench.machine.under_way == 1
    assert bench.fire(GO_ON) == [("ann", Result(1, b"0 stored for 2 steps"))] * 2


def test_or_done(bench: Bench) -> None:
    ask(bench, "ann", 1, b"2 steps", 60_000, asker=77)
    bench.settle()
    bench.replica.closed("ann")
    assert bench.fire(GO_ON) == []
    ask(bench, "ann again", 1, b"2 steps", 60_000, asker=77)
    assert bench.settle() == [("ann again", Result(1, b"0 stored for 2 steps"))]
    assert len(bench.replica.reads) == 0


@pytest.mark.parametrize(
    ("number", "text", "asker"), [(2, b"4 steps", 77), (1, b"5 steps", 77), (1, b"4 steps", 78), (1, b"4 steps", 0)]
)
def test_nobody_else_gets_that_answer(bench: Bench, number: int, text: bytes, asker: int) -> None:
    """It is of a state that may be older than what another asks."""
    ask(bench, "ann", 1, b"4 steps", 60_000, asker=77)
    bench.settle()
    bench.replica.closed("ann")
    ask(bench, "bob", number, text, 60_000, asker)
    bench.settle()
    assert bench.machine.under_way == 2


def test_one_that_does_not_return_is_dropped(bench: Bench) -> None:
    ask(bench, "ann", 1, b"2 steps", 60_000, asker=77)
    ask(bench, "bob", 1, b"900 steps", 60_000, asker=78)
    bench.settle()
    bench.fire(GO_ON)
    bench.replica.closed("ann")
    bench.replica.closed("bob")
    for _ in range(RETURN_TICKS):
        assert len(bench.replica.reads) == 1
        bench.fire(TICK)
    assert (len(bench.replica.reads), bench.machine.under_way) == (0, 0)


def test_whoever_waits_for_a_command_is_forgotten_too(bench: Bench) -> None:
    """It is in the log, or is not, as ever. The link has an answer, as it counts what it asked for."""
    waiting = msgspec.structs.replace(command(1, put(1, 1)), remaining_ms=1500)
    opening = msgspec.structs.replace(command(2, OpenSession(3)), remaining_ms=1500)
    bench.request("ann", waiting)
    bench.request("ann", opening)
    bench.request("bob", command(3, put(1, 2)))
    bench.settle()
    assert bench.fire(TICK) == bench.fire(TICK) == []
    assert bench.fire(TICK) == [("ann", Failure(number, Code.LEADER_CHANGED, LATE)) for number in (1, 2)]
    bench.commit(put(1, 1), OpenSession(3), put(1, 2))
    assert [(client, answer.id) for client, answer in bench.settle()] == [("bob", 3)]
    assert bench.machine.commands == [b"x", b"x"]


def test_another_state_is_asked_anew(bench: Bench) -> None:
    other = Bench()
    other.commit(OpenSession(9), put(1, 1), put(1, 2))
    ask(bench, "ann", 1, b"2 steps")
    bench.settle()
    bench.restore(other.snapshot())
    assert bench.machine.under_way == 0
    bench.settle()
    assert bench.fire(GO_ON) == [("ann", Result(1, b"2 stored for 2 steps"))]


def test_a_command_that_is_refused_anyhow_is_not_proposed(bench: Bench) -> None:
    class Strict(type(bench.machine)):  # type: ignore[misc]
        def refuses(self, data: bytes) -> bytes | None:
            return b"refused" if data == b"poison" else None

    bench.replica.machine = machine = Strict()
    assert isinstance(machine, StateMachine)
    bench.request("ann", command(1, put(1, 1, b"poison")))
    bench.request("ann", command(2, put(1, 2, b"fine")))
    assert bench.settle() == [("ann", Result(1, b"refused"))]
    assert len(bench.port.submitted) == 1
