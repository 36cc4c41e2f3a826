"""A model of etcd's semantics that is too simple to be wrong, and what the tests of the KV machine share.

The model keeps every version of every key in one list and answers by looking through all of it.
"""

from __future__ import annotations

import io
import operator
from typing import Any

import hypothesis.strategies as st

from quorate.machines.kv.commands import (
    Compact,
    CompactResult,
    Compare,
    DeleteRange,
    DeleteRangeResult,
    Digest,
    Error,
    Event,
    Events,
    EventsResult,
    KeyValue,
    Put,
    PutResult,
    Range,
    RangeResult,
    Relation,
    Target,
    Txn,
    TxnResult,
    decode_result,
    encode,
)
from quorate.machines.kv.machine import KvMachine

COMPACTED = Error(11, "etcdserver: mvcc: required revision has been compacted")
FUTURE = Error(11, "etcdserver: mvcc: required revision is a future revision")
OLD_RANGE = Error(3, "quorate: a command reads a range at the current revision only: ask for an older one with a query")
DUPLICATE = Error(3, "etcdserver: duplicate key given in txn request")
ANSWER_TOO_LARGE = Error(
    8, "quorate: the answer is larger than 2096128 bytes: ask for less at once, with a limit and page by page"
)


def fill(machine: KvMachine, keys: int, value: bytes = b"v") -> None:
    """With so many keys, all with this value."""
    machine.begin()
    for number in range(keys):
        machine.apply(encode(Put(b"k%06d" % number, value)))
    machine.commit()


def apply(machine: KvMachine, command: Any) -> Any:
    return decode_result(machine.apply(encode(command)))


def ask(machine: KvMachine, query: Any) -> Any:
    return decode_result(machine.query(encode(query)))


def digest(machine: KvMachine) -> bytes:
    return bytes(ask(machine, Digest()).digest)


def sweep(machine: KvMachine) -> None:
    """Commit empty batches until compaction has removed all it will."""
    for _ in range(10_000):
        if not machine.store.sweeping:
            return
        machine.begin()
        machine.commit()
    raise AssertionError("the sweep doesn't end")


def records_on_disk(machine: KvMachine) -> int:
    return sum(1 for _ in machine.store.records.scan(0, 1 << 95))


def snapshot_bytes(machine: KvMachine) -> bytes:
    out = io.BytesIO()
    machine.snapshot()(out)
    return out.getvalue()


class Refused(Exception):
    """The error that a request has as its result."""


_RELATIONS = {
    Relation.EQUAL: operator.eq,
    Relation.GREATER: operator.gt,
    Relation.LESS: operator.lt,
    Relation.NOT_EQUAL: operator.ne,
}


