"""Reading: ranges, events and the digest, a step at a time, each over the state of one revision.

A generator yields between two steps, and what is committed meanwhile changes nothing that it finds: it asks for each
key as of its revision. Whoever runs it across several steps holds a `View`, which keeps compaction from removing what
it has yet to read. A command runs it to its end at once (`finish`); its `Costs` bound it.

What a range costs follows from what it returns. Its `count` is more than that where there is a limit: at the current
revision it is a difference of two ranks. At an older one it is the current count less what has changed since then, or a
walk over the keys where less needs to be looked at; and the next page of the same range finds it in `Counts`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Generator
from typing import Final, TypeVar

import msgspec

from quorate.machines.kv import refusals
from quorate.machines.kv.chronicle import NO_ANNALS
from quorate.machines.kv.commands import Event, EventsResult, KeyValue, Range, encode
from quorate.machines.kv.costs import OPERATION_BYTES, Costs
from quorate.machines.kv.index import NONE, first_stamp, stamp_revision
from quorate.machines.kv.revisions import from_key, to_key
from quorate.machines.kv.store import KvStore, decode_record, decode_record_key

COUNTS_MAX: Final = 1024
_KEY_MORE = b"\0"
"""Appended to a key it makes the next one there can be."""

T = TypeVar("T")


class RawRangeResult(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """A `RangeResult` whose records go out as they are stored."""

    revision: int
    kvs: list[msgspec.Raw]
    count: int
    more: bool


class _Bare(msgspec.Struct, array_like=True, gc=False):
    """A record of which the value is not decoded."""

    key: bytes
    value: msgspec.Raw
    create_revision: int
    mod_revision: int
    version: int
    lease: int


_decode_bare = msgspec.msgpack.Decoder(_Bare).decode


class Counts:
    """How many keys the rest of a range had at a past revision, by where it begins. What is past does not change."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[bytes, bytes, int], int] = OrderedDict()

    def get(self, key: bytes, end: bytes, revision: int) -> int | None:
        """None where it was forgotten, or nobody has read up to there."""
        return self._known.get((key, end, revision))

    def put(self, key: bytes, end: bytes, revision: int, count: int) -> None:
        """Known from now on."""
        self._known[key, end, revision] = count
        if len(self._known) > COUNTS_MAX:
            self._known.popitem(last=False)


