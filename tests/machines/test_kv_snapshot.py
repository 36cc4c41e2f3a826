"""Snapshots: isolation, damage, and what happens to the sweep and the files meanwhile."""

from __future__ import annotations

import gc
import io
import os
import random
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quorate.machines.kv.commands import Compact, DeleteRange, Events, Put, Range
from quorate.machines.kv.machine import KvMachine
from quorate.machines.kv.revisions import remove_table
from quorate.machines.kv.snapshot import MAGIC, SnapshotError

from tests.machines.kv_model import apply, ask, digest, records_on_disk, snapshot_bytes, sweep


@pytest.fixture
def other(tmp_path: Path) -> Iterator[KvMachine]:
    machine = KvMachine.opened(tmp_path / "other")
    apply(machine, Put(b"own", b"state"))
    yield machine
    machine.close()


def fill(machine: KvMachine, count: int, size: int = 20) -> None:
    machine.begin()
    for i in range(count):
        apply(machine, Put(b"%d" % (i % 97), random.Random(i).randbytes(size)))
        if i % 10 == 0:
            apply(machine, DeleteRange(b"%d" % (i * 3 % 97)))
    machine.commit()


class Meddler(io.BytesIO):
    """A stream that lets the machine go on between any two writes."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        super().__init__()
        self._meddle = meddle
        self.writes = 0

    def write(self, data: Any) -> int:
        self.writes += 1
        self._meddle()
        return super().write(data)


def test_it_goes_in_the_middle_of_a_file(machine: KvMachine, other: KvMachine, tmp_path: Path) -> None:
    fill(machine, 500)
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"header")
        machine.snapshot()(file)
        file.write(b"trailer")
        file.seek(6)
        adopt = other.restore(file)
        assert file.read() == b"trailer"
    assert ask(other, Range(b"own")).count == 1, "nothing changes before it is adopted"
    adopt()
    assert digest(other) == digest(machine)
    assert ask(other, Events(1, prev_kv=True)) == ask(machine, Events(1, prev_kv=True))
    assert apply(other, Put(b"next", b"")) == apply(machine, Put(b"next", b""))
    for thread in threading.enumerate():
        if thread.name == "quorate-remove":
            thread.join()
    assert len(list((tmp_path / "other").iterdir())) == 2, "the replaced file is gone"


def test_an_empty_store(machine: KvMachine, other: KvMachine) -> None:
    other.restore(io.BytesIO(snapshot_bytes(machine)))()
    assert ask(other, Range(b"\0", b"\0")).revision == 1
    assert apply(other, Put(b"a", b"")).revision == 2


def test_a_snapshot_within_a_batch_holds_what_was_applied(machine: KvMachine, other: KvMachine) -> None:
    machine.begin()
    apply(machine, Put(b"a", b"1"))
    writer = machine.snapshot()
    apply(machine, Put(b"b", b"2"))
    out = io.BytesIO()
    writer(out)
    machine.commit()
    other.restore(io.BytesIO(out.getvalue()))()
    assert ask(other, Range(b"\0", b"\0", keys_only=True)).count == 1


def test_what_is_applied_meanwhile_does_not_show(machine: KvMachine, other: KvMachine) -> None:
    fill(machine, 3000, 1000)
    before, events = digest(machine), ask(machine, Events(1))

    def meddle() -> None:
        fill(machine, 50)
        apply(machine, Compact(machine.store.revision))

    out = Meddler(meddle)
    machine.snapshot()(out)
    assert out.writes > 5, "the test has to meddle between chunks"
    other.restore(io.BytesIO(out.getvalue()))()
    assert digest(other) == before
    assert ask(other, Events(1)) == events
    sweep(machine)
    assert records_on_disk(machine) < 500


def test_an_interrupted_sweep_brings_no_deleted_key_back(machine: KvMachine, other: KvMachine) -> None:
    """A put in a chunk already written, its deletion swept before the next: the key would live again."""
    keys = [b"%05d" % i for i in range(2000)]
    machine.begin()
    for key in keys:
        apply(machine, Put(key, bytes(200)))
    for key in keys:
        apply(machine, DeleteRange(key))
    apply(machine, Put(b"last", b""))
    apply(machine, Compact(machine.store.revision))
    machine.commit()
    assert machine.store.records.doomed, "some records wait for their deletion"

    def meddle() -> None:
        for _ in range(100):
            machine.begin()
            machine.commit()

    out = Meddler(meddle)
    machine.snapshot()(out)
    other.restore(io.BytesIO(out.getvalue()))()
    assert ask(other, Range(b"\0", b"\0")).count == 1
    assert digest(other) == digest(machine)
    sweep(other)
    assert records_on_disk(other) == 1


def test_it_is_written_in_another_thread_while_the_store_grows(machine: KvMachine, other: KvMachine) -> None:
    fill(machine, 2000, 1000)
    before = digest(machine)
    out = io.BytesIO()
    thread = threading.Thread(target=machine.snapshot(), args=(out,))
    thread.start()
    rounds = 0
    while thread.is_alive() or rounds < 3:
        fill(machine, 200, 2000)
        rounds += 1
        assert rounds < 10_000
    thread.join()
    out.seek(0)
    adopts: list[Callable[[], None]] = []
    loader = threading.Thread(target=lambda: adopts.append(other.restore(out)))
    loader.start()
    while loader.is_alive():
        apply(other, Put(b"own", b"more"))
    loader.join()
    adopts[0]()
    assert digest(other) == before


def test_a_snapshot_that_is_never_written_holds_nothing_back(machine: KvMachine) -> None:
    fill(machine, 300)
    writer: Any = machine.snapshot()
    apply(machine, Compact(machine.store.revision))
    held = records_on_disk(machine)
    for _ in range(10):
        machine.begin()
        machine.commit()
    assert records_on_disk(machine) == held
    del writer
    gc.collect()
    sweep(machine)
    assert records_on_disk(machine) < held
    closed = machine.snapshot()
    closed.close()
    with pytest.raises(ValueError, match="closed already"):
        closed(io.BytesIO())


def test_the_sweep_goes_on_under_readers_that_follow_each_other(machine: KvMachine, other: KvMachine) -> None:
    """There is always one of them, and each was made after the compaction before the last."""
    store, views = machine.store, [machine.store.view()]
    for _ in range(20):
        fill(machine, 300)
        apply(machine, Compact(store.revision))
        views.append(store.view())
        views.pop(0).close()
        machine.commit()
        writer, before = machine.snapshot(), digest(machine)
        for _ in range(20):
            machine.commit()
        out = io.BytesIO()
        writer(out)
        other.restore(io.BytesIO(out.getvalue()))()
        assert digest(other) == before
    assert records_on_disk(machine) < 1000, "6,000 were written, and few can be read"


def test_nodes_that_swept_differently_write_the_same_snapshot(machine: KvMachine, other: KvMachine) -> None:
    """Nodes that may lie believe a snapshot that others have as well, byte by byte."""
    apply(machine, Put(b"own", b"state"))  # as the other one has it
    for one in (machine, other):
        one.begin()
        for _ in range(3):
            fill(one, 500, 400)
        apply(one, DeleteRange(b"3", b"4"))
        fill(one, 500, 400)
        apply(one, Compact(one.store.revision - 100))
    machine.commit()
    for _ in range(3):
        other.commit()
    assert records_on_disk(machine) != records_on_disk(other)
    assert snapshot_bytes(machine) == snapshot_bytes(other)
    sweep(machine)
    assert snapshot_bytes(machine) == snapshot_bytes(other)


def test_a_store_that_is_replaced_ends_its_snapshots(machine: KvMachine, other: KvMachine) -> None:
    writer = other.snapshot()
    other.restore(io.BytesIO(snapshot_bytes(machine)))()
    with pytest.raises(ValueError, match="closed or replaced"):
        writer(io.BytesIO())


def test_the_file_of_a_replaced_store_is_removed_by_a_thread(
    machine: KvMachine, other: KvMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large one takes a second, and this is the event loop."""
    old, removed = other.store.records.path, threading.Event()
    threads: list[threading.Thread] = []
    let_go = threading.Event()

    def remove(path: Path, lock_path: Path) -> None:
        threads.append(threading.current_thread())
        let_go.wait(60)
        remove_table(path, lock_path)
        removed.set()

    monkeypatch.setattr("quorate.machines.kv.revisions.remove_table", remove)
    other.restore(io.BytesIO(snapshot_bytes(machine)))()
    assert digest(other) == digest(machine), "it goes on before the file is gone"
    assert old.exists()
    let_go.set()
    assert removed.wait(60)
    assert threads[0] is not threading.current_thread()
    assert not old.exists()


