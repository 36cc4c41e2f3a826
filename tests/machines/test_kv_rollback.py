"""Rollbacks: the values of an older revision, as one new one, in steps that nobody sees; and planted bugs."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from quorate.machines.kv import rollback
from quorate.machines.kv.commands import (
    AskHistory,
    Compact,
    DeleteRange,
    Digest,
    Error,
    Events,
    EventsResult,
    KeyChange,
    PlanRollback,
    Put,
    Range,
    Rollback,
    RollbackPlan,
    RollbackResult,
    decode_result,
    encode,
    prefix_end,
)
from quorate.machines.kv.machine import KvMachine

from tests.machines.kv_model import COMPACTED, FUTURE, apply, ask, snapshot_bytes

ALL = b"\0"


def state(machine: KvMachine, revision: int = 0) -> dict[bytes, tuple[bytes, int]]:
    """Values and leases."""
    return {kv.key: (kv.value, kv.lease) for kv in ask(machine, Range(ALL, ALL, revision=revision)).kvs}


def roll(machine: KvMachine, command: Rollback, between: Callable[[], None] = lambda: None) -> Any:
    """As a Replica has it done: in steps, each a batch, with something between any two of them."""
    steps = machine.staged(encode(command))
    assert steps is not None
    while True:
        machine.begin()
        try:
            next(steps)
        except StopIteration as end:
            machine.commit()
            return decode_result(end.value)
        machine.commit()
        between()


def scribble(machine: KvMachine, rng: random.Random, count: int) -> None:
    """Changes of all kinds."""
    machine.begin()
    for _ in range(count):
        key = b"%s%d" % (rng.choice((b"a/", b"b/")), rng.randrange(40))
        if rng.random() < 0.3:
            apply(machine, DeleteRange(key, rng.choice((b"", key + b"9"))))
        else:
            apply(machine, Put(key, b"%d" % rng.randrange(4), rng.randrange(2)))
    machine.commit()


def expected(machine: KvMachine, then: int, prefix: bytes) -> dict[bytes, tuple[bytes, int]]:
    """Inside the prefix as it was, and outside as it is."""
    was, now = state(machine, then), state(machine)
    inside = {key: value for key, value in was.items() if key.startswith(prefix)}
    return inside | {key: value for key, value in now.items() if not key.startswith(prefix)}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("prefix", [b"a/", b""])
def test_what_was_is_again_and_the_plan_said_so(
    machine: KvMachine, seed: int, prefix: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback, "STEP_KEYS", 5)
    rng = random.Random(seed)
    scribble(machine, rng, 120)
    then, now = rng.randrange(1, machine.store.revision), machine.store.revision
    key, end = prefix or ALL, prefix_end(prefix)
    wanted, before, digest = expected(machine, then, prefix), state(machine), ask(machine, Digest())
    plan = ask(machine, PlanRollback(then, key, end, 1000))
    assert isinstance(plan, RollbackPlan)
    assert ask(machine, Digest()) == digest, "a plan changes nothing"

    def look() -> None:
        """Nothing of it is there yet, however it is asked for."""
        assert state(machine) == before
        assert state(machine, now) == before
        assert ask(machine, Range(ALL, ALL, limit=3)).count == len(before)
        assert ask(machine, Range(ALL, ALL, count_only=True)).count == len(before)
        assert ask(machine, Range(ALL, ALL, count_only=True, revision=now)).count == len(before)
        assert ask(machine, Digest()) == digest
        assert ask(machine, Events(now + 1)).events == []
        some = b"a/%d" % rng.randrange(40)
        found = {kv.key: (kv.value, kv.lease) for kv in ask(machine, Range(some)).kvs}
        assert found == ({some: before[some]} if some in before else {})

    done = roll(machine, Rollback(then, key, end, "me"), look)
    assert isinstance(done, RollbackResult)
    assert state(machine) == wanted
    assert (done.puts, done.deletes, done.digest) == (plan.puts, plan.deletes, plan.digest)
    assert (done.before, done.revision) == (now, now + bool(plan.puts + plan.deletes))
    assert state(machine, now) == before, "the history in between stays"
    events = ask(machine, Events(now + 1, prev_kv=True))
    assert isinstance(events, EventsResult)
    assert {event.kv.mod_revision for event in events.events} <= {now + 1}, "one revision"
    assert [KeyChange(event.kv.key, event.is_delete) for event in events.events] == plan.keys
    assert ask(machine, PlanRollback(then, key, end)).puts == 0, "again it would change nothing"
    assert roll(machine, Rollback(now, key, end)).before == machine.store.revision - bool(plan.puts + plan.deletes)
    assert state(machine) == before, "and it can be undone"


def test_a_key_that_comes_again_begins_anew_and_one_that_stayed_goes_on(machine: KvMachine) -> None:
    for key, value in ((b"stays", b"1"), (b"goes", b"1"), (b"same", b"1")):
        apply(machine, Put(key, value))
    then = machine.store.revision
    apply(machine, Put(b"stays", b"2"))
    apply(machine, DeleteRange(b"goes"))
    apply(machine, Put(b"came", b"2"))
    apply(machine, Put(b"same", b"2"))
    apply(machine, Put(b"same", b"1"))
    done = roll(machine, Rollback(then, ALL, ALL))
    assert (done.puts, done.deletes) == (2, 1)
    kvs = {kv.key: kv for kv in ask(machine, Range(ALL, ALL)).kvs}
    new = done.revision
    found = {key: (kv.create_revision, kv.mod_revision, kv.version) for key, kv in kvs.items()}
    assert found == {b"stays": (2, new, 3), b"goes": (new, new, 1), b"same": (4, new - 1, 3)}
    entry = ask(machine, AskHistory()).rollbacks[-1]
    assert (entry.revision, entry.to_revision, entry.puts, entry.deletes) == (new, then, 2, 1)


def test_what_cannot_be_is_refused(machine: KvMachine) -> None:
    for number in range(5):
        apply(machine, Put(b"k", b"%d" % number))
    apply(machine, Compact(3))
    for command, answer in (
        (Rollback(2, ALL, ALL), COMPACTED),
        (Rollback(7, ALL, ALL), FUTURE),
        (Rollback(0, ALL, ALL), Error(3, "quorate: events start at revision 1 or later")),
        (Rollback(3, b"", ALL), Error(3, "etcdserver: key is not provided")),
        (Rollback(3, b"k", b""), Error(3, "etcdserver: key is not provided")),
        (Rollback(3, b"k" * 70_000, ALL), Error(3, "quorate: key is longer than 65536 bytes")),
    ):
        assert roll(machine, command) == answer
        assert apply(machine, command) == answer
        plan = PlanRollback(command.to_revision, command.key, command.range_end)
        assert ask(machine, plan) == answer
    assert machine.store.revision == 6
    assert not machine.store.is_staging
    assert machine.staged(encode(Put(b"k", b"v"))) is None
    assert state(machine) == {b"k": (b"4", 0)}


def test_where_there_are_no_steps_it_is_bounded(machine: KvMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollback, "COMMAND_KEYS_MAX", 3)
    for key in b"abcd":
        apply(machine, Put(bytes((key,)), b"v"))
    assert apply(machine, Rollback(1, ALL, ALL)).code == 8
    assert apply(machine, Rollback(1, b"b", b"\0")).deletes == 3
    assert state(machine) == {b"a": (b"v", 0)}


def test_a_snapshot_after_it_is_equal_and_the_stage_may_be_lost(machine: KvMachine, tmp_path: Path) -> None:
    """A node that dies in the middle loads an older snapshot and applies the same commands again."""
    scribble(machine, random.Random(3), 100)
    stream, command = snapshot_bytes(machine), Rollback(20, ALL, ALL, "me", 5)
    steps = machine.staged(encode(command))
    assert steps is not None
    next(steps, None)  # and never again
    results = []
    for name in ("one", "two"):
        other = KvMachine.opened(tmp_path / name)
        other.restore(cast(BinaryIO, io.BytesIO(stream)))()
        results.append((roll(other, command), apply(other, Put(b"more", b"v")), snapshot_bytes(other)))
        other.close()
    assert results[0] == results[1]


def test_a_step_is_short_whatever_there_is(machine: KvMachine) -> None:
    """In keys that it looks at, in keys that it changes, and in bytes that it reads."""
    machine.begin()
    for number in range(2000):
        apply(machine, Put(b"small %04d" % number, b"v"))
    for number in range(20):
        apply(machine, Put(b"large %d" % number, bytes(100_000)))
    machine.commit()
    then = machine.store.revision
    for number in range(20):
        apply(machine, Put(b"large %d" % number, b"v"))
    apply(machine, Put(b"small 1999", b"w"))
    sizes: list[int] = []

    def count() -> None:
        sizes.append(machine.store._changes)

    steps = machine.staged(encode(Rollback(then, ALL, ALL)))
    assert steps is not None
    looked = 0
    for _ in steps:
        count()
        looked += 1
    changes = [after - before for before, after in zip([0, *sizes], sizes, strict=False)]
    assert max(changes) <= 2, "two values of 100,000 bytes, read and written again, are a step"
    assert looked >= 2020 // rollback.STEP_KEYS
    done = roll(machine, Rollback(1, ALL, ALL))
    assert done.deletes == 2020


# Planted bugs: each is one that the tests above must see.


def forgets_new_keys(store: Any, key: bytes, end: bytes, then: int, now: int) -> Iterator[Any]:
    for changed in rollback_changes(store, key, end, then, now):
        if changed is None or changed.then is not None:
            yield changed


def forgets_lost_keys(store: Any, key: bytes, end: bytes, then: int, now: int) -> Iterator[Any]:
    for changed in rollback_changes(store, key, end, then, now):
        if changed is None or not store.index.at(changed.key, now) & 1:
            yield changed


def one_revision_too_many(store: Any, key: bytes, end: bytes, then: int, now: int) -> Iterator[Any]:
    return rollback_changes(store, key, end, then + 1, now)


def not_atomic(store: Any, key: bytes, end: bytes, then: int, now: int) -> Iterator[Any]:
    for changed in rollback_changes(store, key, end, then, now):
        if changed is None:
            store.end_transaction()
        yield changed


def visible_early(store: Any, key: bytes, end: bytes, then: int, now: int) -> Iterator[Any]:
    store.is_staging = False
    yield from rollback_changes(store, key, end, then, now)


rollback_changes = rollback._changes


@pytest.mark.parametrize("bug", [forgets_new_keys, forgets_lost_keys, one_revision_too_many, not_atomic, visible_early])
def test_a_planted_bug_is_seen(bug: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = 0
    monkeypatch.setattr(rollback, "_changes", bug)
    for seed in range(6):
        machine = KvMachine.opened(tmp_path / f"kv{seed}")
        try:
            test_what_was_is_again_and_the_plan_said_so(machine, seed, b"", monkeypatch)
        except AssertionError:
            found += 1
        finally:
            machine.close()
    assert found >= 3, f"{bug.__name__} was seen {found} times of 6"
