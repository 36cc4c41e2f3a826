"""Alarm against a plain deadline, with a shell that keeps one timer: it rings once, on time, never late."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.kernel import Core, Fired, Host, Received
from quorate.parts.alarm import Alarm
from quorate.sim.chance import streams


class PutOff(msgspec.Struct, frozen=True):
    delay: float


class Stop(msgspec.Struct, frozen=True):
    pass


class Sleeper(Core):
    """Has one Alarm, and delivers the time when it rings."""

    messages = (PutOff, Stop)

    def __init__(self, env):
        super().__init__(env)
        self.alarm = Alarm(env, "wake")

    def on_put_off(self, sender, message):
        self.alarm.put_off(message.delay)

    def on_stop(self, sender, message):
        self.alarm.stop()

    def on_timer(self, key):
        assert key == self.alarm.key
        if self.alarm.is_due():
            self.env.deliver(self.env.now)


class Clock:
    """A Sleeper and the one timer that its shell keeps."""

    def __init__(self):
        self.host = Host(Sleeper, 1, (1,), streams(0))
        self.now = 0.0
        self.at = None
        self.sets = 0
        self.rung = []

    def step(self, item):
        turn = self.host.step([item], self.now)
        for timer in turn.timers:
            self.at = timer.at
            self.sets += 1
        self.rung += turn.outputs

    def advance(self, seconds, late=0.0):
        """Time goes on; a timer that runs out on the way fires, ``late`` seconds after its time."""
        end = self.now + seconds
        while self.at is not None and self.at + late <= end:
            self.now, self.at = max(self.now, self.at + late), None
            self.step(Fired("wake"))
        self.now = end

    def put_off(self, delay):
        self.step(Received(1, PutOff(delay)))

    @property
    def is_set(self):
        return self.host.root.alarm.is_set


def test_it_rings_once_and_on_time():
    clock = Clock()
    clock.put_off(5.0)
    assert clock.is_set
    clock.advance(100.0)
    assert clock.rung == [5.0]
    assert not clock.is_set


def test_putting_off_sets_no_timer():
    """The point of it: a thousand messages of the leader cost two timers."""
    clock = Clock()
    for _ in range(1000):
        clock.put_off(5.0)
        clock.advance(0.005)
    clock.advance(100.0)
    assert clock.rung == [pytest.approx(999 * 0.005 + 5.0)]
    assert clock.sets <= 3


def test_an_earlier_deadline_takes_effect():
    clock = Clock()
    clock.put_off(50.0)
    clock.put_off(1.0)
    clock.advance(100.0)
    assert clock.rung == [1.0]


def test_stop_and_start_again():
    clock = Clock()
    clock.put_off(2.0)
    clock.step(Received(1, Stop()))
    assert not clock.is_set
    clock.advance(10.0)
    assert clock.rung == []
    clock.put_off(2.0)
    clock.advance(10.0)
    assert clock.rung == [12.0]


def test_a_timer_that_nobody_set_rings_nothing():
    clock = Clock()
    clock.step(Fired("wake"))
    assert (clock.rung, clock.at) == ([], None)


# Multiples of 1/4 add up exactly.
quarters = st.integers(1, 40).map(lambda n: n / 4)
steps = st.lists(
    st.one_of(st.tuples(st.just("put_off"), quarters), st.tuples(st.just("advance"), quarters), st.just(("stop", 0)))
)


@given(steps, st.sampled_from([0.0, 0.25, 1.0]))
def test_against_a_plain_deadline(steps, late):
    """``late`` is how late the shell's timers are: the alarm may add nothing to it."""
    clock, deadline, rings = Clock(), None, 0
    for verb, seconds in [*steps, ("advance", 100.0)]:
        if verb == "put_off":
            clock.put_off(seconds)
            deadline = clock.now + seconds
        elif verb == "stop":
            clock.step(Received(1, Stop()))
            deadline = None
        else:
            before = len(clock.rung)
            clock.advance(seconds, late)
            if deadline is not None and (clock.now >= deadline + late or len(clock.rung) > before):
                rings += 1
                assert deadline <= clock.rung[-1] <= deadline + late
                deadline = None
        assert len(clock.rung) == rings
        assert clock.is_set == (deadline is not None)
