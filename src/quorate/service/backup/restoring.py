"""Restoring: the folders of a new cluster that begins with what is in a backup.

How it works. Each founder's folder gets the state as a snapshot (``founding.py``). The new cluster has another name
than the old one, so that no node of either is ever taken for one of the other, and an index far above the old one's.

Sessions are not in a backup: what a client sent to the old cluster is known there alone. A
session's id is an index of the log. The old cluster may go on, and its clients may call the new one at the same
addresses; so the new one begins ``INDEX_STEP`` above, and knows none of the ids that they have. Leases are in a backup
as the numbers that keys have.

A key-value store is decoded record by record, and can be cut at an older revision, as far back as the backup has
history. Any other state is copied, and its program decodes it when the node starts.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, cast

from quorate.machines.kv.machine import KvMachine
from quorate.machines.kv.refusals import KvError
from quorate.parts.log.replicated import Survivor
from quorate.service.backup.archive import DATA_BYTES_MAX, BackupDamaged, BackupEnd, BackupHead, BackupReader
from quorate.service.config import NodeConfig
from quorate.service.founding import Footing, found_folder
from quorate.service.replica import encode_head
from quorate.service.sessions import Sessions

INDEX_STEP: Final = 1 << 40
NAME_CHARACTERS_MAX: Final = 60


class CannotRestore(ValueError):
    """There is no way; the text says why, and what to do instead."""


def new_name(head: BackupHead) -> str:
    """For a cluster that begins with this backup: nobody else's."""
    return f"{head.cluster[:NAME_CHARACTERS_MAX]}-{secrets.token_hex(4)}"


def check_backup(path: Path) -> tuple[BackupHead, BackupEnd]:
    """Read all of a backup, and decode each record of a key-value store. Raises BackupDamaged, OSError."""
    with BackupReader(path) as reader:
        if reader.head.kind != KvMachine.kind:
            return reader.head, reader.check()
        with tempfile.TemporaryDirectory(prefix="quorate-backup-") as folder:
            _loaded(reader, Path(folder)).close()
        assert reader.end is not None
        return reader.head, reader.end


def restore_node(path: Path, config: NodeConfig, revision: int | None = None) -> BackupHead:
    """Make the data folder of one founder of a new cluster, which its configuration names.

    ``revision``: of a key-value store, the state as it was then. Raises CannotRestore, BackupDamaged, StorageError,
    OSError.
    """
    with BackupReader(path) as reader:
        head = reader.head
        _check(head, config, revision)
        members = config.founders
        if config.options is not None and config.options.members:
            members = tuple(sorted(config.options.members))
        index = head.index + INDEX_STEP
        found_folder(
            config, Footing(index, head.term, members, lambda folder: _writes(reader, index, folder, revision))
        )
    return head


def _check(head: BackupHead, config: NodeConfig, revision: int | None) -> None:
    if not issubclass(config.entry.core, Survivor):
        raise CannotRestore(
            f"a cluster of {config.protocol} cannot begin with a state: restore it to one of raft or multipaxos, and "
            "put the data from there into the other"
        )
    if config.cluster == head.cluster:
        raise CannotRestore(
            f"{config.cluster!r} is the name of the cluster that the backup is of, and the new one must have another, "
            "so that their nodes never talk to each other: change `cluster` in the configuration"
        )
    if config.ledger is not None:
        raise CannotRestore("a ledger's chain begins with its genesis, and with no backup: leave [ledger] out")
    if config.witness or config.have_joined:
        raise CannotRestore(
            "the nodes of the configuration all begin together: leave `witness` and `founders` out of it, and have "
            "others join later"
        )
    if config.data.exists():
        raise CannotRestore(f"{config.data} is there already: a new cluster begins with new folders")
    if revision is not None and head.kind != KvMachine.kind:
        raise CannotRestore("only a key-value store has revisions: leave --revision out")
    if revision is not None and not max(head.oldest_revision, 1) <= revision <= head.revision:
        raise CannotRestore(
            f"the backup has revisions {max(head.oldest_revision, 1)} to {head.revision}, and not {revision}"
        )


def _writes(reader: BackupReader, index: int, folder: Path, revision: int | None) -> Callable[[BinaryIO], None]:
    """What writes the state as a Replica's snapshot."""
    if reader.head.kind == KvMachine.kind:
        machine = _loaded(reader, folder / "kv")
        try:
            writes = machine.snapshot() if revision is None else machine.snapshot_at(revision)
        except KvError as error:
            machine.close()
            raise CannotRestore(f"revision {revision} cannot be restored: {error}") from None

        def write(file: BinaryIO) -> None:
            try:
                file.write(encode_head(index, Sessions().encode()))
                writes(file)
            finally:
                machine.close()

        return write

    def copy(file: BinaryIO) -> None:
        file.write(encode_head(index, Sessions().encode()))
        while data := reader.read(DATA_BYTES_MAX):
            file.write(data)
        reader.finish()

    return copy


def _loaded(reader: BackupReader, folder: Path) -> KvMachine:
    """A store with the state, of which every record was decoded and checked."""
    machine = KvMachine.opened(folder)
    try:
        machine.restore(cast(BinaryIO, reader))()
        reader.finish()
        if machine.history() != (reader.head.revision, reader.head.oldest_revision):
            raise ValueError(f"it is at revision {machine.history()[0]}, and the head says {reader.head.revision}")
    except ValueError as error:
        machine.close()
        if isinstance(error, BackupDamaged):
            raise
        raise BackupDamaged(f"the backup's frames are whole, and the state in them is not: {error}") from None
    except BaseException:
        machine.close()
        raise
    return machine
