"""Transactions: the checks of a request's shape, the choice of branches, and the execution.

As etcd does it (`server/etcdserver/txn`): first the shape is checked, both branches alike; then every compare, also
those of nested transactions, is evaluated against the state before the transaction; then the reads on the path taken
are checked; only then does anything change. What has cost too much by then is rolled back (`costs.py`). So a refused
transaction has changed nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Generator
from typing import Any

import msgspec

from quorate.machines.kv import refusals
from quorate.machines.kv.commands import (
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    Compare,
    DeleteRange,
    KeyValue,
    Operation,
    Put,
    PutResult,
    Range,
    Relation,
    Target,
    Txn,
)
from quorate.machines.kv.costs import OPERATION_BYTES, Costs
from quorate.machines.kv.reading import Counts, ranging
from quorate.machines.kv.store import KvStore

TXN_OPS_MAX = 128  # etcd's --max-txn-ops: along a path of nested transactions
TXN_OPS_TOTAL_MAX = 1024  # in all branches together, and compares; etcd has no such limit
TXN_DEPTH_MAX = 8  # etcd has none; its op limit bounds it


class RawDeleteResult(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    """A `DeleteRangeResult` whose records go out as they were stored."""

    revision: int
    deleted: int
    prev_kvs: list[msgspec.Raw]


class RawTxnResult(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    """A `TxnResult` with raw ranges inside."""

    revision: int
    succeeded: bool
    results: list[Any]


class _Path(msgspec.Struct, gc=False):
    """A transaction's branch taken, and those of the transactions nested in it, in their order."""

    succeeded: bool
    operations: list[Operation]
    nested: list[_Path]


# The shape of a request.


def check_key(key: bytes) -> None:
    """Raises KvError for an empty or oversized key."""
    if not key:
        raise refusals.empty_key()
    if len(key) > KEY_BYTES_MAX:
        raise refusals.key_too_large()


def check_range(request: Range | DeleteRange) -> None:
    """Raises KvError for an empty or oversized key, and for an oversized end."""
    check_key(request.key)
    if len(request.range_end) > KEY_BYTES_MAX:
        raise refusals.key_too_large()


def check_put(request: Put) -> None:
    """Raises KvError for an empty or oversized key, and for an oversized value."""
    check_key(request.key)
    if len(request.value) > VALUE_BYTES_MAX:
        raise refusals.too_large()


def check_txn(txn: Txn) -> None:
    """Raises KvError for a transaction that is too large or deep, or writes a key twice."""
    _check_shape(txn, TXN_OPS_MAX, TXN_DEPTH_MAX, [TXN_OPS_TOTAL_MAX])
    _writes(txn.success)
    _writes(txn.failure)


def _check_shape(txn: Txn, ops_max: int, depth: int, budget: list[int]) -> None:
    if depth == 0:
        raise refusals.malformed()
    ops = max(len(txn.compare), len(txn.success), len(txn.failure))
    budget[0] -= len(txn.compare) + len(txn.success) + len(txn.failure)
    if ops > ops_max or budget[0] < 0:
        raise refusals.too_many_ops()
    for compare in txn.compare:
        check_key(compare.key)
        if isinstance(compare.operand, bytes) != (compare.target is Target.VALUE):
            raise refusals.compare_type()
    for operation in (*txn.success, *txn.failure):
        if isinstance(operation, Txn):
            _check_shape(operation, ops_max - ops, depth - 1, budget)
        elif isinstance(operation, Put):
            check_put(operation)
        else:
            check_range(operation)


_Interval = tuple[bytes, bytes]


def _writes(operations: list[Operation]) -> tuple[set[bytes], list[_Interval]]:
    """The keys a branch may put and the ranges it may delete (etcd's `checkIntervals`).

    A key put twice, or put in one operation and deleted in another, is refused: a transaction changes a key once.
    """
    deletes = [(op.key, op.range_end) for op in operations if isinstance(op, DeleteRange)]
    puts: set[bytes] = set()
    for op in operations:
        if isinstance(op, Txn):
            then_puts, then_deletes = _writes(op.success)
            else_puts, else_deletes = _writes(op.failure)
            both = then_puts | else_puts  # the branches exclude each other, so they may put the same key
            _refuse_overlap(both, puts, deletes)
            puts |= both
            deletes += then_deletes + else_deletes
    for op in operations:
        if isinstance(op, Put):
            _refuse_overlap({op.key}, puts, deletes)
            puts.add(op.key)
    return puts, deletes


def _refuse_overlap(added: set[bytes], puts: set[bytes], deletes: list[_Interval]) -> None:
    if not puts.isdisjoint(added):
        raise refusals.duplicate_key()
    for key, end in deletes:
        if not end:
            hit = key in added
        else:
            hit = any(key <= k and (end == b"\0" or k < end) for k in added)
        if hit:
            raise refusals.duplicate_key()


