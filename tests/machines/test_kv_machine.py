"""The machine at its edges: hostile bytes, limits, determinism, working storage that runs out."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from quorate.machines.kv.commands import (
    COMMAND_BYTES_MAX,
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    Compact,
    DeleteRange,
    Error,
    Events,
    Put,
    Range,
    Txn,
    decode_result,
    encode,
)
from quorate.machines.kv.machine import KvMachine
from quorate.machines.kv.revisions import remove_table

from tests.machines.kv_model import DELETES, PUTS, RANGES, apply, ask, digest, records_on_disk, sweep, txns

SMALL_MAP = 64 * 1024
EMPTY_KEY = Error(3, "etcdserver: key is not provided")
TOO_LARGE = Error(3, "etcdserver: request is too large")
KEY_TOO_LARGE = Error(3, "quorate: key is longer than 65536 bytes")


VALID = st.one_of(PUTS, DELETES, RANGES, txns(), st.builds(Compact, st.integers(-1, 9))).map(encode)
JSONISH = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.binary(), st.text()),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=20,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid command with one byte changed, or cut short."""
    data = bytearray(draw(VALID))
    at = draw(st.integers(0, len(data) - 1))
    if draw(st.booleans()):
        return bytes(data[:at])
    data[at] = draw(st.integers(0, 255))
    return bytes(data)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.one_of(st.binary(), damaged(), JSONISH.map(msgspec.msgpack.encode)))
@example(data=b"")
@example(data=b"\x93\x02\xc4\x01a\xc4\x01b")
@example(data=bytes([0xDD, 0xFF, 0xFF, 0xFF, 0xFF]))
def test_no_bytes_make_it_raise(machine: KvMachine, data: bytes) -> None:
    before = machine.store.revision
    result = decode_result(machine.apply(data))
    decode_result(machine.query(data))
    if isinstance(result, Error):
        assert machine.store.revision == before


def test_limits(machine: KvMachine) -> None:
    long = b"k" * (KEY_BYTES_MAX + 1)
    largest = b"v" * VALUE_BYTES_MAX
    cases: list[tuple[Any, Error]] = [
        (Put(b"", b"v"), EMPTY_KEY),
        (Put(long, b"v"), KEY_TOO_LARGE),
        (Put(b"k", largest + b"v"), TOO_LARGE),
        (DeleteRange(b""), EMPTY_KEY),
        (DeleteRange(b"k", long), KEY_TOO_LARGE),
        (Txn([], [Put(b"", b"")]), EMPTY_KEY),
        (Txn([], [], [Txn([], [Put(b"k", largest + b"v")])]), TOO_LARGE),
    ]
    for command, refused in cases:
        assert apply(machine, command) == refused
    assert ask(machine, Range(b"", b"\0")) == EMPTY_KEY
    assert ask(machine, Events(0)) == Error(3, "quorate: events start at revision 1 or later")
    assert decode_result(machine.apply(bytes(COMMAND_BYTES_MAX + 1))) == TOO_LARGE
    assert machine.store.revision == 1
    assert apply(machine, Put(long[1:], largest)).revision == 2
    assert ask(machine, Range(long[1:])).kvs[0].value == largest


def test_results_and_state_do_not_depend_on_batching(tmp_path: Path) -> None:
    one, many = KvMachine.opened(tmp_path / "one"), KvMachine.opened(tmp_path / "many")
    commands = [Put(b"%d" % (i * 7 % 50), b"v" * i) for i in range(400)]
    mixed = [encode(c) for c in [*commands[:200], DeleteRange(b"1", b"3"), Compact(150), *commands[200:]]]
    expected = [one.apply(c) for c in mixed]
    got = []
    for i in range(0, len(mixed), 37):
        many.begin()
        got += [many.apply(c) for c in mixed[i : i + 37]]
        many.commit()
    assert got == expected
    assert digest(many) == digest(one)
    sweep(one)
    assert digest(many) == digest(one), "what the sweep has removed doesn't show"
    apply(one, Put(b"1", b"other"))
    apply(many, Put(b"1", b"else"))
    assert digest(many) != digest(one)
    one.close()
    many.close()


def test_a_map_that_is_full_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    machine = KvMachine.opened(tmp_path, map_bytes=SMALL_MAP)
    apply(machine, Put(b"a", b"b"))
    machine.begin()
    apply(machine, Put(b"large", os.urandom(100_000)))
    with pytest.raises(OSError, match="working storage") as caught:
        machine.commit()
    assert caught.value.errno == errno.ENOSPC
    assert ask(machine, Range(b"large")).count == ask(machine, Range(b"a")).count == 1
    machine.close()


