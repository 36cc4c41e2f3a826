"""Beginning a data folder before its node runs, so that a node that joins is the same one however often it asks."""

from __future__ import annotations

from pathlib import Path

from quorate.runtime.files import Identity
from quorate.runtime.folder import Beginning, DataFolder
from quorate.runtime.journal import Journal


def begin_folder(data: Path, identity: Identity) -> bytes:
    """Make the folder, or take the one that is there; its incarnation, which is durable.

    Blocks. Raises StorageError, also where the folder is another node's, or another process has it; OSError.
    """
    folder = DataFolder(data, identity, Beginning.EITHER)
    journal, _ = Journal.open(data / "journal", identity=identity, lock=folder.lock, on_end=folder.reached)
    try:
        folder.settle(journal.last_sequence)
        return folder.incarnation
    finally:
        folder.close()
        journal.close()
