"""Commands that take long, in the Replica: in steps, alone, once, and with what the log has behind them after them."""

from __future__ import annotations

import errno
from typing import Any, ClassVar

import pytest

from quorate.kernel.app import Steps
from quorate.service.clocks import CLOCK, EVERY_S, Clocks
from quorate.service.replica import IS_STAGING
from quorate.service.requests import Clock, Code, Failure, OpenSession, Result, encode
from quorate.service.staging import FULL_S, STAGE, STAGE_S

from tests.service.replicas import Bench, Journaling, RecordingPort, command, put, query


class Staged(Journaling):
    """``b"3 slow"`` is applied in three steps, each of which is stored by itself."""

    stages: ClassVar[bool] = True
    is_full = False

    def staged(self, command: bytes) -> Steps | None:
        return self._steps(command) if command.endswith(b" slow") else None

    def _steps(self, command: bytes) -> Steps:
        for number in range(int(command.split()[0]) - 1):
            assert self.open
            self.commands.append(b"%d of %b" % (number, command))
            yield
        return self.apply(command)

    def commit(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "no space")
        super().commit()

    def query(self, query: bytes) -> bytes:
        assert not self.open
        return b"%d" % self.stored


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.machine = Staged()
    bench.replica = type(bench.replica)(bench.machine)
    bench.replica.port = bench.port
    bench.commit(OpenSession(7))
    bench.settle()
    return bench


def test_it_is_applied_in_steps_and_what_is_behind_it_waits(bench: Bench) -> None:
    bench.request("ann", command(5, put(1, 1, b"3 slow")))
    bench.commit(put(1, 9, b"before"), put(1, 1, b"3 slow"), put(1, 2, b"behind"))
    replica, machine = bench.replica, bench.machine
    assert (replica.is_midway, replica.applied_index, machine.commands) == (True, 2, [b"before"])
    assert bench.port.timers[STAGE] == STAGE_S
    assert bench.fire(STAGE) == []
    assert machine.stored == 2, "what a step wrote is stored"
    assert replica.backup() == IS_STAGING
    bench.request("bob", query(1, serializable=True))
    assert bench.settle() == [("bob", Result(1, b"2"))]
    bench.fire(STAGE)
    assert (replica.is_midway, replica.applied_index) == (True, 2)
    assert bench.fire(STAGE) == [("ann", Result(5, b"4:3 slow"))]
    assert (replica.is_midway, replica.applied_index) == (False, 4)
    assert machine.commands[-2:] == [b"3 slow", b"behind"]


def test_two_of_them_one_after_the_other(bench: Bench) -> None:
    bench.commit(put(1, 1, b"2 slow"), put(1, 2, b"1 slow"), put(1, 3, b"2 slow"))
    steps = 0
    while bench.replica.is_midway:
        bench.fire(STAGE)
        steps += 1
    assert steps == 5
    whole = [b"0 of 2 slow", b"2 slow", b"1 slow", b"0 of 2 slow", b"2 slow"]
    assert (bench.machine.commands, bench.replica.applied_index) == (whole, 4)


def test_it_takes_effect_once(bench: Bench) -> None:
    bench.commit(put(1, 1, b"1 slow"))
    bench.fire(STAGE)
    bench.request("ann", command(5, put(1, 1, b"1 slow")))
    assert bench.settle() == [("ann", Result(5, b"1:1 slow"))]
    bench.commit(put(1, 1, b"1 slow"), put(1, 2, b"x", answered_below=2), put(1, 1, b"1 slow"), put(99, 1, b"1 slow"))
    assert not bench.replica.is_midway
    assert bench.machine.commands == [b"1 slow", b"x"]


def test_who_asks_again_meanwhile_has_the_answer_too(bench: Bench) -> None:
    bench.request("ann", command(5, put(1, 1, b"2 slow")))
    bench.commit(put(1, 1, b"2 slow"))
    bench.request("ann again", command(6, put(1, 1, b"2 slow")))
    assert len(bench.port.submitted) == 2, "as it is not done yet, it is proposed once more"
    bench.fire(STAGE)
    assert bench.fire(STAGE) == [("ann", Result(5, b"2:2 slow"))]
    bench.commit(put(1, 1, b"2 slow"))
    assert bench.settle() == [("ann again", Result(6, b"2:2 slow"))]


def test_a_full_disk_holds_it_up_and_loses_nothing(bench: Bench) -> None:
    assert isinstance(bench.machine, Staged)
    bench.commit(put(1, 1, b"3 slow"))
    bench.fire(STAGE)
    bench.machine.is_full = True
    bench.fire(STAGE)
    before = list(bench.machine.commands)
    for _ in range(3):
        bench.fire(STAGE)
        assert bench.port.timers[STAGE] == FULL_S
    assert bench.machine.commands == before, "no step without space for the one before"
    bench.request("bob", query(1, serializable=True))
    [(_, refused)] = bench.settle()
    assert isinstance(refused, Failure)
    assert refused.code is Code.STORAGE
    bench.machine.is_full = False
    bench.fire(STAGE)
    assert not bench.replica.is_midway
    assert bench.machine.commands == [b"0 of 3 slow", b"1 of 3 slow", b"3 slow"]


# --- what time it is ---


class Timed(Journaling):
    keeps_time: ClassVar[bool] = True

    def passes(self, wall_ns: int) -> None:
        self.commands.append(b"at %d" % wall_ns)


class WithClock(RecordingPort):
    wall_ns = 77


def test_the_leader_says_once_after_a_change_what_time_it_is() -> None:
    port: Any = WithClock()
    clocks = Clocks(2)
    clocks.settle(port)
    assert port.timers == {}
    clocks.changed()
    clocks.settle(port)
    clocks.settle(port)
    assert port.timers == {CLOCK: EVERY_S}
    clocks.on_timer(port, 3)
    assert port.submitted == [], "another leads"
    clocks.settle(port)
    clocks.on_timer(port, 2)
    assert port.submitted == [encode(Clock(77))]
    clocks.told()
    port.timers.clear()
    clocks.settle(port)
    assert port.timers == {}


def test_the_log_tells_every_machine() -> None:
    bench = Bench()
    bench.machine = Timed()
    bench.replica = type(bench.replica)(bench.machine, clock_of=2)
    bench.replica.port = bench.port
    bench.commit(OpenSession(7), put(1, 1, b"x"), Clock(50))
    bench.settle()
    assert CLOCK not in bench.port.timers
    bench.commit(put(1, 2, b"y"))
    bench.settle()
    assert CLOCK in bench.port.timers
    assert bench.machine.commands == [b"x", b"at 50", b"y"]