def assert_refused(other: KvMachine, payload: bytes) -> None:
    before = digest(other)
    with pytest.raises(SnapshotError, match="snapshot"):
        other.restore(io.BytesIO(payload))
    assert digest(other) == before
    assert len(list(other._directory.iterdir())) == 2, "nothing is left of the attempt"


def test_every_truncation_is_refused(machine: KvMachine, other: KvMachine) -> None:
    fill(machine, 5)
    payload = snapshot_bytes(machine)
    for length in range(len(payload)):
        assert_refused(other, payload[:length])


def test_every_flipped_bit_is_refused(machine: KvMachine, other: KvMachine) -> None:
    fill(machine, 3)
    payload = snapshot_bytes(machine)
    for i in range(len(payload)):
        damaged = bytearray(payload)
        damaged[i] ^= 1 << (i % 8)
        assert_refused(other, bytes(damaged))


def test_a_lost_or_swapped_frame_is_refused(machine: KvMachine, other: KvMachine) -> None:
    fill(machine, 1000, 1000)
    payload = snapshot_bytes(machine)
    frames, at = [], len(MAGIC)
    while at < len(payload):
        size = 8 + struct.unpack_from(">I", payload, at)[0]
        frames.append(payload[at : at + size])
        at += size
    assert len(frames) > 4
    assert_refused(other, MAGIC + b"".join(frames[:1] + frames[2:]))
    assert_refused(other, MAGIC + b"".join([frames[0], frames[2], frames[1], *frames[3:]]))
    assert_refused(other, MAGIC + b"".join([*frames[:-2], frames[-1]]))


