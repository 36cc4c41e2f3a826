"""A backup is of one revision, whatever is written while it is taken; two planted bugs that this finds."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from quorate.machines.kv.commands import DeleteRange, KeyValue, Put, Range, Txn
from quorate.machines.kv.machine import KvMachine
from quorate.machines.kv.snapshot import SnapshotWriter
from quorate.machines.kv.store import View
from quorate.service.backup.giving import Backups
from quorate.service.requests import BackupBegun, BackupPiece, TakeBackup, TakePiece

from tests.machines.kv_model import apply, ask

States = dict[int, dict[bytes, bytes]]


class Machine(KvMachine):
    """A store that is written to in pairs of keys, and a history of all its states."""

    history_of: States

    def change(self, rng: random.Random) -> None:
        key = b"%d" % rng.randrange(300)
        state = dict(self.history_of[self.store.revision])
        if rng.random() < 0.2:
            apply(self, DeleteRange(b"a" + key))
            state.pop(b"a" + key, None)
        else:
            value = rng.randbytes(rng.choice((10, 4000)))
            apply(self, Txn([], [Put(b"a" + key, value), Put(b"b" + key, value)]))
            state |= {b"a" + key: value, b"b" + key: value}
        self.history_of[self.store.revision] = state


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine.opened(tmp_path / "kv")
    machine.history_of = {1: {}}
    rng = random.Random(1)
    for _ in range(400):
        machine.change(rng)
    yield machine
    machine.close()


class Caller:
    """A client that takes a backup, with changes between its pieces."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Any] = asyncio.Queue()

    def reply(self, response: Any) -> None:
        self.answers.put_nowait(response)


async def taken(machine: Machine) -> tuple[int, bytes]:
    """The revision that the head of a backup says, and the state in it; half of the changes come before a piece."""
    rng, caller = random.Random(2), Caller()

    def begin(request: TakeBackup) -> tuple[BackupBegun, Callable[[BinaryIO], None]]:
        begun = BackupBegun(request.id, "c", "raft", 1, "leader", 1, 1, machine.kind, *machine.history(), 0, "0")
        return begun, machine.snapshot()

    backups = Backups(begin)
    backups.begin(caller, TakeBackup(1))
    begun = await caller.answers.get()
    data, number = b"", 2
    while True:
        for _ in range(40):
            machine.change(rng)
        backups.piece(caller, TakePiece(number))
        async with asyncio.timeout(20):
            piece = await caller.answers.get()
        assert isinstance(piece, BackupPiece), piece
        if piece.digest:
            return begun.revision, data
        data += piece.data
        number += 1


def check(machine: Machine, folder: Path, revision: int, data: bytes) -> None:
    """What was taken is the state of that revision, all of it, in the past as well."""
    loaded = KvMachine.opened(folder)
    try:
        loaded.restore(cast(BinaryIO, io.BytesIO(data)))()
        assert loaded.store.revision == revision
        for past in range(max(1, revision - 3), revision + 1):
            found: list[KeyValue] = ask(loaded, Range(b"\0", b"\0", revision=past)).kvs
            assert {kv.key: kv.value for kv in found} == machine.history_of[past]
    finally:
        loaded.close()


def test_a_backup_is_of_one_revision(machine: Machine, tmp_path: Path) -> None:
    revision, data = asyncio.run(taken(machine))
    assert machine.store.revision > revision + 100, "many changes came while it was taken"
    check(machine, tmp_path / "loaded", revision, data)


def test_a_state_that_is_captured_too_late_is_found(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = random.Random(3)

    def late(self: Machine) -> Callable[[BinaryIO], None]:
        self.store.records.flush()
        for _ in range(10):  # which come between the head and the capture
            self.change(changes)
        self.store.records.flush()
        return SnapshotWriter(self.store.view())

    monkeypatch.setattr(Machine, "snapshot", late)
    revision, data = asyncio.run(taken(machine))
    with pytest.raises(AssertionError):
        check(machine, tmp_path / "loaded", revision, data)


def test_a_view_that_is_not_held_at_its_revision_is_found(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream goes on with whatever was written since."""

    class Open(View):
        reads = 0

        def __init__(self, *args: Any) -> None:
            self._at = args[0]
            super().__init__(*args)

        @property
        def revision(self) -> int:
            Open.reads += 1
            return int(self._at if Open.reads == 1 else 1 << 40)  # the head is right, and then all that comes

        @revision.setter
        def revision(self, value: int) -> None:
            pass

    def opened(self: Machine) -> Callable[[BinaryIO], None]:
        self.store.records.flush()
        store = self.store
        return SnapshotWriter(Open(store.revision, store.compact_revision, store.records, store.index))

    monkeypatch.setattr(Machine, "snapshot", opened)
    revision, data = asyncio.run(taken(machine))
    with pytest.raises((AssertionError, ValueError)):
        check(machine, tmp_path / "loaded", revision, data)
