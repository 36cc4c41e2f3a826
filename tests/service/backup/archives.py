"""Backup files for tests."""

from __future__ import annotations

import io
from pathlib import Path

from quorate.machines.kv.commands import DeleteRange, Put
from quorate.machines.kv.machine import KvMachine
from quorate.service.backup.archive import BackupEnd, BackupHead, BackupWriter

from tests.machines.kv_model import apply

HEAD = BackupHead("old", "raft", 2, "follower", 40, 3, "kv", 9, 0, 1_700_000_000_000_000_000, "0.1.0")


def write(path: Path, data: bytes, head: BackupHead = HEAD) -> BackupEnd:
    """A backup of this state, in several writes."""
    with BackupWriter(path, head) as writer:
        for start in range(0, len(data), 100_000):
            writer.write(data[start : start + 100_000])
        return writer.finish()


def small_store(folder: Path) -> bytes:
    """The stream of a store at revision 9."""
    machine = KvMachine.opened(folder)
    try:
        for number in range(6):
            apply(machine, Put(b"key %d" % (number % 4), b"value %d" % number))
        apply(machine, DeleteRange(b"key 3"))
        apply(machine, Put(b"last", b"x" * 200))
        stream = io.BytesIO()
        machine.snapshot()(stream)
        return stream.getvalue()
    finally:
        machine.close()