def finish(steps: Generator[None, None, T]) -> T:
    """Take all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def ranging(
    store: KvStore, counts: Counts, request: Range, costs: Costs, current: int
) -> Generator[None, None, RawRangeResult]:
    """The keys of a range, of which the caller has checked the revision. ``current``: the one that a read sees now, or
    saw when the query began. Raises KvError for a result that is too large."""
    revision = request.revision if request.revision > 0 else current
    costs.spend(1, 0, OPERATION_BYTES)
    if not request.range_end:
        stamp = store.index.at(request.key, revision)
        found = [] if stamp & 1 or request.count_only else [_take(store, stamp, request.keys_only, costs)]
        return RawRangeResult(current, found, 1 - (stamp & 1), False)
    if costs.is_command and revision != current:
        raise refusals.old_range()
    if request.count_only:
        count = yield from _counting(store, counts, request.key, request.range_end, revision, costs)
        return RawRangeResult(current, [], count, False)
    total: int | None = None
    if request.limit > 0 and store.is_newest(revision):
        total = store.index.live_count(request.key, request.range_end)
    elif request.limit > 0:
        total = counts.get(request.key, request.range_end, revision)
    records, next_key = yield from _collecting(store, request, revision, costs)
    if next_key is None:
        return RawRangeResult(current, records, len(records), False)
    if total is not None:
        rest = total - len(records)
    else:
        rest = yield from _counting(store, counts, next_key, request.range_end, revision, costs)
    if not costs.is_command:
        counts.put(next_key, request.range_end, revision, rest)
    return RawRangeResult(current, records, len(records) + rest, rest > 0)


def getting(store: KvStore, request: Range, current: int) -> RawRangeResult:
    """As ``ranging`` of a single key, by itself: the most frequent query, and never too large."""
    stamp = store.index.at(request.key, request.revision if request.revision > 0 else current)
    if stamp & 1 or request.count_only:
        return RawRangeResult(current, [], 1 - (stamp & 1), False)
    record = store.record(stamp)
    return RawRangeResult(current, [msgspec.Raw(_without_value(record) if request.keys_only else record)], 1, False)


def _collecting(
    store: KvStore, request: Range, revision: int, costs: Costs
) -> Generator[None, None, tuple[list[msgspec.Raw], bytes | None]]:
    """The records that are asked for, and the key from which on there may be more; None: there is none."""
    records: list[msgspec.Raw] = []
    start, limit = request.key, max(0, request.limit)
    while True:
        for key, stamp in store.index.versions(start, request.range_end, revision, is_newest=store.is_newest(revision)):
            if stamp & 1:
                costs.look(1)
            else:
                records.append(_take(store, stamp, request.keys_only, costs))
                if len(records) == limit:
                    return records, key + _KEY_MORE
            if costs.is_step_over:
                start = key + _KEY_MORE
                break
        else:
            return records, None
        yield
        costs.next_step()


def _take(store: KvStore, stamp: int, keys_only: bool, costs: Costs) -> msgspec.Raw:
    record = store.record(stamp)
    taken = _without_value(record) if keys_only else record
    costs.spend(1, len(record), len(taken))
    return msgspec.Raw(taken)


def _without_value(record: bytes) -> bytes:
    bare = _decode_bare(record)
    return encode((bare.key, b"", bare.create_revision, bare.mod_revision, bare.version, bare.lease))


def _counting(
    store: KvStore, counts: Counts, key: bytes, end: bytes, revision: int, costs: Costs
) -> Generator[None, None, int]:
    """How many keys a range had at a revision."""
    newest = store.current
    if store.is_newest(revision):
        return store.index.live_count(key, end)
    known = counts.get(key, end, revision)
    if known is not None:
        return known
    if not store.records.pending and not store.is_staging and newest - revision <= store.index.count(key, end):
        return (yield from _counting_back(store, key, end, revision, costs))
    return (yield from _counting_all(store, key, end, revision, costs))


def _counting_all(store: KvStore, key: bytes, end: bytes, revision: int, costs: Costs) -> Generator[None, None, int]:
    """Key by key."""
    count = 0
    while True:
        for found, stamp in store.index.versions(key, end, revision, is_newest=store.is_newest(revision)):
            count += 1 - (stamp & 1)
            costs.look(1)
            if costs.is_step_over:
                key = found + _KEY_MORE
                break
        else:
            return count
        yield
        costs.next_step()


def _counting_back(store: KvStore, key: bytes, end: bytes, revision: int, costs: Costs) -> Generator[None, None, int]:
    """From the newest count. All changes since the revision are written, and none of them is removed meanwhile."""
    newest, count = store.revision, store.index.live_count(key, end)
    at, changed = store.index.at, set[bytes]()
    after, stop = first_stamp(revision + 1), first_stamp(newest + 1)
    while True:
        for stamp, record in store.records.scan(after, stop):
            found = decode_record_key(record).key
            if found not in changed and found >= key and (end == b"\0" or found < end):
                changed.add(found)
                count += (at(found, newest) & 1) - (at(found, revision) & 1)
            costs.look(1, len(record))
            if costs.is_step_over:
                after = from_key(stamp) + 1
                break
        else:
            return count
        yield
        costs.next_step()


def reading_events(
    store: KvStore, from_revision: int, limit: int, prev_kv: bool, costs: Costs
) -> Generator[None, None, EventsResult]:
    """What changed from a revision on, in order, and the revision after the last one given.

    Revisions are never split: the events end with the revision that reaches `limit` (<= 0: no limit). Reads what is
    committed. Raises KvError for a revision that is compacted or below 1, and for a result that is too large.
    """
    if from_revision < 1:
        raise refusals.from_revision()
    if from_revision < store.compact_revision:
        raise refusals.compacted()
    costs.spend(1, 0, OPERATION_BYTES)
    newest, compact_revision = store.revision, store.compact_revision
    events: list[Event] = []
    last = 0
    after, stop = first_stamp(from_revision), first_stamp(newest + 1)
    while True:
        for key, record in store.records.scan(after, stop):
            stamp = from_key(key)
            if 0 < limit <= len(events) and stamp_revision(stamp) != last:
                return EventsResult(newest, events, last + 1)
            last = stamp_revision(stamp)
            costs.spend(1, len(record), len(record) + 2)
            kv = decode_record(record)
            events.append(Event(kv, _before(store, kv.key, stamp, compact_revision, costs) if prev_kv else None))
            if costs.is_step_over:
                after = stamp + 1
                break
        else:
            return EventsResult(newest, events, max(from_revision, newest + 1))
        yield
        costs.next_step()


def _before(store: KvStore, key: bytes, stamp: int, compact_revision: int, costs: Costs) -> KeyValue | None:
    """What a version replaced, but nothing that the compaction rule has removed, swept already or not."""
    before = store.index.before(key, stamp)
    if before & 1 or before == NONE or store.index.is_garbage(key, before, compact_revision):
        return None
    record = store.record(before)
    costs.spend(1, len(record), len(record))
    return decode_record(record)


def digesting(store: KvStore, costs: Costs) -> Generator[None, None, bytes]:
    """A hash of everything a client can read, equal on replicas that have applied the same commands.

    It reads all of what is committed: about as long as reading the file takes.
    """
    compact_revision = store.compact_revision
    state = hashlib.blake2b(encode((store.revision, compact_revision)), digest_size=16)
    if (annals := store.chronicle.annals) != NO_ANNALS:
        state.update(encode(annals))
    bound = to_key(first_stamp(max(0, compact_revision)))
    after, stop = 0, first_stamp(store.revision + 1)
    while True:
        for key, record in store.records.scan(after, stop):
            stamp = from_key(key)
            if key >= bound or not store.index.is_garbage(decode_record_key(record).key, stamp, compact_revision):
                state.update(key)
                state.update(record)
            costs.look(1, len(record))
            if costs.is_step_over:
                after = stamp + 1
                break
        else:
            return state.digest()
        yield
        costs.next_step()
