"""Marks: what a start finds of a table, whatever came after the mark, whatever a crash left, whatever was damaged."""

from __future__ import annotations

import io
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from quorate.kernel import AppEnded, StateMark
from quorate.machines.kv.commands import Compact, DeleteRange, Put, Range
from quorate.machines.kv.machine import KvMachine
from quorate.machines.kv.marks import MAGIC, KvMark
from quorate.machines.kv.revisions import SYNC_BYTES
from quorate.machines.kv.table_reader import TableDamaged, heads_apart

from tests.machines.kv_model import apply, ask, digest, fill, records_on_disk, snapshot_bytes, sweep

PAGE = 4096


def work(machine: KvMachine, rng: random.Random, batches: int) -> None:
    """Puts of all sizes, deletions and compactions."""
    for _ in range(batches):
        machine.begin()
        for _ in range(rng.randrange(1, 30)):
            key = b"%d" % rng.randrange(60)
            if rng.random() < 0.2:
                apply(machine, DeleteRange(key))
            else:
                apply(machine, Put(key, rng.randbytes(rng.choice((5, 300, 9000)))))
        if rng.random() < 0.2 and machine.store.revision - 20 > machine.store.compact_revision:
            apply(machine, Compact(machine.store.revision - 20))
        machine.commit()


def written(mark: StateMark) -> bytes:
    out = io.BytesIO()
    mark.write(out)
    return out.getvalue()


def streamed(mark: StateMark) -> bytes:
    out = io.BytesIO()
    mark.stream()(out)
    return out.getvalue()


def table_of(machine: KvMachine) -> Path:
    (table,) = machine.store.records.path.parent.glob("store-*.lmdb")
    return table


def restarted(folder: Path, mark: bytes) -> tuple[KvMachine, StateMark]:
    machine = KvMachine.opened(folder)
    try:
        return machine, machine.reopen(io.BytesIO(mark))()
    except BaseException:
        machine.close()
        raise


@pytest.mark.parametrize("seed", range(6))
def test_a_start_has_the_state_at_the_mark_and_nothing_later(seed: int, machine: KvMachine, tmp_path: Path) -> None:
    """Again and again, with other marks in between, while the file grows and the sweep goes on."""
    rng = random.Random(seed)
    for _ in range(4):
        work(machine, rng, rng.randrange(8))
        sweep(machine)
        expected, stream = digest(machine), snapshot_bytes(machine)
        mark = machine.mark()
        saved = written(mark)
        work(machine, rng, rng.randrange(12))
        if rng.random() < 0.5:
            written(machine.mark())  # a newer one, that the journal does not name
            work(machine, rng, 5)
        assert streamed(mark) == stream, "what others get is of the mark, too"
        apply(machine, Compact(machine.store.revision))
        sweep(machine)
        assert streamed(mark) == stream, "the sweep left what can be read at the mark"
        machine.close()
        machine, mark = restarted(tmp_path / "kv", saved)
        assert digest(machine) == expected
        assert snapshot_bytes(machine) == streamed(mark) == stream
        work(machine, rng, rng.randrange(12))
        machine.close()  # before the journal named another
        machine, _ = restarted(tmp_path / "kv", saved)
        assert digest(machine) == expected
    machine.close()


def test_a_doomed_record_stays_doomed(machine: KvMachine, tmp_path: Path) -> None:
    for _ in range(3):
        apply(machine, Put(b"hot", b"x"))
    apply(machine, Compact(4))
    machine.store._sweep(100, 1 << 20)
    assert machine.store.records.doomed == 2
    saved = written(machine.mark())
    machine.close()
    again, _ = restarted(tmp_path / "kv", saved)
    assert again.store.records.doomed == 2
    state = again.store.index.get(b"hot")
    assert state is not None
    assert state.past is None, "the index names no record that is about to go"
    sweep(again)
    assert records_on_disk(again) == 1
    again.close()


POWER_CUT = """
import sys
from pathlib import Path
from tests.machines.test_kv_marks import cut_power
cut_power(Path(sys.argv[1]), int(sys.argv[2]), is_pinned=sys.argv[3] == "pinned")
"""


def cut_power(folder: Path, seed: int, *, is_pinned: bool) -> None:
    """Of the pages written since the mark's sync any are on the disk, in no order. Raises if the state is another."""
    rng = random.Random(seed)
    machine = KvMachine.opened(folder)
    work(machine, rng, rng.randrange(5, 25))
    expected = digest(machine)
    mark = machine.mark()
    saved = written(mark)
    if not is_pinned:
        assert isinstance(mark, KvMark)
        mark._pin.close()
    table = table_of(machine)
    synced = table.read_bytes()
    work(machine, rng, rng.randrange(5, 40))
    cached = table.read_bytes()
    machine.close()
    left = bytearray(cached)
    for at in range(0, len(cached), PAGE):
        if rng.random() < 0.5:
            left[at : at + PAGE] = synced[at : at + PAGE] or bytes(PAGE)
    table.write_bytes(left)
    again, _ = restarted(folder, saved)
    assert digest(again) == expected
    work(again, rng, 10)
    again.close()