# The choice of branches.

_RELATIONS: dict[Relation, Callable[[Any, Any], bool]] = {
    Relation.EQUAL: operator.eq,
    Relation.GREATER: operator.gt,
    Relation.LESS: operator.lt,
    Relation.NOT_EQUAL: operator.ne,
}
_ABSENT = KeyValue(b"")


def _holds(store: KvStore, compare: Compare, costs: Costs) -> bool:
    stamp = store.index.latest(compare.key)
    kv = store.key_value(stamp) or _ABSENT
    costs.spend(1, len(kv.value), 0)
    actual: int | bytes
    match compare.target:
        case Target.VERSION:
            actual = kv.version
        case Target.CREATE:
            actual = kv.create_revision
        case Target.MOD:
            actual = kv.mod_revision
        case Target.LEASE:
            actual = kv.lease
        case Target.VALUE:
            if stamp & 1:
                return False  # there is no way to name a value that isn't there
            actual = kv.value
    return _RELATIONS[compare.relation](actual, compare.operand)


def _choose(store: KvStore, txn: Txn, costs: Costs) -> _Path:
    succeeded = all(_holds(store, compare, costs) for compare in txn.compare)
    operations = txn.success if succeeded else txn.failure
    return _Path(succeeded, operations, [_choose(store, op, costs) for op in operations if isinstance(op, Txn)])


def _check_reads(store: KvStore, path: _Path) -> None:
    """In the order of the operations, since the first one that can't be served says why."""
    nested = iter(path.nested)
    for op in path.operations:
        if isinstance(op, Range):
            store.check_revision(op.revision)
        elif isinstance(op, Txn):
            _check_reads(store, next(nested))


# Execution. The caller has checked the shape and ends the transaction, or rolls it back.


def run_put(store: KvStore, request: Put, costs: Costs) -> PutResult:
    """Write one key, in the store's open batch."""
    costs.spend(1, 0, OPERATION_BYTES)
    previous = store.key_value(store.index.latest(request.key)) if request.prev_kv else None
    if previous is not None:
        size = len(previous.key) + len(previous.value)
        costs.spend(0, size, size + OPERATION_BYTES)
    store.put(request.key, request.value, request.lease)
    return PutResult(store.current, previous)


def run_delete(store: KvStore, request: DeleteRange, costs: Costs) -> RawDeleteResult:
    """Delete all keys of a range, in the store's open batch."""
    index = store.index
    costs.spend(index.live_count(request.key, request.range_end), 0, OPERATION_BYTES)
    previous: list[msgspec.Raw] = []
    if request.prev_kv:
        for key in index.live_keys(request.key, request.range_end):
            record = store.record(index.latest(key))
            costs.spend(0, len(record), len(record))
            previous.append(msgspec.Raw(record))
    deleted = store.delete(request.key, request.range_end)
    return RawDeleteResult(store.current, deleted, previous)


def run_txn(store: KvStore, counts: Counts, txn: Txn, costs: Costs) -> Generator[None, None, RawTxnResult]:
    """Choose and execute. Raises KvError: before any change for a read that can't be served, and for one that costs
    too much, with changes that are to be rolled back. It yields only if it writes nothing."""
    # The compares of a query are made in one step, so they may read what those of a command may.
    path = _choose(store, txn, costs if costs.is_command else Costs(is_command=True))
    _check_reads(store, path)
    return (yield from _run_path(store, counts, path, costs, None if costs.is_command else store.current))


def _run_path(
    store: KvStore, counts: Counts, path: _Path, costs: Costs, at: int | None
) -> Generator[None, None, RawTxnResult]:
    """``at``: the revision that all of a query reads; None: each operation of a command sees those before it."""
    results: list[Any] = []
    nested = iter(path.nested)
    for op in path.operations:
        if isinstance(op, Range):
            results.append((yield from ranging(store, counts, op, costs, store.current if at is None else at)))
        elif isinstance(op, Put):
            results.append(run_put(store, op, costs))
        elif isinstance(op, DeleteRange):
            results.append(run_delete(store, op, costs))
        else:
            costs.spend(1, 0, OPERATION_BYTES)
            results.append((yield from _run_path(store, counts, next(nested), costs, at)))
        if costs.is_step_over:
            yield
            costs.next_step()
    return RawTxnResult(store.current if at is None else at, path.succeeded, results)


def writes_nothing(txn: Txn) -> bool:
    """Whether no branch of a transaction can change anything."""
    for op in (*txn.success, *txn.failure):
        if isinstance(op, Put | DeleteRange) or (isinstance(op, Txn) and not writes_nothing(op)):
            return False
    return True
