"""Compaction at its boundaries: what survives, what events show, and that the sweep changes nothing one can see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.machines.kv.commands import Compact, CompactResult, DeleteRange, Events, Put, Range
from quorate.machines.kv.machine import KvMachine

from tests.machines.kv_model import COMPACTED, FUTURE, apply, ask, digest, records_on_disk, sweep


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[KvMachine]:
    machine = KvMachine.opened(tmp_path / "kv")
    for value in (b"2", b"3", b"4", b"5"):
        apply(machine, Put(b"a", value))
    apply(machine, Put(b"b", b"6"))
    apply(machine, DeleteRange(b"b"))  # revision 7
    apply(machine, Put(b"a", b"8"))
    yield machine
    machine.close()


def keys_at(machine: KvMachine, revision: int) -> list[tuple[bytes, bytes]]:
    return [(kv.key, kv.value) for kv in ask(machine, Range(b"\0", b"\0", revision=revision)).kvs]


def test_the_version_as_of_the_compacted_revision_survives(machine: KvMachine) -> None:
    assert apply(machine, Compact(6)) == CompactResult(8)
    for _ in range(2):
        assert keys_at(machine, 6) == [(b"a", b"5"), (b"b", b"6")]
        assert keys_at(machine, 7) == [(b"a", b"5")]
        assert ask(machine, Range(b"a", revision=5)) == COMPACTED
        sweep(machine)
    assert records_on_disk(machine) == 4


def test_a_deletion_is_kept_at_its_revision_and_removed_by_the_next_compaction(machine: KvMachine) -> None:
    apply(machine, Compact(7))
    sweep(machine)
    assert [e.is_delete for e in ask(machine, Events(7)).events] == [True, False]
    assert records_on_disk(machine) == 3
    apply(machine, Compact(8))
    sweep(machine)
    assert records_on_disk(machine) == 1
    assert machine.store.index.get(b"b") is None
    assert keys_at(machine, 8) == [(b"a", b"8")]
    assert apply(machine, Put(b"b", b"again")).revision == 9
    assert ask(machine, Range(b"b")).kvs[0].version == 1


def test_events_name_no_previous_version_that_is_compacted(machine: KvMachine) -> None:
    apply(machine, Put(b"a", b"9"))
    for _ in range(20):
        machine.begin()
        for i in range(50):
            apply(machine, Put(b"other%d" % i, b""))
        machine.commit()
    view = machine.store.view()  # the sweep waits, so that there is something to hide
    apply(machine, Compact(8))
    hidden = ask(machine, Events(8, limit=2, prev_kv=True))
    assert [e.prev_kv and e.prev_kv.value for e in hidden.events] == [None, b"8"]
    before = digest(machine)
    view.close()
    sweep(machine)
    assert ask(machine, Events(8, limit=2, prev_kv=True)) == hidden
    assert digest(machine) == before


def test_a_commit_sweeps_so_many_bytes(machine: KvMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not so many records, which may have a megabyte each."""
    for _ in range(40):
        apply(machine, Put(b"large", bytes(200_000)))
    looked: list[bytes] = []
    scan = machine.store.records.scan

    def scanned(start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
        for key, record in scan(start, end):
            looked.append(record)
            yield key, record

    monkeypatch.setattr(machine.store.records, "scan", scanned)
    apply(machine, Compact(machine.store.revision))
    while machine.store.sweeping:
        assert sum(map(len, looked)) < 4 * 201_000, "two within the share, one above it, and one that it stops at"
        looked.clear()
        machine.commit()
    monkeypatch.undo()
    assert records_on_disk(machine) < 10


def test_what_is_refused(machine: KvMachine) -> None:
    assert apply(machine, Compact(9)) == FUTURE
    assert apply(machine, Compact(-1)) == COMPACTED
    assert apply(machine, Compact(0)) == CompactResult(8)
    assert apply(machine, Compact(0)) == COMPACTED
    assert apply(machine, Compact(5)) == CompactResult(8)
    assert apply(machine, Compact(5)) == COMPACTED
    assert ask(machine, Events(4)) == COMPACTED
    assert ask(machine, Range(b"a", revision=9)) == FUTURE
    assert ask(machine, Events(9)).events == []


def test_events_are_never_cut_within_a_revision(machine: KvMachine) -> None:
    machine.begin()
    for key in (b"x1", b"x2", b"x3"):
        apply(machine, Put(key, b""))
    apply(machine, DeleteRange(b"x", b"y"))
    apply(machine, Put(b"z", b""))
    machine.commit()
    page = ask(machine, Events(12, limit=1))
    assert [e.kv.key for e in page.events] == [b"x1", b"x2", b"x3"]
    assert page.next_revision == 13
    rest = ask(machine, Events(page.next_revision, limit=1))
    assert [e.kv.key for e in rest.events] == [b"z"]
    assert ask(machine, Events(rest.next_revision)).next_revision == 14