@pytest.mark.parametrize("seed", range(5))
def test_what_a_power_failure_leaves_in_no_order_has_the_state_at_the_mark(seed: int, tmp_path: Path) -> None:
    cut_power(tmp_path, seed, is_pinned=True)


@pytest.mark.slow
def test_without_its_pin_a_mark_is_worth_nothing(tmp_path: Path) -> None:
    """LMDB may end the process, so this is another one."""
    failed = 0
    for seed in range(5):
        done = subprocess.run(
            [sys.executable, "-c", POWER_CUT, str(tmp_path / str(seed)), str(seed), "unpinned"], capture_output=True
        )
        failed += done.returncode != 0
    assert failed >= 4


def test_nothing_is_written_before_the_pages_are_on_the_disk(
    machine: KvMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    class Watched(io.BytesIO):
        def write(self, data: object) -> int:
            order.append("mark")
            return 0

    apply(machine, Put(b"a", b"b"))
    mark = machine.mark()
    monkeypatch.setattr("quorate.machines.kv.revisions.os.fdatasync", lambda fd: order.append("pages"))
    monkeypatch.setattr(
        "quorate.machines.kv.revisions.os.fsync", lambda fd: order.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
    )
    mark.write(Watched())
    folder = table_of(machine).parent
    assert order == ["pages", str(folder), str(folder.parent), "mark"], "the table has its name, by which it is found"
    order.clear()
    machine.mark().write(Watched())
    assert order == ["pages", "mark"]


def test_a_disk_that_failed_once_to_sync_is_not_believed_again(
    machine: KvMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    apply(machine, Put(b"a", b"b"))
    mark = machine.mark()
    with monkeypatch.context() as patched:
        patched.setattr("quorate.machines.kv.revisions.os.fdatasync", fail)
        with pytest.raises(AppEnded, match="failed to sync"):
            mark.write(io.BytesIO())
    with pytest.raises(AppEnded, match="failed to sync"):
        machine.mark().write(io.BytesIO())


def test_a_kept_table_is_synced_as_it_grows(machine: KvMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("quorate.machines.kv.revisions.os.fdatasync", synced.append)
    value = bytes(1 << 20)
    for _ in range(20):
        apply(machine, Put(b"a", value))
    assert synced == [], "working storage is not"
    machine.mark()
    for _ in range((SYNC_BYTES >> 20) + 1):
        apply(machine, Put(b"a", value))
    while not synced:
        time.sleep(0.001)
    assert len(synced) == 1


def flip(table: Path, at: int) -> None:
    data = bytearray(table.read_bytes())
    data[at] ^= 1
    table.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda table: flip(table, table.read_bytes().index(b"the value")), "damaged: a checksum"),
        (lambda table: flip(table, table.read_bytes().index(b"the key")), "damaged: a checksum"),
        (Path.unlink, "is gone"),
    ],
)
def test_a_damaged_table_is_refused(
    damage: Callable[[Path], None], said: str, machine: KvMachine, tmp_path: Path
) -> None:
    apply(machine, Put(b"the key", b"the value" * 20))
    for number in range(100):
        apply(machine, Put(b"%d" % number, bytes(200)))
    table, saved = (machine.mark(), table_of(machine))[1], b""
    saved = written(machine.mark())
    machine.close()
    damage(table)
    with pytest.raises(ValueError, match=said):
        restarted(tmp_path / "kv", saved)


def test_a_stream_for_others_has_no_damaged_record(machine: KvMachine) -> None:
    apply(machine, Put(b"key", b"the value" * 20))
    mark = machine.mark()
    flip_in_place(table_of(machine), b"the value")
    with pytest.raises(AppEnded, match="checksum"):
        streamed(mark)


def flip_in_place(table: Path, what: bytes) -> None:
    at = table.read_bytes().index(what)
    with table.open("r+b") as file:
        file.seek(at)
        file.write(b"T")


@pytest.mark.parametrize("at", [0, len(MAGIC) + 1, len(MAGIC) + 9, -1])
def test_a_damaged_mark_is_refused(at: int, machine: KvMachine, tmp_path: Path) -> None:
    apply(machine, Put(b"a", b"b"))
    saved = bytearray(written(machine.mark()))
    saved[at] ^= 1
    with pytest.raises(ValueError, match=r"mark|snapshot"):
        KvMachine(tmp_path / "kv").reopen(io.BytesIO(bytes(saved)))


def test_a_snapshot_is_no_mark_and_a_mark_no_snapshot(machine: KvMachine) -> None:
    apply(machine, Put(b"a", b"b"))
    with pytest.raises(ValueError, match="not a mark"):
        machine.reopen(io.BytesIO(snapshot_bytes(machine)))
    with pytest.raises(ValueError, match="not a key-value snapshot"):
        machine.restore(io.BytesIO(written(machine.mark())))


