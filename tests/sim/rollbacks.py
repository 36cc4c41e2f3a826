"""Rollbacks among simulated clients: a register is several keys of the store, and a rollback of them is a write.

A write puts all keys of its register in one transaction, and removes one that the write before may have made. A
rollback to the revision of an earlier write is a write of that write's value. A read that finds the keys of no single
write has read a value that nobody wrote. So the checker of linearizable histories sees a rollback that is not atomic,
brings back too little, forgets keys that came since, or touches the keys of another register.
"""

from __future__ import annotations

from random import Random
from typing import Any

from quorate.kernel import App, Rng
from quorate.machines.kv import commands as kv
from quorate.service.replica import Replica
from quorate.sim.workload import Answer, Generator, Op
from quorate.trials.drivers import Dialect
from quorate.trials.subjects import KvSubject

PARTS = 4
EXTRAS = 3
TORN = -1
"""What a read gives that saw the keys of no single write."""
ROLLBACKS = 0.3
"""The share of writes that are rollbacks, once there is something to go back to."""


class Known:
    """At which revision of the store a register had which value, as far as any client was told."""

    def __init__(self) -> None:
        self.writes: dict[str, list[tuple[int, int]]] = {}
        self.planned: dict[int, tuple[Op, int]] = {}
        """By the id of an operation that is a rollback: it, and to which revision."""
        self.done = 0


class RollbackGenerator(Generator):
    """Some writes become rollbacks."""

    __slots__ = ("_known",)

    def __init__(self, rng: Random, keys: int, known: Known) -> None:
        super().__init__(rng, keys)
        self._known = known

    def next(self) -> Op:
        op = super().next()
        writes = self._known.writes.get(op.key)
        if op.f != "write" or not writes or self._rng.random() > ROLLBACKS:
            return op
        revision, value = writes[int(self._rng.random() * len(writes))]
        made = Op("write", op.key, value)
        self._known.planned[id(made)] = made, revision
        return made


class RegisterOfKeys(Dialect):
    """Against the key-value store."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def operation(self, op: Op) -> bytes:
        planned = self._known.planned.get(id(op))
        if planned is not None:
            return kv.encode(kv.Rollback(planned[1], *kv.range_of(prefix(op.key)), "sim"))
        if op.f == "write":
            return kv.encode(kv.Txn([], puts(op.key, op.value)))
        expected, new = op.value
        first = prefix(op.key) + b"0"
        if expected is None:
            compare = kv.Compare(first, kv.Target.VERSION, kv.Relation.EQUAL, 0)
        else:
            compare = kv.Compare(first, kv.Target.VALUE, kv.Relation.EQUAL, b"%d" % expected)
        return kv.encode(kv.Txn([compare], puts(op.key, new)))

    def question(self, op: Op) -> bytes:
        return kv.encode(kv.Range(*kv.range_of(prefix(op.key))))

    def answer(self, op: Op, data: bytes) -> Answer:
        result = kv.decode_result(data)
        if isinstance(result, kv.RangeResult):
            return Answer("ok", value_of(op.key, {pair.key: pair.value for pair in result.kvs}))
        if isinstance(result, kv.RollbackResult):
            self._known.done += 1
            return Answer("ok", True)
        assert isinstance(result, kv.TxnResult), result
        if result.succeeded:
            value = op.value if op.f == "write" else op.value[1]
            self._known.writes.setdefault(op.key, []).append((result.revision, value))
        return Answer("ok", result.succeeded)


def prefix(key: str) -> bytes:
    return key.encode() + b"/"


def extra(key: str, value: int) -> bytes:
    """A key that a write of this value makes, and one of another value removes."""
    return prefix(key) + b"x%d" % (value % EXTRAS)


def puts(key: str, value: int) -> list[Any]:
    made = [kv.Put(prefix(key) + b"%d" % part, b"%d" % value) for part in range(PARTS)]
    gone = [prefix(key) + b"x%d" % number for number in range(EXTRAS) if number != value % EXTRAS]
    return [*made, kv.Put(extra(key, value), b"%d" % value), *map(kv.DeleteRange, gone)]


def value_of(key: str, found: dict[bytes, bytes]) -> int | None:
    """The value of the write whose keys these are."""
    if not found:
        return None
    value = int(found.get(prefix(key) + b"0", b"-1"))
    whole = {prefix(key) + b"%d" % part: b"%d" % value for part in range(PARTS)} | {extra(key, value): b"%d" % value}
    return value if found == whole else TORN


class RollbackSubject(KvSubject):
    """The store with its clock, and clients that roll back."""

    def __init__(self) -> None:
        super().__init__()
        self.known = Known()

    def app(self, node: int, rng: Rng) -> App:
        return Replica(self.machine(node), clock_of=node)

    def generator(self, rng: Random, keys: int) -> Generator:
        return RollbackGenerator(rng, keys, self.known)

    def dialect(self) -> Dialect:
        return RegisterOfKeys(self.known)