def test_random_bytes_are_refused(other: KvMachine) -> None:
    assert_refused(other, b"")
    assert_refused(other, os.urandom(1000))
    assert_refused(other, MAGIC + os.urandom(1000))
    assert_refused(other, MAGIC + struct.pack(">II", 2**32 - 1, 0))


def test_large_records_are_read_ahead_and_change_nothing(machine: KvMachine, other: KvMachine) -> None:
    """Threads that touch them, a file that grows under them, and a store that is closed while they do."""
    for _ in range(3):
        for number in range(30):
            apply(machine, Put(b"%d" % number, os.urandom(100_000)))
    apply(machine, Compact(machine.store.revision - 10))
    before = digest(machine)
    touched: list[tuple[int, int]] = []
    touch = machine.store.records.touch

    def watched(start: int, end: int) -> None:
        touched.append((start, end))
        touch(start, end)

    machine.store.records.touch = watched  # type: ignore[method-assign]
    out = Meddler(lambda: apply(machine, Put(b"more", os.urandom(500_000))))
    machine.snapshot()(out)
    assert touched
    assert all(start < end for start, end in touched)
    other.restore(io.BytesIO(out.getvalue()))()
    assert digest(other) == before
    sweep(machine)
    closed = Meddler(machine.close)
    with pytest.raises(ValueError, match="closed or replaced"):
        machine.snapshot()(closed)


def test_a_reader_holds_the_file_in_place(machine: KvMachine) -> None:
    """One that would close it waits, and nobody begins meanwhile."""
    apply(machine, Put(b"a", bytes(1000)))
    records, order = machine.store.records, []

    def read_late() -> None:
        with pytest.raises(ValueError, match="closed or replaced"):
            records.touch(0, 1 << 60)
        order.append("too late")

    def close() -> None:
        records.close()
        order.append("closed")

    with records._reading():
        closing, late = threading.Thread(target=close), threading.Thread(target=read_late)
        closing.start()
        while not records._is_closing:
            closing.join(0.001)
        late.start()
        late.join(0.05)
        order.append("read")
    closing.join()
    late.join()
    assert order[0] == "read"
    assert sorted(order[1:]) == ["closed", "too late"]