def test_a_mark_that_was_given_up_streams_nothing(machine: KvMachine) -> None:
    mark = machine.mark()
    mark.close()
    mark.close()
    with pytest.raises(ValueError, match="given up"):
        mark.stream()


def test_marks_of_a_state_that_was_replaced(machine: KvMachine, tmp_path: Path) -> None:
    apply(machine, Put(b"a", b"b"))
    mark, table = machine.mark(), table_of(machine)
    stream = mark.stream()
    machine.restore(io.BytesIO(snapshot_bytes(machine)))()
    with pytest.raises(ValueError, match="closed or replaced"):
        mark.write(io.BytesIO())
    with pytest.raises(ValueError, match="closed or replaced"):
        stream(io.BytesIO())
    mark.close()
    while table.exists():
        time.sleep(0.001)
    apply(machine, Put(b"a", b"c"))
    saved = written(machine.mark())
    machine.close()
    again, _ = restarted(tmp_path / "kv", saved)
    assert ask(again, Range(b"a")).kvs[0].value == b"c"
    again.close()


def test_a_start_without_a_mark_is_empty_and_its_first_mark_ends_what_was_kept(
    machine: KvMachine, tmp_path: Path
) -> None:
    apply(machine, Put(b"a", b"b"))
    written(machine.mark())
    old = table_of(machine)
    machine.close()
    assert old.exists()
    machine = KvMachine.opened(tmp_path / "kv")
    assert ask(machine, Range(b"a")).count == 0
    assert old.exists(), "the journal may name a mark in it"
    written(machine.mark())
    assert table_of(machine) != old
    machine.close()


def test_a_table_that_was_reopened_and_not_wanted_can_be_reopened(machine: KvMachine, tmp_path: Path) -> None:
    apply(machine, Put(b"a", b"b"))
    saved, expected = written(machine.mark()), digest(machine)
    machine.close()
    again = KvMachine(tmp_path / "kv")
    again.reopen(io.BytesIO(saved))
    again.open()
    again.reopen(io.BytesIO(saved))()
    assert digest(again) == expected
    again.close()


def _spoil_inner_pages(table: Path) -> None:
    """What LMDB follows without a look."""
    data, rng, spoiled = bytearray(table.read_bytes()), random.Random(1), 0
    for at in range(2 * PAGE, len(data), PAGE):
        if int.from_bytes(data[at + 10 : at + 12], "little") == 1:
            data[at + 16 : at + PAGE] = rng.randbytes(PAGE - 16)
            spoiled += 1
    assert spoiled
    table.write_bytes(data)


def test_another_process_reads_what_may_end_the_process(machine: KvMachine, tmp_path: Path) -> None:
    fill(machine, 3000, bytes(300))
    saved, table, expected = written(machine.mark()), table_of(machine), digest(machine)
    machine.close()
    again = KvMachine(tmp_path / "kv", read=heads_apart)
    again.open()
    again.reopen(io.BytesIO(saved))()
    assert digest(again) == expected
    again.close()
    _spoil_inner_pages(table)
    with pytest.raises(TableDamaged, match=re.escape(str(table))):
        KvMachine(tmp_path / "kv", read=heads_apart).reopen(io.BytesIO(saved))


def test_what_the_other_process_says_is_said(machine: KvMachine, tmp_path: Path) -> None:
    apply(machine, Put(b"key", b"the value" * 20))
    saved, table = written(machine.mark()), table_of(machine)
    machine.close()
    flip(table, table.read_bytes().index(b"the value"))
    with pytest.raises(TableDamaged, match="a checksum doesn't match"):
        KvMachine(tmp_path / "kv", read=heads_apart).reopen(io.BytesIO(saved))


@pytest.mark.parametrize(
    ("ending", "error"),
    [("kill -SEGV $$", TableDamaged), ("kill -KILL $$", OSError), ("kill -TERM $$", OSError), ("exit 1", OSError)],
)
def test_a_reader_that_was_killed_says_nothing_of_the_table(
    machine: KvMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, error: type[Exception]
) -> None:
    """Else a node would throw its memory away, as the system was short of its own."""
    fill(machine, 10)
    saved = written(machine.mark())
    machine.close()
    reader = tmp_path / "python"
    reader.write_text(f"#!/bin/sh\n{ending}\n")
    reader.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(reader))
        with pytest.raises(error, match="the process that read it ended with"):
            KvMachine(tmp_path / "kv", read=heads_apart).reopen(io.BytesIO(saved))
    KvMachine(tmp_path / "kv", read=heads_apart).reopen(io.BytesIO(saved))


def test_a_start_that_nobody_wants_any_more_ends(machine: KvMachine, tmp_path: Path) -> None:
    class Unwanted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if not size:
                raise EOFError
            return super().read(size)

    fill(machine, 10)
    saved = written(machine.mark())
    machine.close()
    with pytest.raises(EOFError):
        KvMachine(tmp_path / "kv", read=heads_apart).reopen(Unwanted(saved))