class Model:
    """etcd's keys and revisions."""

    def __init__(self) -> None:
        self.log: list[KeyValue] = []  # every change there ever was, in order
        self.revision = 1
        self.compacted = -1
        self.changed = False

    @property
    def current(self) -> int:
        return self.revision + self.changed

    def at(self, key: bytes, revision: int) -> KeyValue | None:
        found = [kv for kv in self.log if kv.key == key and kv.mod_revision <= revision]
        return found[-1] if found and found[-1].version else None

    def all_at(self, key: bytes, end: bytes, revision: int) -> list[KeyValue]:
        keys = sorted({kv.key for kv in self.log})
        if not end:
            keys = [k for k in keys if k == key]
        elif end == b"\0":
            keys = [k for k in keys if k >= key]
        else:
            keys = [k for k in keys if key <= k < end]
        return [kv for kv in (self.at(k, revision) for k in keys) if kv]

    def check(self, revision: int) -> None:
        if revision > self.current:
            raise Refused(FUTURE)
        if 0 < revision < self.compacted:
            raise Refused(COMPACTED)

    def range(self, r: Range) -> RangeResult:
        self.check(r.revision)
        found = self.all_at(r.key, r.range_end, r.revision if r.revision > 0 else self.current)
        if r.count_only:
            return RangeResult(self.current, [], len(found), False)
        kvs = found[: r.limit] if r.limit > 0 else found
        more = len(kvs) < len(found)
        if r.keys_only:
            kvs = [KeyValue(k.key, b"", k.create_revision, k.mod_revision, k.version, k.lease) for k in kvs]
        return RangeResult(self.current, kvs, len(found), more)

    def put(self, p: Put) -> PutResult:
        old = self.at(p.key, self.current)
        revision = self.revision + 1
        create, version = (old.create_revision, old.version + 1) if old else (revision, 1)
        self.log.append(KeyValue(p.key, p.value, create, revision, version, p.lease))
        self.changed = True
        return PutResult(revision, old if p.prev_kv else None)

    def delete(self, d: DeleteRange) -> DeleteRangeResult:
        old = self.all_at(d.key, d.range_end, self.current)
        for kv in old:
            self.log.append(KeyValue(kv.key, mod_revision=self.revision + 1))
            self.changed = True
        return DeleteRangeResult(self.current, len(old), old if d.prev_kv else [])

    def holds(self, c: Compare) -> bool:
        kv = self.at(c.key, self.current)
        if c.target is Target.VALUE and not kv:
            return False
        kv = kv or KeyValue(c.key)
        actual = (kv.version, kv.create_revision, kv.mod_revision, kv.value, kv.lease)[c.target]
        return bool(_RELATIONS[c.relation](actual, c.operand))

    def choose(self, t: Txn) -> tuple[bool, list[Any]]:
        """The branch taken, nested transactions replaced by theirs, all judged by the state before."""
        succeeded = all(map(self.holds, t.compare))
        taken = t.success if succeeded else t.failure
        return succeeded, [self.choose(op) if isinstance(op, Txn) else op for op in taken]

    def run(self, path: tuple[bool, list[Any]]) -> TxnResult:
        results: list[Any] = []
        for op in path[1]:
            if isinstance(op, Put):
                results.append(self.put(op))
            elif isinstance(op, DeleteRange):
                results.append(self.delete(op))
            elif isinstance(op, Range):
                if op.range_end and 0 < op.revision != self.current:
                    raise Refused(OLD_RANGE)
                results.append(self.range(op))
            else:
                results.append(self.run(op))
        return TxnResult(self.current, path[0], results)

    def check_path(self, path: tuple[bool, list[Any]]) -> None:
        for op in path[1]:
            if isinstance(op, Range):
                self.check(op.revision)
            elif isinstance(op, tuple):
                self.check_path(op)

    def txn(self, t: Txn) -> TxnResult:
        path = self.choose(t)
        self.check_path(path)
        before = len(self.log)
        try:
            return self.run(path)
        except Refused:
            del self.log[before:]
            self.changed = False
            raise

    def apply(self, command: Any) -> Any:
        try:
            if isinstance(command, Compact):
                if command.revision <= self.compacted:
                    raise Refused(COMPACTED)
                self.check(command.revision)
                self.compacted = command.revision
                return CompactResult(self.revision)
            if isinstance(command, Put):
                return self.put(command)
            return self.txn(command) if isinstance(command, Txn) else self.delete(command)
        except Refused as refused:
            return refused.args[0]
        finally:
            self.revision, self.changed = self.current, False

    def events(self, e: Events) -> Any:
        if e.from_revision < self.compacted:
            return COMPACTED
        events: list[Event] = []
        for i, kv in enumerate(self.log):
            if kv.mod_revision < e.from_revision:
                continue
            if 0 < e.limit <= len(events) and events[-1].kv.mod_revision != kv.mod_revision:
                return EventsResult(self.revision, events, events[-1].kv.mod_revision + 1)
            events.append(Event(kv, self.before(i) if e.prev_kv else None))
        return EventsResult(self.revision, events, max(e.from_revision, self.revision + 1))

    def before(self, i: int) -> KeyValue | None:
        earlier = [kv for kv in self.log[:i] if kv.key == self.log[i].key]
        if not earlier or not earlier[-1].version:
            return None
        old = earlier[-1]
        readable = old.mod_revision >= self.compacted or self.at(old.key, self.compacted) == old
        return old if readable else None


# Keys that are prefixes of each other, hold terminators, and sort closely: where a sloppy order would show.
KEYS = st.sampled_from(
    [b"a", b"a\0", b"a\0\0", b"a\0\xff", b"a\xff", b"aa", b"ab", b"b", b"\0", b"\0\0", b"\xff", b"\xff\xff"]
)
ENDS = st.one_of(st.just(b""), st.just(b"\0"), KEYS)
VALUES = st.sampled_from([b"", b"x", b"y", b"z" * 3000])
LEASES = st.sampled_from([0, 1, -1, 2**63 - 1])
PUTS = st.builds(Put, KEYS, VALUES, LEASES, st.booleans())
DELETES = st.builds(DeleteRange, KEYS, ENDS, st.booleans())
RANGES = st.builds(Range, KEYS, ENDS, st.integers(-1, 4), st.integers(-1, 40), st.booleans(), st.booleans())
NUMBERS = st.sampled_from([Target.VERSION, Target.CREATE, Target.MOD, Target.LEASE])
COMPARES = st.one_of(
    st.builds(Compare, KEYS, NUMBERS, st.sampled_from(Relation), st.integers(0, 12)),
    st.builds(Compare, KEYS, st.just(Target.VALUE), st.sampled_from(Relation), VALUES),
)


@st.composite
def txns(draw: st.DrawFn, depth: int = 2) -> Txn:
    """Small transactions, nested up to `depth` deep."""
    operations = [PUTS, DELETES, st.builds(Range, KEYS, ENDS), RANGES] + [txns(depth - 1)] * (depth > 0)
    branch: Any = st.lists(st.one_of(operations), max_size=3)
    return Txn(draw(st.lists(COMPARES, max_size=2)), draw(branch), draw(branch))