def test_a_process_with_little_address_space_has_a_smaller_map(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, hard))
    try:
        machine = KvMachine.opened(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    apply(machine, Put(b"a", b"b"))
    machine.close()


def test_compaction_frees_the_disk(machine: KvMachine) -> None:
    for i in range(3000):
        machine.begin()
        apply(machine, Put(b"hot", b"%d" % i))
        apply(machine, Put(b"%d" % i, b"x"))
        apply(machine, DeleteRange(b"%d" % i))
        machine.commit()
    revision = machine.store.revision
    assert records_on_disk(machine) == 9000
    before = digest(machine)
    apply(machine, Compact(revision))
    during = digest(machine)
    assert during != before
    sweep(machine)
    assert digest(machine) == during
    assert records_on_disk(machine) == 2, "the last version of the hot key, and the event at the revision itself"
    assert machine.store.index.get(b"17") is None
    assert ask(machine, Range(b"hot")).kvs[0].version == 3000


def test_a_commit_sweeps_a_bounded_share(machine: KvMachine) -> None:
    machine.begin()
    for _ in range(5000):
        apply(machine, Put(b"hot", b"x"))
    machine.commit()
    apply(machine, Compact(5001))
    left = [records_on_disk(machine)]
    while machine.store.sweeping:
        machine.begin()
        machine.commit()
        left.append(records_on_disk(machine))
    assert left[-1] == 1
    assert max(a - b for a, b in itertools.pairwise(left)) < 1000


def test_a_commit_looks_at_a_bounded_share(machine: KvMachine) -> None:
    machine.begin()
    for i in range(2000):
        apply(machine, Put(b"%d" % i, b"x"))
    machine.commit()
    apply(machine, Compact(2001))
    commits = 0
    while machine.store.sweeping:
        machine.begin()
        machine.commit()
        commits += 1
    assert commits >= 5
    assert records_on_disk(machine) == 2000


@contextmanager
def files_at_most(size_bytes: int) -> Iterator[None]:
    """Writes beyond a size fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_error_and_loses_nothing(machine: KvMachine) -> None:
    apply(machine, Put(b"before", b"1"))
    machine.begin()
    results = [apply(machine, Put(b"%03d" % i, os.urandom(10_000))) for i in range(100)]
    with files_at_most(200_000), pytest.raises(OSError, match="working storage") as caught:
        machine.commit()
    assert caught.value.errno == errno.EFBIG, "LMDB says EIO of a write of which a part was taken"
    machine.commit()
    assert [kv.mod_revision for kv in ask(machine, Range(b"0", b"9")).kvs] == [r.revision for r in results]
    assert ask(machine, Range(b"before")).count == 1


def test_a_full_disk_outside_of_a_batch(machine: KvMachine) -> None:
    with files_at_most(200_000), pytest.raises(OSError, match="working storage"):
        apply(machine, Put(b"large", os.urandom(1_000_000)))


def test_no_file_is_left_open_or_behind(tmp_path: Path) -> None:
    def open_files() -> list[str]:
        fds = Path("/proc/self/fd")
        targets = [str(fd.readlink()) for fd in fds.iterdir() if os.path.lexists(fd)]
        # Another test of this process may still have files of its own: only ours count.
        return [target for target in targets if target.startswith(str(tmp_path))]

    machines = [KvMachine.opened(tmp_path / str(i)) for i in range(50)]
    for machine in machines:
        apply(machine, Put(b"a", b"b"))
    assert open_files()
    for machine in machines:
        machine.close()
        machine.close()
    assert open_files() == []
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("left", ["kv-0.lmdb", "kv-0.lmdb-lock"])
def test_a_process_that_was_killed_while_it_removed_a_table_left_one_file(left: str, tmp_path: Path) -> None:
    KvMachine.opened(tmp_path).close()
    (tmp_path / left).touch()
    machine = KvMachine.opened(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2, "a table and its lock file"
    machine.close()
    assert list(tmp_path.iterdir()) == []


def test_an_old_table_that_a_thread_removes_late_is_not_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that restored a snapshot ends, and another begins in its directory, as at a node that restarts."""
    removals: list[Path] = []
    removed = threading.Event()

    def remove(path: Path, lock_path: Path) -> None:
        removed.wait()
        remove_table(path, lock_path)
        removals.append(path)

    machine = KvMachine.opened(tmp_path)
    snapshot = BytesIO()
    machine.snapshot()(snapshot)
    monkeypatch.setattr("quorate.machines.kv.revisions.remove_table", remove)
    machine.restore(BytesIO(snapshot.getvalue()))()
    new = KvMachine.opened(tmp_path)
    removed.set()
    while not removals:
        time.sleep(0.001)
    assert len(list(tmp_path.iterdir())) == 2
    new.close()
    machine.close()


def test_a_store_that_is_loaded_and_never_adopted_ends_with_its_machine(tmp_path: Path) -> None:
    """LMDB knows an open file by its inode, and takes another that gets the same one for it."""
    machine = KvMachine.opened(tmp_path)
    snapshot = BytesIO()
    machine.snapshot()(snapshot)
    machine.restore(BytesIO(snapshot.getvalue()))
    adopt = machine.restore(BytesIO(snapshot.getvalue()))
    adopt()
    machine.close()
    while list(tmp_path.iterdir()):  # a thread removes what was replaced
        time.sleep(0.001)


def test_a_start_is_empty_whatever_was_there(tmp_path: Path) -> None:
    crashed = KvMachine.opened(tmp_path)
    apply(crashed, Put(b"a", b"b"))
    (tmp_path / "kv-77.lmdb").write_bytes(b"junk")
    (tmp_path / "kept").write_bytes(b"not ours")
    machine = KvMachine.opened(tmp_path)
    assert ask(machine, Range(b"a")).count == 0
    found = sorted(p.name for p in tmp_path.iterdir())
    assert found[0] == "kept"
    assert "kv-77.lmdb" not in found
    assert len(found) == 3
    machine.close()
