"""Lock and Election by random programs against a plain model; Barrier likewise; fencing tokens and leases."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.objects import Barrier, Election, Holder, Lock, StaleToken
from quorate.objects.arguments import NAME_CHARS_MAX

from tests.objects.replicas import RESTART, WAIT, Pair, run


class LeaseModel:
    """All grants that there ever were; the last one counts if nothing ended it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.grants: list[Holder] = []
        self.given_back: set[int] = set()

    def acquire(self, name: str, ttl_s: float) -> int | None:
        if self.grants and self.grants[-1].ends_s > self.now and self.grants[-1].token not in self.given_back:
            return None
        self.grants.append(Holder(name, len(self.grants) + 1, self.now + ttl_s))
        return len(self.grants)

    def require(self, token: int) -> Holder:
        if (
            not self.grants
            or token != len(self.grants)
            or token in self.given_back
            or self.grants[-1].ends_s <= self.now
        ):
            raise StaleToken
        return self.grants[-1]

    def renew(self, token: int, ttl_s: float) -> None:
        self.grants[-1] = self.require(token)._replace(ends_s=self.now + ttl_s)

    def release(self, token: int) -> None:
        self.require(token)
        self.given_back.add(token)

    def holder(self) -> Holder | None:
        return self.grants[-1] if self.grants and len(self.grants) not in self.given_back else None

    def observe(self, token: int) -> bool:
        return token == len(self.grants) and self.holder() is not None

    campaign, resign, leader = acquire, release, holder


names, spans, tokens = st.sampled_from(["a", "b"]), st.sampled_from([1, 2.5, 10]), st.integers(0, 8)


def programs(acquire: str, release: str, *reads: tuple[str, Any]) -> Any:
    steps = [
        st.tuples(st.just(acquire), st.tuples(names, spans)),
        st.tuples(st.just(release), st.tuples(tokens)),
        st.tuples(st.just("renew"), st.tuples(tokens, spans)),
        st.tuples(st.just(WAIT), st.tuples(st.sampled_from([0.5, 1, 5]))),
        *(st.tuples(st.just(name), arguments) for name, arguments in reads),
        st.just((RESTART, ())),
    ]
    return st.lists(st.one_of(steps[0], *steps), max_size=30)


@given(programs("acquire", "release", ("holder", st.just(()))))
@settings(max_examples=80, deadline=None)
def test_a_lock_has_one_holder_at_a_time(program: Any) -> None:
    run(Lock, LeaseModel(), program)


@given(programs("campaign", "resign", ("leader", st.just(())), ("observe", st.tuples(tokens))))
@settings(max_examples=80, deadline=None)
def test_an_election_has_one_leader_at_a_time(program: Any) -> None:
    run(Election, LeaseModel(), program)


class BarrierModel:
    def __init__(self) -> None:
        self.full: list[list[str]] = []
        self.here: list[str] = []
        self.parties = 0

    def arrive(self, party: str, parties: int) -> int:
        if not self.here:
            self.parties = parties
        if parties != self.parties:
            raise ValueError
        generation = len(self.full)
        self.here += [] if party in self.here else [party]
        if len(self.here) == parties:
            self.full.append(self.here)
            self.here = []
        return generation

    def leave(self, party: str) -> bool:
        was_here = party in self.here
        self.here = [other for other in self.here if other != party]
        return was_here

    def is_open(self, generation: int) -> bool:
        return generation < len(self.full)

    def waiting(self) -> list[str]:
        return self.here


parties = st.sampled_from(["a", "b", "c", "d"])
arrivals = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.tuples(parties, st.sampled_from([3, 3, 3, 1, 2]))),
        st.tuples(st.just("leave"), st.tuples(parties)),
        st.tuples(st.just("is_open"), st.tuples(st.integers(0, 5))),
        st.sampled_from([("waiting", ()), (RESTART, ())]),
    ),
    max_size=30,
)


@given(arrivals)
@settings(max_examples=80, deadline=None)
def test_a_barrier_opens_when_all_have_arrived(program: Any) -> None:
    run(Barrier, BarrierModel(), program)


def test_a_holder_that_stalled_is_refused() -> None:
    lock = Pair(Lock)
    assert lock.call("acquire", "a", 10) == 1
    assert lock.call("acquire", "a", 10) is None  # not reentrant: the name is no proof
    assert lock.call("holder") == Holder("a", 1, lock.now + 10)
    lock.wait(10)
    for method in ("renew", "release"):
        with pytest.raises(StaleToken, match="the lease of token 1 has ended"):
            lock.call(method, 1)
    assert lock.call("acquire", "b", 10) == 2
    for method in ("renew", "release"):
        with pytest.raises(StaleToken, match="token 1 holds nothing"):
            lock.call(method, 1)
    lock.call("release", 2)
    assert lock.call("holder") is None
    assert lock.call("acquire", "a", 10) == 3


def test_names_and_leases_that_are_none_are_refused_in_words() -> None:
    lock, barrier = Pair(Lock), Pair(Barrier)
    with pytest.raises(TypeError, match="owner is a str, not int"):
        lock.call("acquire", 1)
    for name in ("", "x" * (NAME_CHARS_MAX + 1)):
        with pytest.raises(ValueError, match=f"owner has 1 to {NAME_CHARS_MAX} characters, not {len(name)}"):
            lock.call("acquire", name)
    with pytest.raises(ValueError, match=r"ttl_s is 0\.001 to"):
        lock.call("acquire", "a", 0)
    assert barrier.call("arrive", "a", 3) == 0
    with pytest.raises(ValueError, match="1 parties wait here for 3 in all, not for 2"):
        barrier.call("arrive", "b", 2)
    with pytest.raises(ValueError, match="parties is at most"):
        barrier.call("arrive", "b", 10**9)
