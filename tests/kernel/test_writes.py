"""Writes that take too long: what the WriteWatch counts, and what the Shell makes of it."""

from typing import Any

from quorate.kernel import Record
from quorate.kernel.turn import Turn
from quorate.kernel.writes import TICK_S, TICKS_MAX, WRITE_S_MAX, WriteWatch

from tests.kernel.cores import Puppet
from tests.kernel.machine import OneNode, Outputs


class Hearing(Outputs):
    """Hears of stalls."""

    def __init__(self, node: "Bench") -> None:
        super().__init__(node)
        self.heard: list[str | None] = []

    def stalled(self, why: str | None) -> None:
        self.heard.append(why)


class Bench(OneNode):
    """Lists what the Shell asks for in the matter of stalls."""

    app: Hearing

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.stalled: list[str | None] = []
        super().__init__(Puppet, 0, (0,))

    def make_app(self) -> Hearing:
        self.app = Hearing(self)
        return self.app

    def tick_later(self, delay_s: float) -> None:
        self.asked.append(delay_s)

    def writing(self) -> str:
        return "a write of 7 bytes"

    def stalls(self, why: str | None) -> None:
        self.stalled.append(why)

    def write(self) -> None:
        self.shell.act(Turn(records=[Record((), "r")]))

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.shell.tick()


HANGS = "the disk hangs: a write of 7 bytes"


def test_the_bound_is_as_many_ticks_as_it_says() -> None:
    assert TICK_S * TICKS_MAX == WRITE_S_MAX


def test_a_write_without_progress_is_a_stall_after_the_bound_and_not_before() -> None:
    bench = Bench()
    bench.write()
    assert bench.asked == [TICK_S]
    bench.ticks(TICKS_MAX)
    assert (bench.stalled, bench.shell.stalled_why) == ([], None)
    bench.ticks(1)
    assert bench.stalled == bench.app.heard == [HANGS]
    bench.ticks(5)
    assert bench.stalled == [HANGS], "said once"
    assert len(bench.asked) == 1 + TICKS_MAX + 6, "each tick asks for the next while something is not durable"


def test_what_becomes_durable_ends_the_stall_and_the_ticks() -> None:
    bench = Bench()
    bench.write()
    bench.ticks(TICKS_MAX + 1)
    bench.sync()
    assert bench.stalled == bench.app.heard == [HANGS, None]
    asked = len(bench.asked)
    bench.ticks(1)
    assert len(bench.asked) == asked, "nothing is written: nobody looks"
    bench.write()
    assert len(bench.asked) == asked + 1
    bench.ticks(TICKS_MAX)
    assert len(bench.stalled) == 2, "the count began anew"


def test_whatever_becomes_durable_puts_the_stall_off() -> None:
    bench = Bench()
    for _ in range(4):
        bench.write()
    for sequence in (1, 2, 3):
        bench.ticks(TICKS_MAX)
        bench.shell.durable(sequence)
    bench.ticks(TICKS_MAX)
    assert bench.stalled == []
    bench.ticks(1)
    assert bench.stalled == [HANGS]
    bench.shell.durable(4)
    assert bench.stalled == [HANGS, None]


def test_what_storage_says_itself_goes_first() -> None:
    bench = Bench()
    bench.write()
    bench.shell.reported("disk full")
    bench.ticks(TICKS_MAX + 3)
    assert bench.stalled == ["disk full"]
    bench.shell.reported(None)  # it takes records again, which is progress
    assert bench.stalled == ["disk full", None]
    bench.ticks(TICKS_MAX + 1)
    assert bench.stalled == ["disk full", None, HANGS]
    bench.shell.reported("disk full")
    assert bench.stalled[3:] == ["disk full"]


def test_a_write_that_is_durable_at_once_needs_no_ticks() -> None:
    watch = WriteWatch()
    watch.durable(3)
    assert not watch.wrote(3)
    assert watch.wrote(4)
    assert not watch.wrote(5), "they are under way"


def test_a_write_after_quiet_ticks_has_all_its_time() -> None:
    watch = WriteWatch()
    states: list[Any] = [watch.wrote(1)]
    for _ in range(TICKS_MAX):
        watch.tick()
    watch.durable(1)
    states.append(watch.wrote(2))
    for _ in range(TICKS_MAX):
        watch.tick()
    assert states == [True, False]
    assert not watch.is_stuck


def test_what_was_durable_already_is_no_progress() -> None:
    watch = WriteWatch()
    watch.wrote(1)
    watch.durable(1)
    watch.wrote(2)
    for _ in range(TICKS_MAX + 1):
        watch.durable(1)
        watch.tick()
    assert watch.is_stuck
    watch.durable(2)
    assert not watch.is_stuck
