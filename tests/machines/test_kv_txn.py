"""Transactions: what is refused (as etcd refuses it), and that a refused one changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quorate.machines.kv.commands import (
    Compact,
    Compare,
    DeleteRange,
    Error,
    Events,
    Put,
    Range,
    Relation,
    Target,
    Txn,
    decode_result,
)
from quorate.machines.kv.machine import KvMachine

from tests.machines.kv_model import COMPACTED, DUPLICATE, FUTURE, apply, ask, digest

TOO_MANY = Error(3, "etcdserver: too many operations in txn request")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[KvMachine]:
    machine = KvMachine.opened(tmp_path)
    apply(machine, Put(b"a", b"1"))
    yield machine
    machine.close()


def put(key: bytes) -> Put:
    return Put(key, b"v")


@pytest.mark.parametrize(
    "txn",
    [
        Txn([], [put(b"k"), put(b"k")]),
        Txn([], [], [put(b"k"), put(b"k")]),
        Txn([], [put(b"k"), DeleteRange(b"k")]),
        Txn([], [DeleteRange(b"a", b"z"), put(b"k")]),
        Txn([], [DeleteRange(b"a", b"\0"), put(b"k")]),
        Txn([], [put(b"k"), Txn([], [put(b"k")])]),
        Txn([], [Txn([], [put(b"k")]), Txn([], [], [put(b"k")])]),
        Txn([], [Txn([], [Txn([], [DeleteRange(b"k")])]), put(b"k")]),
        Txn([], [DeleteRange(b"k"), Txn([], [], [put(b"k")])]),
    ],
)
def test_a_key_changed_twice_is_refused(machine: KvMachine, txn: Txn) -> None:
    before = digest(machine)
    assert apply(machine, txn) == DUPLICATE
    assert digest(machine) == before


@pytest.mark.parametrize(
    "txn",
    [
        Txn([], [put(b"k")], [put(b"k")]),
        Txn([], [Txn([], [put(b"k")], [put(b"k")])]),
        Txn([], [DeleteRange(b"k"), DeleteRange(b"a", b"z")]),
        Txn([], [DeleteRange(b"a", b"k"), put(b"k")]),
        Txn([], [DeleteRange(b"k\0"), put(b"k")]),
        Txn([], [put(b"k"), Range(b"k"), put(b"k\0")]),
    ],
)
def test_what_looks_like_it_is_not(machine: KvMachine, txn: Txn) -> None:
    assert apply(machine, txn).succeeded


def test_the_operation_limit_counts_along_a_path(machine: KvMachine) -> None:
    reads: list[Any] = [Range(b"a")] * 128
    assert apply(machine, Txn([], reads)).succeeded
    assert apply(machine, Txn([], [*reads, Range(b"a")])) == TOO_MANY
    assert apply(machine, Txn([], [], [*reads, Range(b"a")])) == TOO_MANY
    assert apply(machine, Txn([Compare(b"a", Target.MOD, Relation.EQUAL, 2)] * 129, [])) == TOO_MANY
    assert apply(machine, Txn([], [Txn([], reads[:127])])).succeeded
    assert apply(machine, Txn([], [Txn([], reads)])) == TOO_MANY
    bush = Txn([], [Txn([], reads[:64])] * 17)
    assert apply(machine, bush) == TOO_MANY


def nested(depth: int) -> Txn:
    txn = Txn([], [put(b"deep")])
    for _ in range(depth - 1):
        txn = Txn([], [txn])
    return txn


def test_the_depth_limit(machine: KvMachine) -> None:
    assert apply(machine, nested(8)).succeeded
    refused = apply(machine, nested(9))
    assert refused == Error(3, "quorate: malformed request, or one nested too deeply")
    # The decoder's own limit depends on the stack; the refusal mustn't.
    txn_of_one = b"\x94\x04\x90\x91"
    for depth in (100, 100_000):
        hostile = txn_of_one * depth + b"\x94\x04\x90\x90\x90" + b"\x90" * depth
        assert machine.apply(hostile) == machine.query(hostile)
        assert decode_result(machine.apply(hostile)) == refused


def test_compares_of_nested_transactions_see_the_state_before(machine: KvMachine) -> None:
    absent = Compare(b"new", Target.VERSION, Relation.EQUAL, 0)
    result = apply(machine, Txn([absent], [put(b"new"), Txn([absent], [put(b"other")])]))
    assert result.results[1].succeeded
    assert ask(machine, Range(b"other")).count == 1


def test_a_transaction_is_one_revision_and_reads_its_own_writes(machine: KvMachine) -> None:
    txn = Txn([], [Range(b"b"), put(b"b"), Range(b"b"), DeleteRange(b"a"), Range(b"a", b"z"), put(b"c")])
    result = apply(machine, txn)
    assert result.revision == 3
    assert [r.revision for r in result.results] == [2, 3, 3, 3, 3, 3]
    assert [r.count for r in result.results if hasattr(r, "count")] == [0, 1, 1]
    events = ask(machine, Events(3))
    assert [(e.kv.key, e.kv.mod_revision, e.is_delete) for e in events.events] == [
        (b"b", 3, False),
        (b"a", 3, True),
        (b"c", 3, False),
    ]
    assert ask(machine, Range(b"a", revision=2)).kvs[0].value == b"1"


def test_a_read_that_can_not_be_served_refuses_all_of_it(machine: KvMachine) -> None:
    apply(machine, put(b"b"))
    apply(machine, Compact(3))
    before = digest(machine)
    assert apply(machine, Txn([], [put(b"c"), Range(b"a", revision=2)])) == COMPACTED
    assert apply(machine, Txn([], [put(b"c"), Txn([], [Range(b"a", revision=4)])])) == FUTURE
    assert digest(machine) == before
    assert apply(machine, Txn([], [put(b"c"), Range(b"c", revision=3)])).results[1].count == 0


def test_the_first_read_that_can_not_be_served_says_why(machine: KvMachine) -> None:
    """Asked of etcd 3.4.23, which answers alike."""
    for _ in range(3):
        apply(machine, put(b"a"))
    apply(machine, Compact(4))
    old, future = Range(b"a", revision=1), Range(b"a", revision=60)
    assert apply(machine, Txn([], [Txn([], [future]), old])) == FUTURE
    assert apply(machine, Txn([], [old, Txn([], [future])])) == COMPACTED
    assert apply(machine, Txn([], [Txn([], []), Txn([], [future]), old, put(b"b")])) == FUTURE


def test_compares_of_absent_keys(machine: KvMachine) -> None:
    def holds(target: Target, relation: Relation, operand: int | bytes) -> bool:
        return bool(ask(machine, Txn([Compare(b"none", target, relation, operand)], [])).succeeded)

    for target in (Target.VERSION, Target.CREATE, Target.MOD, Target.LEASE):
        assert holds(target, Relation.EQUAL, 0)
        assert holds(target, Relation.LESS, 1)
        assert not holds(target, Relation.GREATER, 0)
    assert not holds(Target.VALUE, Relation.EQUAL, b"")
    assert not holds(Target.VALUE, Relation.NOT_EQUAL, b"x")


def test_the_operand_has_the_target_s_type(machine: KvMachine) -> None:
    refused = Error(3, "quorate: a compare of VALUE takes bytes, any other an integer")
    assert apply(machine, Txn([Compare(b"a", Target.VALUE, Relation.EQUAL, 1)], [])) == refused
    assert apply(machine, Txn([Compare(b"a", Target.MOD, Relation.LESS, b"1")], [])) == refused


def test_a_query_can_not_write(machine: KvMachine) -> None:
    refused = Error(3, "quorate: a query can't write; propose it as a command")
    assert ask(machine, Txn([], [], [Txn([], [put(b"x")])])) == refused
    assert ask(machine, Txn([], [DeleteRange(b"x")])) == refused
    assert ask(machine, Txn([], [Txn([], [Range(b"a")])])).succeeded
