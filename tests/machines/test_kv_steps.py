"""Queries in steps: an answer is of the state at the first step, whatever is applied, compacted and swept meanwhile."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from quorate.machines.kv import costs
from quorate.machines.kv.commands import (
    Compact,
    DeleteRange,
    Digest,
    Error,
    Events,
    Put,
    Range,
    Txn,
    decode_result,
    encode,
)
from quorate.machines.kv.machine import KvMachine
from quorate.machines.state_machine import RESULT_BYTES_MAX

from tests.machines.kv_model import ANSWER_TOO_LARGE, COMPARES, DELETES, KEYS, PUTS, apply, ask, fill, sweep


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "STEP_KEYS", 1)


def steps(machine: KvMachine, query: Any) -> tuple[Any, int]:
    """The answer, and in how many steps it was made."""
    running = machine.query_steps(encode(query))
    count = 1
    while True:
        try:
            next(running)
        except StopIteration as end:
            return decode_result(end.value), count
        count += 1


READS = st.builds(
    Range, KEYS, st.one_of(st.just(b"\0"), KEYS), st.integers(0, 4), st.integers(-1, 9), st.booleans(), st.booleans()
)
QUERIES = st.one_of(
    READS,
    st.builds(Txn, st.lists(COMPARES, max_size=2), st.lists(READS, max_size=3), st.lists(READS, max_size=2)),
    st.builds(Events, st.integers(1, 9), st.integers(-1, 5), st.booleans()),
    st.just(Digest()),
)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    before=st.lists(st.one_of(PUTS, DELETES), max_size=12),
    query=QUERIES,
    meanwhile=st.lists(st.one_of(PUTS, PUTS, DELETES, st.builds(Compact, st.integers(1, 9))), max_size=12),
)
def test_it_is_the_answer_that_it_would_be_at_once(
    small_steps: None, before: list[Any], query: Any, meanwhile: list[Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        machine = KvMachine.opened(Path(folder))
        for command in before:
            apply(machine, command)
        running = machine.query_steps(encode(query))
        expected, commands = ask(machine, query), iter(meanwhile)
        answer = None
        while answer is None:
            try:
                next(running)
            except StopIteration as end:
                answer = decode_result(end.value)
            if (command := next(commands, None)) is not None:
                apply(machine, command)  # it commits, and sweeps where no view forbids
            if isinstance(command, Compact):
                machine.commit()
        assert answer == expected
        sweep(machine)  # nothing holds it back any more
        machine.close()


def test_a_query_given_up_lets_go(machine: KvMachine, small_steps: None) -> None:
    fill(machine, 5)
    running = machine.query_steps(encode(Range(b"k", b"\0")))
    next(running)
    apply(machine, Compact(6))
    apply(machine, Put(b"k000000", b"w"))
    machine.commit()
    assert not machine.store.sweeping
    running.close()
    assert machine.store.sweeping
    sweep(machine)


@pytest.mark.parametrize("keys_only", [False, True])
def test_a_range_looks_at_what_it_returns(machine: KvMachine, keys_only: bool) -> None:
    """Twenty steps' worth of keys, of which it returns a few: at an old revision, too, and from page to page."""
    fill(machine, 20 * costs.STEP_KEYS)
    revision = machine.store.revision
    apply(machine, Put(b"other", b"1"))
    apply(machine, DeleteRange(b"k000007"))
    for old in (0, revision, revision - 1):
        answer, count = steps(machine, Range(b"k", b"l", 10, old, keys_only))
        assert (count, len(answer.kvs), answer.more) == (1, 10, True)
        keys = 20 * costs.STEP_KEYS + (-1 if old in (0, revision - 1) else 0)
        assert answer.count == keys
    assert steps(machine, Range(b"k", b"l", count_only=True))[1] == 1


def test_pages_of_a_revision_that_much_has_changed_since(machine: KvMachine) -> None:
    """The first page is of the newest revision; the others find their counts, though every key has changed."""
    keys = 6 * costs.STEP_KEYS
    fill(machine, keys)
    page = ask(machine, Range(b"k", b"l", 500))
    fill(machine, keys, b"w")
    fill(machine, keys, b"x")
    assert ask(machine, Range(b"k", b"l", 500, page.revision)).kvs == page.kvs
    left, after = keys - 500, page.kvs[-1].key
    while left:
        following, count = steps(machine, Range(after + b"\0", b"l", 500, page.revision))
        assert (following.count, following.more, count) == (left, left > 500, 1)
        assert all(kv.value == b"v" for kv in following.kvs)
        left -= len(following.kvs)
        after = following.kvs[-1].key


def test_a_count_that_nobody_knows_is_made_in_steps(machine: KvMachine) -> None:
    keys = 6 * costs.STEP_KEYS
    fill(machine, keys)
    revision = machine.store.revision
    fill(machine, keys, b"w")
    fill(machine, keys, b"x")
    answer, count = steps(machine, Range(b"k", b"l", revision=revision, count_only=True))
    assert (answer.count, count) == (keys, 7)


@pytest.mark.parametrize("query", [Range(b"k", b"l"), Txn([], [Range(b"k", b"kz")] * 3), Events(1, prev_kv=True)])
def test_an_answer_too_large_is_refused_while_it_is_made(machine: KvMachine, query: Any) -> None:
    fill(machine, 40, bytes(100_000))
    answer, count = steps(machine, query)
    assert answer == ANSWER_TOO_LARGE
    assert count <= 2 + RESULT_BYTES_MAX // costs.STEP_BYTES, "the rest is not looked at"


def test_the_largest_answer_is_as_large_as_a_node_sends(machine: KvMachine) -> None:
    fill(machine, 3, bytes(690_000))
    assert RESULT_BYTES_MAX - 30_000 < len(machine.query(encode(Range(b"k", b"l")))) <= RESULT_BYTES_MAX
    many = Txn([], [Range(b"k", b"l", 1, keys_only=True)] * 128)
    assert len(machine.query(encode(many))) <= 128 * 100


def test_steps_are_short(machine: KvMachine) -> None:
    """What a step looks at, in keys and bytes, whatever is asked."""
    fill(machine, 5 * costs.STEP_KEYS)
    for query in (Range(b"k", b"l", keys_only=True), Digest(), Events(1)):
        answer, count = steps(machine, query)
        assert not isinstance(answer, Error)
        assert count >= 5
    for number in range(8):
        apply(machine, Put(b"large%d" % number, bytes(1_000_000)))
    answer, count = steps(machine, Range(b"large", b"m", keys_only=True))
    assert (answer.count, count) == (8, 9), "one large value a step, and the end"
