"""Doctor: what is wrong with a node's folder, by its files alone. Nothing is changed, locked or made.

How it works. Each file is read as a start reads it, by the same code, and what a start would say of it becomes a
finding. A node may run on the folder: then the end of its journal may look torn, which is no damage, and files may come
and go, so what looks wrong is looked at again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import msgspec

from quorate.runtime.errors import StorageError, problem_of
from quorate.runtime.files import ASIDE, Identity
from quorate.runtime.folder import NAME, OTHERS_NAME, FolderRecord, check_reach, read_others, read_record
from quorate.runtime.incarnations import is_repaired
from quorate.runtime.journal.journal import LOCK_NAME
from quorate.runtime.journal.recovery import Recovered, scan
from quorate.runtime.journal.segment import segment_numbers
from quorate.runtime.repair import DAMAGED, JOURNAL, SNAPSHOTS
from quorate.runtime.snapshots import CORRUPT, SnapshotStore

OK: Final = "ok"
NOTE: Final = "note"
WRONG: Final = "damaged"
LOOKS_MAX: Final = 3
"""How often a folder is looked at on which a node runs, before what looks wrong is believed."""
LOOK_AGAIN_S: Final = 0.3
LOCKS: Final = Path("/proc/locks")


class FileFinding(msgspec.Struct, frozen=True):
    """What is said of one file. ``state``: OK, NOTE (no harm) or WRONG (a start would refuse or mend it)."""

    file: str
    state: str
    text: str


class Examined(msgspec.Struct):
    """A folder. ``identity``: whose it is, if it says so; ``holder``: which process runs a node on it, 0: none,
    None: it cannot be told; ``frames``: those of the journal, as far as they can be read."""

    folder: Path
    identity: Identity | None = None
    is_repaired: bool = False
    holder: int | None = None
    findings: list[FileFinding] = []
    frames: list[bytes] = []
    anew: bytes = b""

    @property
    def is_damaged(self) -> bool:
        """Whether anything is wrong."""
        return any(finding.state == WRONG for finding in self.findings)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing of a node here."""
        return self.identity is None and not self.findings

    def add(self, file: Path, state: str, text: str) -> None:
        """A finding."""
        name = str(file.relative_to(self.folder)) if file.is_relative_to(self.folder) else str(file)
        self.findings.append(FileFinding(name, state, text))


def examine(folder: Path, owner: Identity | None = None) -> Examined:
    """Look at a folder. ``owner``: whose it should be, where that is known. Raises OSError if it cannot be read."""
    for left in range(LOOKS_MAX, 0, -1):
        found = _look(folder, owner)
        if not (found.holder and found.is_damaged) or left == 1:
            return found
        time.sleep(LOOK_AGAIN_S)
    raise AssertionError("it was looked at")


def _look(folder: Path, owner: Identity | None) -> Examined:
    found = Examined(folder, holder=holder_of(folder / JOURNAL / LOCK_NAME))
    record = _identity(found)
    found.identity = owner or found.identity
    _others(found)
    identity = found.identity or Identity("unknown", 0)
    _journal(found, record, identity)
    _snapshots(found, identity)
    for aside in sorted(folder.glob(f"{DAMAGED}-*")):
        found.add(aside, NOTE, "an earlier start set this aside: delete it when all nodes have a lag of 0")
    return found


def _identity(found: Examined) -> FolderRecord | None:
    path = found.folder / NAME
    if not path.exists():
        if _has_any(found.folder):
            found.add(path, WRONG, "it is gone: nothing says whose this folder is, or whether it is whole")
        return None
    with _told(found, path):
        record = read_record(path)
        found.identity = Identity(record.cluster, record.node)
        found.is_repaired = is_repaired(record.incarnation)
        found.anew = record.incarnation if found.is_repaired else b""
        found.add(path, OK, f"node {record.node} of cluster {record.cluster!r}")
        return record
    return None


def _has_any(folder: Path) -> bool:
    """Whether a node was here."""
    return (
        any(path.is_file() for name in (JOURNAL, SNAPSHOTS) for path in (folder / name).rglob("*"))
        or (folder / OTHERS_NAME).exists()
    )


def _others(found: Examined) -> None:
    path = found.folder / OTHERS_NAME
    if path.exists():
        with _told(found, path):
            found.add(path, OK, f"knows {len(read_others(path))} other nodes")


def _journal(found: Examined, record: FolderRecord | None, identity: Identity) -> None:
    journal = found.folder / JOURNAL
    numbers = segment_numbers(journal) if journal.is_dir() else []
    if not numbers:
        if record is not None or _has_any(found.folder):
            found.add(journal, WRONG, "the journal is gone")
        return
    recovered = Recovered([])
    with _told(found, journal):
        scan(journal, identity, recovered)
        if recovered.cut_bytes:
            text = (
                f"its last write was cut off: {recovered.cut_bytes} bytes, which a start removes; nothing rests on it"
            )
            found.add(journal, NOTE, text)
        if record is not None:
            check_reach(journal, recovered.last_sequence, record.durable)
        text = f"{len(numbers)} segments, {len(recovered.frames)} frames, the last is {recovered.last_sequence}"
        found.add(journal, OK, text)
    found.frames = recovered.frames


def _snapshots(found: Examined, identity: Identity) -> None:
    root = found.folder / SNAPSHOTS
    folders = [root, *sorted(path for path in root.rglob("*") if path.is_dir())] if root.is_dir() else []
    for folder in folders:
        store = SnapshotStore.view(folder, identity)
        for info in store.infos():
            path = folder / f"snapshot-{info.index}-{info.term}.snap"
            with _told(found, path):
                store.look(info.index, whole=True)
                found.add(path, OK, f"{info.size_bytes} bytes, up to index {info.index}")
        for path in sorted(folder.iterdir()):
            if path.name.endswith(CORRUPT):
                found.add(path, NOTE, "it was found corrupt, and is kept for a look into it")
            elif path.name.endswith(ASIDE) and not found.holder:
                found.add(path, NOTE, "it was not finished; a start removes it")


class _told:
    """What is raised within becomes a finding."""

    def __init__(self, found: Examined, path: Path) -> None:
        self._found = found
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, StorageError | OSError):
            return False
        self._found.add(self._path, WRONG, problem_of(error))
        return True


def holder_of(lock: Path) -> int | None:
    """Which process holds a lock, 0 if none does, None if that cannot be told. The lock is not touched."""
    try:
        status = lock.stat()
    except FileNotFoundError:
        return 0
    name = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        held = any(name in line.split() and "FLOCK" in line for line in LOCKS.read_text().splitlines())
        text = lock.read_text().strip() if held else "0"
    except OSError:
        return None
    return int(text) if text.isdigit() else None
