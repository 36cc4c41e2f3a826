"""What a store knows of its past: times, the window of its history, rollbacks; alike on all replicas."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from quorate.machines.kv import chronicle
from quorate.machines.kv.chronicle import Annals, Chronicle
from quorate.machines.kv.commands import (
    AskHistory,
    Compact,
    Digest,
    HistoryResult,
    KeepHistory,
    Put,
    Range,
    RolledBack,
    TimeMark,
    encode,
)
from quorate.machines.kv.machine import KvMachine
from quorate.machines.kv.snapshot import MAGIC, SnapshotError

from tests.machines.kv_model import COMPACTED, apply, ask, digest, records_on_disk, snapshot_bytes, sweep

S = 1_000_000_000
ALL = b"\0"


def puts(machine: KvMachine, count: int) -> None:
    for number in range(count):
        apply(machine, Put(b"k%d" % (number % 3), b"v"))


def history(machine: KvMachine, at_ns: int = 0) -> HistoryResult:
    found = ask(machine, AskHistory(at_ns))
    assert isinstance(found, HistoryResult)
    return found


def test_which_revision_there_was_at_a_time(machine: KvMachine) -> None:
    assert history(machine).at is None
    for second in (10, 20, 30):
        puts(machine, 5)
        machine.passes(second * S)
    assert history(machine, 10 * S - 1).at is None
    for at_ns, mark in (
        (10 * S, TimeMark(6, 10 * S)),
        (20 * S - 1, TimeMark(6, 10 * S)),
        (20 * S, TimeMark(11, 20 * S)),
        (99 * S, TimeMark(16, 30 * S)),
        (0, TimeMark(16, 30 * S)),
    ):
        assert history(machine, at_ns).at == mark
    machine.passes(40 * S)
    assert history(machine).at == TimeMark(16, 30 * S), "it was there at 30 already"
    puts(machine, 1)
    machine.passes(7 * S)
    assert history(machine).at == TimeMark(17, 30 * S), "time does not run backwards"


def test_by_count_as_much_is_kept_as_was_said(machine: KvMachine) -> None:
    puts(machine, 300)
    assert apply(machine, KeepHistory(100)).revision == 301
    assert machine.store.compact_revision == 201
    puts(machine, 9)
    assert machine.store.compact_revision == 201, "a tenth more, so that it is cut now and then alone"
    puts(machine, 1)
    assert machine.store.compact_revision == 211
    assert ask(machine, Range(b"k1", revision=210)) == COMPACTED
    assert ask(machine, Range(b"k1", revision=211)).kvs
    assert apply(machine, Compact(250)).revision == 311
    puts(machine, 48)
    assert machine.store.compact_revision == 250
    puts(machine, 1)
    assert machine.store.compact_revision == 260
    apply(machine, KeepHistory())
    puts(machine, 500)
    assert machine.store.compact_revision == 260, "everything is kept again"
    sweep(machine)
    assert records_on_disk(machine) <= 860 - 260 + 3


def test_by_age_what_was_there_when_the_window_began_can_be_read(machine: KvMachine) -> None:
    apply(machine, KeepHistory(age_s_max=60))
    for second in range(0, 200, 10):
        puts(machine, 10)
        machine.passes(second * S)
    newest = machine.store.revision
    assert machine.store.compact_revision == newest - 60
    assert history(machine, 130 * S).at == TimeMark(newest - 60, 130 * S)
    assert history(machine, 130 * S - 1).at is None, "what cannot be read has no time"
    assert ask(machine, Range(b"k0", revision=newest - 60)).kvs
    apply(machine, KeepHistory(20, 60))
    assert machine.store.compact_revision == newest - 20, "whichever is less"


def test_many_times_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chronicle, "MARKS_MAX", 64)
    told = Chronicle()
    for number in range(1, 5000):
        told.mark(number, number * S)
        assert len(told.marks) <= 64
    assert [mark.revision for mark in told.marks[-3:]] == [4997, 4998, 4999]
    assert told.marks == sorted(told.marks, key=lambda mark: mark.revision)
    assert told.marks[0].revision == 1, "the oldest stays: there is an answer for each time since"
    assert told.at(2000 * S) is not None


def test_rollbacks_are_remembered_the_newest_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chronicle, "ROLLBACKS_MAX", 3)
    told = Chronicle()
    for number in range(10):
        told.rolled_back(RolledBack(number, 1, ALL, ALL, "me", 0, 1, 1))
    assert [entry.revision for entry in told.rollbacks] == [7, 8, 9]


def test_a_snapshot_has_it_all_and_replicas_agree(machine: KvMachine, tmp_path: Path) -> None:
    apply(machine, KeepHistory(50, 600))
    before = digest(machine)
    puts(machine, 40)
    machine.passes(5 * S)
    assert digest(machine) != before
    other = KvMachine.opened(tmp_path / "other")
    other.restore(cast(BinaryIO, io.BytesIO(snapshot_bytes(machine))))()
    for each in (machine, other):
        puts(each, 30)
        each.passes(6 * S)
        puts(each, 30)
    assert ask(machine, Digest()) == ask(other, Digest())
    assert snapshot_bytes(machine) == snapshot_bytes(other)
    assert history(other) == history(machine)
    assert other.store.compact_revision > 0
    other.close()


def test_a_store_of_which_nothing_is_told_writes_what_it_always_did(machine: KvMachine) -> None:
    puts(machine, 3)
    stream = snapshot_bytes(machine)
    header = encode((4, -1))
    assert stream[len(MAGIC) :].startswith(struct.pack(">II", len(header), zlib.crc32(header)) + header)


@pytest.mark.parametrize(
    "annals",
    [
        Annals([TimeMark(3, 1), TimeMark(3, 2)]),
        Annals([TimeMark(3, 2), TimeMark(4, 1)]),
        Annals([TimeMark(9, 1)]),
        Annals([TimeMark(0, 1)]),
        Annals([], [RolledBack(9, 1, ALL, ALL, "me", 0, 0, 0)]),
        ([], [], -1, 0),
        ([], [], 0, 0, 0),
        ([[1, 1]] * 9000, [], 0, 0),
    ],
)
def test_a_past_that_cannot_be_is_refused(annals: Any, machine: KvMachine) -> None:
    header = encode((4, -1, annals))
    stream = MAGIC + struct.pack(">II", len(header), zlib.crc32(header)) + header
    with pytest.raises(SnapshotError, match=r"out of order|to come|doesn't decode"):
        machine.restore(cast(BinaryIO, io.BytesIO(stream)))
