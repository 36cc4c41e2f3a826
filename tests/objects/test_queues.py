"""Queue and PriorityQueue by random programs against a plain list of jobs; leases, fencing tokens and bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.objects import Delivery, Full, PriorityQueue, Queue, StaleToken
from quorate.objects.queues import RECLAIMED_MAX

from tests.objects.replicas import RESTART, WAIT, Pair, run


class Model:
    """Jobs in a list, in the order in which they are to be taken; everything is looked for."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.size_max = 100_000
        self.line: list[tuple[int, int]] = []  # priority, number
        self.jobs: dict[int, tuple[Any, int]] = {}  # job, priority
        self.attempts: list[int] = []  # a number for each attempt
        self.leases: dict[int, tuple[float, int]] = {}  # by token, end and number
        self.tokens = 0
        self.numbers = 0

    def put(self, job: Any, priority: int = 0) -> int:
        if len(self.jobs) >= self.size_max:
            raise Full
        self.numbers += 1
        self.jobs[self.numbers] = job, priority
        self.enter(self.numbers)
        return self.numbers

    def enter(self, number: int) -> None:
        self.line.append((self.jobs[number][1], number))
        self.line.sort(key=lambda entry: entry[0])  # stable

    def configure(self, size_max: int) -> None:
        self.size_max = size_max

    def take(self, lease_s: float) -> Delivery | None:
        ended = sorted((end, token) for token, (end, _) in self.leases.items() if end <= self.now)
        for _, token in ended[:RECLAIMED_MAX]:
            self.enter(self.leases.pop(token)[1])
        if not self.line:
            return None
        number = self.line.pop(0)[1]
        self.tokens += 1
        self.leases[self.tokens] = self.now + lease_s, number
        self.attempts.append(number)
        return Delivery(self.tokens, number, self.jobs[number][0], self.attempts.count(number))

    def held(self, token: int) -> int:
        end, number = self.leases.get(token, (0.0, 0))
        if end <= self.now:
            raise StaleToken
        return number

    def renew(self, token: int, lease_s: float) -> None:
        self.leases[token] = self.now + lease_s, self.held(token)

    def ack(self, token: int) -> None:
        del self.jobs[self.held(token)]
        del self.leases[token]

    def nack(self, token: int) -> None:
        number = self.held(token)
        del self.leases[token]
        self.enter(number)

    def __len__(self) -> int:
        return len(self.jobs)

    def waiting(self) -> int:
        return len(self.line)


tokens = st.integers(1, 12)
spans = st.sampled_from([1, 2.5, 10])


def programs(*put: Any) -> Any:
    steps = [
        st.tuples(st.just("put"), st.tuples(st.sampled_from(["a", ["b"], {"c": 1}]), *put)),
        st.tuples(st.just("take"), st.tuples(spans)),
        st.tuples(st.just("ack"), st.tuples(tokens)),
        st.tuples(st.just("nack"), st.tuples(tokens)),
        st.tuples(st.just("renew"), st.tuples(tokens, spans)),
        st.tuples(st.just(WAIT), st.tuples(st.sampled_from([0.5, 1, 5]))),
        st.tuples(st.just("configure"), st.tuples(st.integers(1, 8))),
        st.sampled_from([("__len__", ()), ("waiting", ()), (RESTART, ())]),
    ]
    weighted = [steps[0], steps[0], steps[1], steps[1], *steps[2:]]
    return st.lists(st.one_of(*weighted), max_size=40)


def check(kind: type[Any], program: Any) -> None:
    model = Model()
    pair = run(kind, model, program)
    # Everything that was put and not acknowledged is still to be had.
    pair.wait(100)
    model.now = pair.now
    left = []
    for _ in range(2 * len(model.jobs)):  # each take ends several leases
        expected = model.take(1000)
        assert pair.call("take", 1000) == expected
        left += [expected.number] if expected else []
    assert sorted(left) == sorted(model.jobs)
    for token in list(model.leases):
        pair.call("ack", token)
    assert pair.call("__len__") == pair.call("waiting") == 0
    state = pair.state
    kept = {name: found for name, found in vars(state).items() if isinstance(found, list | dict)}
    assert not any(kept.values()), "something is left of jobs that are gone"
    pair.restart()


@given(programs())
@settings(max_examples=120, deadline=None)
def test_a_queue_is_first_in_first_out_and_loses_nothing(program: Any) -> None:
    check(Queue, program)


@given(programs(st.integers(-1, 2)))
@settings(max_examples=120, deadline=None)
def test_a_priority_queue_has_the_lowest_number_first_and_loses_nothing(program: Any) -> None:
    check(PriorityQueue, program)


@pytest.mark.parametrize("kind", [Queue, PriorityQueue])
def test_a_worker_whose_lease_has_ended_is_refused(kind: type[Any]) -> None:
    queue = Pair(kind)
    assert queue.call("put", "build") == 1
    first = queue.call("take", 10)
    assert first == Delivery(token=1, number=1, job="build", attempt=1)
    queue.wait(9)
    assert queue.call("take", 10) is None
    queue.call("renew", 1, 10)
    queue.wait(10)
    with pytest.raises(StaleToken, match="the lease of token 1 has ended, and its job goes to another"):
        queue.call("ack", 1)
    assert queue.call("take", 10) == Delivery(token=2, number=1, job="build", attempt=2)
    for method in ("ack", "nack", "renew"):
        with pytest.raises(StaleToken, match="token 1 stands for no job"):
            queue.call(method, 1)
    queue.call("ack", 2)
    assert queue.call("__len__") == 0


def test_a_full_queue_says_so_and_takes_nothing() -> None:
    queue = Pair(Queue)
    queue.call("configure", 2)
    assert [queue.call("put", "a"), queue.call("put", "b")] == [1, 2]
    queue.call("take")
    with pytest.raises(Full, match=r"2 jobs and its size_max is 2: .* raise it with configure\(size_max\)"):
        queue.call("put", "c")
    queue.call("ack", 1)
    assert queue.call("put", "c") == 3
    with pytest.raises(ValueError, match="size_max is at least 1, not 0"):
        queue.call("configure", 0)


def test_what_is_no_priority_and_no_lease_is_refused_before_it_is_kept() -> None:
    queue = Pair(PriorityQueue)
    for bad in ("high", 0.5, None):
        with pytest.raises(TypeError, match="priority is an int"):
            queue.call("put", "a", bad)
    assert queue.call("put", "a", 5) == 1
    assert queue.call("put", "b", -5) == 2
    for bad in (0, -1, float("inf"), float("nan"), 1e300):
        with pytest.raises(ValueError, match=r"lease_s is 0\.001 to"):
            queue.call("take", bad)
    with pytest.raises(TypeError, match="lease_s is a number of seconds, not str"):
        queue.call("take", "10")
    assert [queue.call("take").job, queue.call("take").job] == ["b", "a"]


def test_a_command_on_a_long_queue_changes_little() -> None:
    """O(log n) changes: counted, not timed."""
    queue = Pair(PriorityQueue)
    for number in range(2000):
        queue.call("put", number, -number)
    tracker = queue.machines[0].state.tracker
    counts = []
    for method in ("take", "take", "put"):
        before = tracker.changes
        queue.call(method, *(["x", 5] if method == "put" else []))
        counts.append(tracker.changes - before)
    assert 0 < max(counts) < 60, counts
