"""What a command may cost: more is a definite error, with the state as it was; no command ends a replica."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, assume, given, settings

from quorate.machines.kv.commands import (
    COMMAND_BYTES_MAX,
    Compact,
    Compare,
    DeleteRange,
    Digest,
    Error,
    Events,
    Put,
    Range,
    Relation,
    Target,
    Txn,
    decode_result,
    encode,
)
from quorate.machines.kv.costs import COMMAND_KEYS_MAX, COMMAND_READ_BYTES_MAX
from quorate.machines.kv.machine import KvMachine
from quorate.machines.state_machine import RESULT_BYTES_MAX

from tests.machines.kv_model import ANSWER_TOO_LARGE, OLD_RANGE, apply, ask, digest, fill, snapshot_bytes

TOO_MUCH = Error(
    8,
    "quorate: one command reads or deletes at most 2048 keys and reads at most 16 MiB: do it in several, a page of "
    "keys at a time",
)
ALL = (b"\0", b"\0")


def everything(machine: KvMachine) -> tuple[Any, ...]:
    """The state, and what an index holds of it."""
    index = machine.store.index
    live = [(key, index.get(key)) for key in index.live_keys(*ALL)]
    return digest(machine), snapshot_bytes(machine), index.live_count(*ALL), index.count(*ALL), live


def test_a_hundred_full_ranges_are_refused(machine: KvMachine) -> None:
    """They once ended every node, and again at each restart."""
    fill(machine, 20, bytes(100_000))
    before = everything(machine)
    poison = Txn([], [Put(b"z", b"1"), *[Range(*ALL)] * 127])
    assert apply(machine, poison) == ANSWER_TOO_LARGE
    assert everything(machine) == before


def test_what_a_transaction_did_is_rolled_back(machine: KvMachine) -> None:
    """New keys, old ones, one that was deleted before; deletions of old ones and of what it wrote itself."""
    fill(machine, 30, bytes(100_000))
    apply(machine, Put(b"gone", b"1", 7))
    apply(machine, Put(b"gone", b"2", 8))
    apply(machine, DeleteRange(b"gone"))
    apply(machine, Put(b"back", b"1"))
    apply(machine, DeleteRange(b"back"))
    apply(machine, Put(b"back", b"2"))
    before = everything(machine)
    done: list[Any] = [
        DeleteRange(b"k000003"),
        DeleteRange(b"back"),
        Put(b"a new", b"x"),
        Put(b"gone", b"3", 9),
        Put(b"k000001", b"y"),
        DeleteRange(b"k000005", b"k000009"),
        Txn([], [Put(b"inside", b"z"), DeleteRange(b"k000004")]),
    ]
    assert apply(machine, Txn([], [*done, Range(*ALL)])) == ANSWER_TOO_LARGE
    assert everything(machine) == before
    assert apply(machine, Txn([], [*done, Range(*ALL, 1)])).succeeded, "the same that asks for less"
    assert ask(machine, Range(b"gone")).kvs[0].version == 1
    assert ask(machine, Range(b"k000001")).kvs[0].version == 2


def test_deletions_are_of_a_page_of_keys(machine: KvMachine) -> None:
    fill(machine, COMMAND_KEYS_MAX + 1)
    before = everything(machine)
    assert apply(machine, DeleteRange(*ALL)) == TOO_MUCH
    halves: list[Any] = [DeleteRange(b"\0", b"k001000"), DeleteRange(b"k001000", b"\0")]
    assert apply(machine, Txn([], halves)) == TOO_MUCH
    assert everything(machine) == before
    assert apply(machine, DeleteRange(b"k000000")).deleted == 1
    assert apply(machine, DeleteRange(*ALL)).deleted == COMMAND_KEYS_MAX


def test_a_command_reads_a_page_of_keys(machine: KvMachine) -> None:
    fill(machine, COMMAND_KEYS_MAX + 1)
    assert apply(machine, Txn([], [Range(*ALL, keys_only=True)])) == TOO_MUCH
    assert apply(machine, Txn([], [Range(*ALL, 500, keys_only=True)] * 5)) == TOO_MUCH
    assert apply(machine, Txn([], [Range(*ALL, 500, keys_only=True)] * 4)).results[3].more
    assert ask(machine, Txn([], [Range(*ALL, keys_only=True)])).results[0].count == COMMAND_KEYS_MAX + 1


def test_a_command_reads_so_many_bytes(machine: KvMachine) -> None:
    """Though its result has none of them."""
    large = bytes(1 << 20)
    for number in range(COMMAND_READ_BYTES_MAX // len(large) + 1):
        apply(machine, Put(b"%02d" % number, large))
    assert apply(machine, Txn([], [Range(*ALL, keys_only=True)])) == TOO_MUCH
    compares = [Compare(b"%02d" % number, Target.VALUE, Relation.EQUAL, b"") for number in range(17)]
    never = Compare(b"none", Target.VERSION, Relation.GREATER, 1)
    assert apply(machine, Txn(compares, [])).succeeded is False
    greater = [Compare(c.key, Target.VALUE, Relation.NOT_EQUAL, b"") for c in compares]
    assert apply(machine, Txn(greater, [])) == TOO_MUCH
    assert apply(machine, Txn([*greater[:15], never], [])).succeeded is False
    assert ask(machine, Txn(greater, [])) == TOO_MUCH
    assert apply(machine, DeleteRange(*ALL, prev_kv=True)) == ANSWER_TOO_LARGE
    assert ask(machine, Range(*ALL, count_only=True)).count == 17


def test_compares_count_as_operations(machine: KvMachine) -> None:
    compare = Compare(b"a", Target.MOD, Relation.EQUAL, 0)
    inner = Txn([compare] * 50, [])
    assert apply(machine, Txn([], [inner] * 20)).succeeded
    assert apply(machine, Txn([], [inner] * 21)) == Error(3, "etcdserver: too many operations in txn request")


def test_a_command_reads_ranges_of_the_current_revision(machine: KvMachine) -> None:
    fill(machine, 3)
    before = everything(machine)
    assert apply(machine, Txn([], [Put(b"x", b"1"), Range(b"k", b"l", revision=2)])) == OLD_RANGE
    assert everything(machine) == before
    assert apply(machine, Txn([], [Range(b"k", b"l", revision=4)])).results[0].count == 3
    assert apply(machine, Txn([], [Range(b"k000000", revision=2)])).results[0].count == 1
    assert ask(machine, Txn([], [Range(b"k", b"l", revision=2)])).results[0].count == 1


def test_a_node_need_not_propose_what_is_refused_anyhow(machine: KvMachine) -> None:
    deep = Txn([], [])
    for _ in range(9):
        deep = Txn([], [deep])
    for refused in (deep, Txn([], [Range(b"k")] * 129), Txn([], [Put(b"", b"")])):
        assert machine.refuses(encode(refused)) == machine.apply(encode(refused))
        assert isinstance(decode_result(machine.apply(encode(refused))), Error)
    for fine in (Put(b"k", b"v"), DeleteRange(*ALL), Txn([], [Range(*ALL)]), Compact(1)):
        assert machine.refuses(encode(fine)) is None
    for bytes_ in (b"", b"\x93", b"\x93\x04", bytes(100)):
        machine.refuses(bytes_)


KEY = st.integers(0, 60).map(lambda number: b"k%06d" % number)
END = st.one_of(st.just(b""), st.just(b"\0"), st.just(b"l"), KEY)
SIZE = st.sampled_from([0, 1, 1000, 60_000, 1_500_000])
PUT = st.builds(Put, KEY, SIZE.map(bytes), st.just(0), st.booleans())
DELETE = st.builds(DeleteRange, KEY, END, st.booleans())
RANGE = st.builds(Range, KEY, END, st.sampled_from([0, 0, 1, 20]), st.just(0), st.booleans(), st.booleans())
COMPARE = st.builds(Compare, KEY, st.just(Target.VALUE), st.sampled_from(Relation), SIZE.map(bytes))


@st.composite
def all_sizes(draw: st.DrawFn, depth: int = 2) -> Txn:
    """Transactions from small to far too large: some operations many times over."""
    inner = [all_sizes(depth - 1)] if depth else []
    repeated = st.tuples(st.one_of(PUT, DELETE, RANGE, RANGE, *inner), st.sampled_from([1, 1, 1, 5, 100, 129]))
    branch = st.lists(repeated, max_size=3).map(lambda many: [op for op, times in many for _ in range(times)])
    compare = st.lists(COMPARE, max_size=3)
    txn = Txn(draw(compare), draw(branch), draw(branch))
    assume(size_of(txn) < 2 * COMMAND_BYTES_MAX)  # or this test is too much
    return txn


def size_of(operation: Any) -> int:
    """About what it takes encoded."""
    if isinstance(operation, Txn):
        parts = (*operation.compare, *operation.success, *operation.failure)
        return 5 + sum(map(size_of, parts))
    if isinstance(operation, Compare):
        return len(operation.operand) if isinstance(operation.operand, bytes) else 20
    return 30 + (len(operation.value) if isinstance(operation, Put) else 0)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(commands=st.lists(st.one_of(PUT, DELETE, all_sizes()), min_size=1, max_size=4))
def test_no_command_is_too_much(tmp_path: Path, commands: list[Any]) -> None:
    """The results are those of another replica, are small enough to be sent, and an error changes nothing."""
    machine, other = (KvMachine.opened(tmp_path / name) for name in ("machine", "other"))
    try:
        for filled in (machine, other):
            fill(filled, 50, bytes(50_000))
        other.begin()
        for command in commands:
            data = encode(command)
            revision = machine.store.revision
            result = machine.apply(data)
            assert result == other.apply(data)
            assert len(result) <= RESULT_BYTES_MAX
            if isinstance(decode_result(result), Error):
                assert machine.store.revision == revision
            for query in (command, Range(*ALL), Range(*ALL, keys_only=True), Events(1)):
                assert len(machine.query(encode(query))) <= RESULT_BYTES_MAX
        other.commit()
        assert ask(machine, Digest()) == ask(other, Digest())
    finally:
        machine.close()
        other.close()
