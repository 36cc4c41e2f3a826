"""Replicas with equal logs have equal state, whatever came between; hostile bytes and torn snapshots hurt none."""

import io
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.machines.kv import commands as kv
from quorate.machines.kv import refusals
from quorate.machines.kv.machine import KvMachine
from quorate.service.requests import (
    DECODE_ERRORS,
    Apply,
    CloseSession,
    Command,
    OpenSession,
    decode_log_command,
    decode_request,
    decode_response,
    decode_signed_command,
    encode,
)
from quorate.trials.mutants import MUTANTS, ForgetsSessions

from tests.service.replicas import Bench, command, put, query

MALFORMED = (refusals.malformed().code, refusals.malformed().message)

small = st.integers(0, 6)
commands = st.one_of(
    st.builds(OpenSession, small),
    st.builds(Apply, st.integers(0, 40), small, small, st.binary(max_size=2)),
    st.builds(CloseSession, st.integers(0, 40)),
)
entries = st.one_of(commands.map(encode), st.binary(max_size=12))
logs = st.lists(entries, max_size=40)


def replay(log: list[bytes], cuts: list[bool], kind: Any = None) -> Bench:
    """Apply a log in pieces; between some of them a snapshot is taken and restored by a fresh replica."""
    bench = Bench(sessions_max=3) if kind is None else Bench(kind, sessions_max=3)
    for position, entry in enumerate(log):
        bench.commit(entry)
        if position < len(cuts) and cuts[position]:
            bench.request("reader", query(position, serializable=True))
            data = bench.snapshot()
            bench.settle()
            bench = Bench(sessions_max=3) if kind is None else Bench(kind, sessions_max=3)
            bench.restore(data)
    return bench


@given(logs, st.lists(st.booleans(), max_size=40))
def test_equal_logs_make_equal_tables_with_snapshots_or_without(log: list[bytes], cuts: list[bool]) -> None:
    whole = Bench(sessions_max=3)
    if log:
        whole.commit(*log)
    assert replay(log, cuts).state() == whole.state()


@given(logs, st.lists(st.tuples(st.integers(0, 40), commands), max_size=30))
def test_what_clients_ask_of_one_node_does_not_change_its_state(
    log: list[bytes], requests: list[tuple[int, Any]]
) -> None:
    busy, idle = Bench(sessions_max=3), Bench(sessions_max=3)
    for position, entry in enumerate(log):
        for at, asked in requests:
            if at == position:
                busy.request("ann", command(at, asked))
                busy.request("ann", query(at, serializable=at % 2 == 0))
        busy.commit(entry)
        busy.settle()
        idle.commit(entry)
    assert busy.state() == idle.state()


def test_the_mutant_that_drops_sessions_is_seen() -> None:
    log = [encode(OpenSession(1)), encode(put(1, 1, b"a")), encode(put(1, 1, b"a"))]
    assert replay(log, []).machine.commands == [b"a"]
    assert replay(log, [False, True], ForgetsSessions).state() != replay(log, []).state()
    [mutant] = MUTANTS
    healthy = Bench()
    sick = mutant.app(healthy.replica)
    assert isinstance(sick, ForgetsSessions)
    assert sick.machine is healthy.machine


# --- hostile bytes ---


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\x90"


def with_extra(value: Any, extra: bytes) -> bytes:
    """An array_like Struct's encoding with one element more than it has fields."""
    data = bytearray(encode(value))
    data[0] += 1
    return bytes(data) + extra


@given(st.binary(max_size=300))
def test_decoders_raise_only_what_they_say(data: bytes) -> None:
    for decode in (decode_log_command, decode_signed_command, decode_request, decode_response):
        try:
            decode(data)
        except DECODE_ERRORS:
            continue


@settings(max_examples=300)
@given(commands, st.data())
def test_mutated_entries_and_requests_never_raise(sample: Any, data: st.DataObject) -> None:
    raw = bytearray(encode(sample))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    entry = bytes(raw)
    bench = Bench()
    bench.commit(OpenSession(1), entry, entry)
    bench.request("ann", Command(1, entry))
    bench.settle()
    assert bench.replica.applied_index == 3


@pytest.mark.parametrize("sample", [OpenSession(1), put(1, 1), CloseSession(1)], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("depth", [1, 100, 700, 900, 970, 990, 5000])
def test_an_entry_means_the_same_however_deep_the_stack_is(sample: Any, depth: int) -> None:
    """A decoder that skipped nested extras would give up at a depth that depends on who calls it."""
    entry = with_extra(sample, nested(depth))

    def state_after(frames: int) -> tuple[Any, ...]:
        if frames:
            return state_after(frames - 1)
        bench = Bench()
        bench.commit(OpenSession(1), entry)
        return bench.state()

    assert state_after(0) == state_after(300)


# --- snapshots ---


def full() -> Bench:
    bench = Bench()
    bench.commit(OpenSession(1), OpenSession(2), put(1, 1, b"a"), put(2, 1, b"b"), put(1, 2, b"c", 2))
    return bench


def test_a_snapshot_cut_short_anywhere_is_a_value_error_and_changes_nothing() -> None:
    data = full().snapshot()
    bench = Bench()
    bench.commit(OpenSession(7), put(1, 1, b"mine"))
    before = bench.state()
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r".+"):
            bench.replica.restore(io.BytesIO(data[:length]))
    assert bench.state() == before
    bench.restore(data)
    assert bench.state() == full().state()


@given(st.data())
def test_a_corrupt_snapshot_is_a_value_error_or_another_state_but_nothing_else(data: st.DataObject) -> None:
    raw = bytearray(full().snapshot())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    bench = Bench()
    before = bench.state()
    with suppress(ValueError):
        bench.replica.restore(io.BytesIO(bytes(raw)))
    assert bench.state() == before  # not adopted


def test_what_is_loaded_aside_is_adopted_only_when_told() -> None:
    bench = Bench()
    bench.commit(OpenSession(3))
    before = bench.state()
    adopt = bench.replica.restore(io.BytesIO(full().snapshot()))
    assert bench.state() == before
    adopt()
    assert bench.state() == full().state()
    bench.commit(put(2, 2, b"d"))
    assert bench.machine.commands == [b"a", b"b", b"c", b"d"]


def test_a_snapshot_is_of_the_moment_it_was_taken() -> None:
    bench = full()
    write = bench.replica.snapshot()
    before = bench.state()
    bench.commit(put(1, 3, b"later"))
    file = io.BytesIO()
    write(file)
    other = Bench()
    other.restore(file.getvalue())
    assert other.state() == before


@pytest.mark.parametrize(
    "sample", [kv.Put(b"k", b"v"), kv.DeleteRange(b"k"), kv.Compact(1), kv.Txn([], [])], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("depth", [1, 700, 900, 5000])
def test_a_command_of_the_store_means_the_same_however_deep_the_stack_is(tmp_path, sample: Any, depth: int) -> None:
    fields = tuple(getattr(sample, name) for name in sample.__struct_fields__)
    whole = bytearray(msgspec.msgpack.encode((sample.__struct_config__.tag, *fields)))
    whole[0] += 1
    machine = KvMachine.opened(tmp_path)

    def answer_after(frames: int) -> bytes:
        return answer_after(frames - 1) if frames else machine.apply(bytes(whole) + nested(depth))

    assert kv.decode_result(answer_after(0)) == kv.decode_result(answer_after(300)) == kv.Error(*MALFORMED)
    machine.close()
