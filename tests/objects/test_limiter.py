"""RateLimiter: exact in every span, whatever the program; memory is bounded and old keys go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.objects import Full, RateLimiter
from quorate.objects.limiter import SLICES

from tests.objects.replicas import Pair

steps = st.one_of(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.sampled_from([0.004, 0.01, 0.25, 0.5, 0.99, 1.0, 1.01, 3.0])),
    st.just(("restart", 0)),
)


@given(st.lists(steps, max_size=60), st.integers(3, 6))
@settings(max_examples=120, deadline=None)
def test_no_span_has_more_than_the_limit_and_none_is_refused_long(program: list[Any], limit: int) -> None:
    pair = Pair(RateLimiter)
    pair.call("configure", limit, 1.0)
    passed: dict[str, list[float]] = {"a": [], "b": []}
    for what, amount in program:
        if what == "wait":
            pair.wait(amount)
        elif what == "restart":
            pair.restart()
        else:
            is_allowed = pair.call("allow", what, amount)
            # Floats near 1.8e9 are 0.2 microseconds apart.
            within = [t for t in passed[what] if t > pair.now - 1.0 + 1e-5]
            lately = [t for t in passed[what] if t > pair.now - 1.0 - 1.0 / SLICES - 1e-5]
            if is_allowed:
                assert len(within) + amount <= limit, "more than the limit in one span"
                passed[what] += [pair.now] * amount
            else:
                assert len(lately) + amount > limit, "refused though there was room"
    pair.restart()
    state = pair.state
    assert set(state.places) == set(state.passed) == {key for _, key in state.newest}
    assert all(len(slices) <= SLICES + 1 for slices in state.passed.values())


def test_of_300_requests_at_a_limit_of_100_exactly_100_pass() -> None:
    pair = Pair(RateLimiter)
    answers = []
    for number in range(300):
        pair.wait(0.19)  # 57 of the 60 seconds
        answers.append(pair.call("allow", "client"))
        if number == 150:
            pair.restart()
    assert answers == [True] * 100 + [False] * 200
    pair.wait(60 + 60 / SLICES)
    assert pair.call("allow", "client", 100)
    assert not pair.call("allow", "client")
    assert pair.call("allow", "another")
    assert pair.call("forget", "client")
    assert pair.call("allow", "client", 100)


@pytest.mark.parametrize("others", [[], ["A", "B"]])
def test_a_request_counts_until_its_slice_is_older_than_the_span(others: list[str]) -> None:
    pair = Pair(RateLimiter)
    pair.call("configure", 2, 1.0)
    began = pair.now
    assert pair.call("allow", "a")  # at the very start of a slice
    pair.now = round(began + 0.0099, 6)
    assert pair.call("allow", "a")  # at its end
    for key in others:
        assert pair.call("allow", key)
    for later in (0.99, 1.0, 1.0001, 1.0099):
        pair.now = round(began + later, 6)
        assert not pair.call("allow", "a"), f"{later} s after the first, less than 1 s after the second"
    pair.now = round(began + 1.0101, 6)
    assert pair.call("allow", "a", 2)


def test_another_span_begins_anew_and_another_limit_does_not() -> None:
    pair = Pair(RateLimiter)
    assert pair.call("allow", "a", 100)
    pair.call("configure", 150, 60.0)
    assert [pair.call("allow", "a", 50), pair.call("allow", "a")] == [True, False]
    pair.call("configure", 150, 30.0)
    assert pair.call("__len__") == 0
    assert pair.call("allow", "a", 150)
    pair.restart()


def test_old_keys_are_forgotten_and_new_ones_are_bounded() -> None:
    pair = Pair(RateLimiter)
    pair.call("configure", 2, 1.0, 5)
    for number in range(5):
        assert pair.call("allow", f"k{number}")
        pair.wait(0.1)
    with pytest.raises(Full, match=r"5 keys had requests in the last 1.0 seconds, and keys_max is 5: raise it"):
        pair.call("allow", "new")
    assert pair.call("allow", "k0"), "a key that is known still passes"
    pair.wait(0.65)  # k1 counts no more; k0 was active
    assert pair.call("allow", "new")
    assert set(pair.state.passed) == {"k0", "k2", "k3", "k4", "new"}
    pair.wait(5)
    for _ in range(3):
        assert pair.call("allow", "new")
        pair.wait(1)
    assert pair.call("__len__") == 1
    pair.restart()


def test_what_can_never_pass_is_refused_in_words() -> None:
    pair = Pair(RateLimiter)
    with pytest.raises(ValueError, match="n is at most 100, not 101"):
        pair.call("allow", "a", 101)
    for bad in (0, -1):
        with pytest.raises(ValueError, match="n is at least 1"):
            pair.call("allow", "a", bad)
    with pytest.raises(TypeError, match="key is a str, not list"):
        pair.call("allow", ["a"])
    with pytest.raises(ValueError, match=r"per_s is 0\.01 to"):
        pair.call("configure", 10, 0)
    assert pair.state.limit == 100, "a refused command changes nothing"
