"""Rollbacks: the values of a range as they were at an older revision, brought back as one new revision.

How it works. Key after key is compared: what it is now, and what it was then. One that was otherwise is put or deleted
again, as a client would have done it: keys that came since are deleted, those that went are made anew, and the history
between the two stays. All of it is one transaction of the store, and so one revision.

There may be a million keys, and nothing may keep the loop for long; so the transaction is made in steps, between which
queries are answered, from the revision before. Its records go to the disk meanwhile, under stamps of a revision that
is not there yet, and the index knows them; but all reads are as of the older revision, until the last step
makes the new one there. No other command is applied in between (``Replica``). A node that dies in the middle has its
state from a snapshot and the log again, and begins anew: the rollback is all there, or not at all.

A plan is the same comparison and changes nothing. Its digest is that of the changes, so that one who has seen a plan
can tell that this is what happened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from itertools import islice
from typing import Final, NamedTuple

from quorate.machines.kv import refusals
from quorate.machines.kv.commands import (
    KEY_BYTES_MAX,
    KeyChange,
    KeyValue,
    PlanRollback,
    Rollback,
    RollbackPlan,
    RollbackResult,
    RolledBack,
    encode,
)
from quorate.machines.kv.costs import COMMAND_KEYS_MAX
from quorate.machines.kv.store import KvStore

STEP_KEYS: Final = 256
STEP_BYTES: Final = 256 << 10
"""What a step compares: a few milliseconds, with the write that follows it."""
PLAN_KEYS_MAX: Final = 1000
"""Of the keys that a plan names."""


class _Changed(NamedTuple):
    """A key, and what it was; None: it was not there."""

    key: bytes
    then: KeyValue | None


class _Tally:
    """What changes, in numbers."""

    def __init__(self) -> None:
        self.puts = self.deletes = 0
        self._digest = hashlib.sha256()

    def take(self, changed: _Changed) -> None:
        then = changed.then
        self.puts += then is not None
        self.deletes += then is None
        self._digest.update(encode((changed.key, None if then is None else (then.value, then.lease))))

    @property
    def digest(self) -> bytes:
        return self._digest.digest()


def check_rollback(store: KvStore, command: Rollback | PlanRollback) -> None:
    """Raises KvError for a range that is none, and for a revision that cannot be read, or is this one."""
    if not command.key or not command.range_end:
        raise refusals.empty_key()
    if max(len(command.key), len(command.range_end)) > KEY_BYTES_MAX:
        raise refusals.key_too_large()
    if command.to_revision < 1:
        raise refusals.from_revision()
    store.check_revision(command.to_revision)


def rolling_back(store: KvStore, command: Rollback) -> Generator[None, None, RollbackResult]:
    """The changes, in the store's open transaction; the last step has it be there. Raises KvError at the first step."""
    check_rollback(store, command)
    now, tally = store.revision, _Tally()
    store.is_staging = True
    for changed in _changes(store, command.key, command.range_end, command.to_revision, now):
        if changed is None:
            yield
            continue
        tally.take(changed)
        if changed.then is None:
            store.delete(changed.key, b"")
        else:
            store.put(changed.key, changed.then.value, changed.then.lease)
    store.is_staging = False
    store.end_transaction()
    store.chronicle.rolled_back(
        RolledBack(
            *(store.revision, command.to_revision, command.key, command.range_end, command.who, command.time_ns),
            *(tally.puts, tally.deletes),
        )
    )
    return RollbackResult(store.revision, now, command.to_revision, tally.puts, tally.deletes, tally.digest)


def rolling_back_at_once(store: KvStore, command: Rollback) -> RollbackResult:
    """Where commands are not applied in steps: of few keys. Raises KvError, and nothing was changed."""
    check_rollback(store, command)
    if store.index.count(command.key, command.range_end) > COMMAND_KEYS_MAX:
        raise refusals.too_much()
    steps = rolling_back(store, command)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: RollbackResult = end.value
            return result


def planning(store: KvStore, query: PlanRollback) -> Generator[None, None, RollbackPlan]:
    """What a rollback would change, were it the next command. Raises KvError."""
    check_rollback(store, query)
    now, tally, most = store.revision, _Tally(), min(max(query.limit, 0), PLAN_KEYS_MAX)
    named: list[KeyChange] = []
    for changed in _changes(store, query.key, query.range_end, query.to_revision, now):
        if changed is None:
            yield
            continue
        tally.take(changed)
        if len(named) < most:
            named.append(KeyChange(changed.key, changed.then is None))
    return RollbackPlan(now, query.to_revision, tally.puts, tally.deletes, tally.digest, named)


def _changes(store: KvStore, key: bytes, end: bytes, then: int, now: int) -> Iterator[_Changed | None]:
    """The keys that are otherwise at revision ``now`` than they were; None: a step is over.

    The keys of a step are taken from the index before any of them changes it.
    """
    index, size_bytes = store.index, 0
    while True:
        page = list(islice(index.versions(key, end, now, is_newest=False), STEP_KEYS))
        for found, stamp in page:
            was = index.at(found, then)
            if was == stamp or was & stamp & 1:
                continue
            before = store.key_value(was)
            if before is not None:
                size_bytes += 2 * len(before.value)
                current = store.key_value(stamp)
                if current is not None and (current.value, current.lease) == (before.value, before.lease):
                    continue
            yield _Changed(found, before)
            if size_bytes >= STEP_BYTES:
                size_bytes = 0
                yield None
        if len(page) < STEP_KEYS:
            return
        key = page[-1][0] + b"\0"
        size_bytes = 0
        yield None
