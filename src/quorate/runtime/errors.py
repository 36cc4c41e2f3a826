"""What can go wrong with a node's files, one class a remedy.

Every text names the file (and the offset, where there is one), what was wrong, and what to do about it.
"""

from __future__ import annotations

import os
from pathlib import Path

# One remedy fits all damage: a node whose journal lost records may have lost a vote or an acknowledged entry.
REJOIN = (
    "Restore the file from the same disk's backup image; or start the node with --repair, if its protocol has that: "
    "the others then send what it lost; or remove it from the cluster and let it join again under a new id with an "
    "empty folder. Do not delete single files: a node that forgets its vote or its acknowledged entries under its old "
    "id can make the cluster lose committed data."
)


_REMEDIES = (". Restore the file from", ". Look after the disk")


def problem_of(error: BaseException) -> str:
    """What an error says is wrong, without what to do."""
    text = str(error)
    for remedy in _REMEDIES:
        text = text.partition(remedy)[0]
    return text


class StorageError(Exception):
    """Base of every error of the journal and the snapshot store."""


class JournalCorrupt(StorageError):
    """Bytes that were durable are damaged or missing. Attributes: path, offset (in bytes)."""

    def __init__(self, path: Path, offset: int, problem: str) -> None:
        super().__init__(f"{path}: offset {offset}: {problem}. {REJOIN}")
        self.path = path
        self.offset = offset


class DiskUnreadable(StorageError):
    """The disk reports an error where a file is read. Attributes: path, offset (in bytes). __cause__ is the OSError."""

    def __init__(self, path: Path, offset: int, error: OSError) -> None:
        super().__init__(
            f"{path}: offset {offset}: the disk cannot read this: {error}. Look after the disk and its cable, and "
            f"start again. If it stays so, treat the file as lost. {REJOIN}"
        )
        self.path = path
        self.offset = offset


class SegmentMissing(JournalCorrupt):
    """A segment that the journal needs is not in the folder."""


class JournalLocked(StorageError):
    """Another process (or another Journal of this process) holds the folder. Attribute: pid, None if unknown."""

    def __init__(self, path: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid is not None else "another process"
        if pid == os.getpid():
            holder += " (this one, which runs another node on the same folder)"
        super().__init__(f"{path}: held by {holder}. Stop it first: one folder serves one running node")
        self.path = path
        self.pid = pid


class FolderEmpty(StorageError):
    """There is no data of this node where its folder should be, and nobody said that it is to begin."""


class FolderNotEmpty(StorageError):
    """There is data in a folder that was to be a new node's."""


class FolderDamaged(StorageError):
    """What a node knew when it ran last is not in its folder any more, so it may break what it has promised."""


class JournalShort(FolderDamaged):
    """The journal is whole, as far as it goes, and ends before what was durable at the last start or stop in order."""


class FolderWhole(StorageError):
    """A folder that was to be repaired has lost nothing."""


class NoRepair(StorageError):
    """A node cannot be repaired from its peers: its protocol has no way, or there are too few of them."""


class MemoryLost(StorageError):
    """Other nodes know this one from an earlier life, of which its folder has nothing."""


class JournalFailed(StorageError):
    """The disk failed under the journal; nothing later will ever be durable. __cause__ is the OSError."""


class DiskHangs(StorageError):
    """A call of this process's to the disk does not return. The thread in it cannot be ended by the process."""


class WorkLeft(DiskHangs):
    """A job did not end in time, and was left where it was. Nothing is lost: what it wrote is removed at a start."""


class NodeStops(StorageError):
    """What was being written or read of a snapshot is not needed any more, as this node stops."""


class WrongIdentity(StorageError):
    """The file belongs to another cluster or another node."""


class UnknownFormat(StorageError):
    """The file's format version is not one that this release reads."""


class SnapshotMissing(StorageError):
    """There is no snapshot at that index."""


class SnapshotCorrupt(StorageError):
    """A snapshot whose header, length or digest is wrong. It is never served."""


class SnapshotSpoiled(SnapshotCorrupt):
    """A snapshot of this node's own that its disk has damaged: it cannot be restored, and must not be served."""

    def __init__(self, problem: str, kept: str) -> None:
        super().__init__(f"{problem}. It is kept as {kept}. {REJOIN}")


class SnapshotRefused(StorageError):
    """A chunk from a peer that breaks a limit (sizes, offsets, identifiers)."""
