"""Repair: what a node does with a folder that has lost something, before its protocol has the others send it.

How it works. ``what_is_lost`` opens the folder as a start would, reads all of the journal into cores that are thrown
away, and verifies the snapshots that they ask for: so damage is what keeps a node from starting, and nothing else.
A folder that has lost nothing is not repaired, as that would throw away a memory that the cluster counts on.

Then all of it is set aside, whatever is damaged. A node that lost its snapshot alone has lost entries that it
acknowledged; one whose journal was cut cannot know what it promised. Neither may count before the others have seen to
that, so what is left of its memory is of no use to it: one rule serves all damage. Nothing is deleted: it may be all
that is left, if other nodes are lost too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from quorate.kernel import ROOT, Host, Record
from quorate.parts.log.replicated import Restored
from quorate.runtime.errors import (
    DiskUnreadable,
    FolderDamaged,
    FolderEmpty,
    JournalCorrupt,
    SnapshotCorrupt,
    SnapshotMissing,
    StorageError,
)
from quorate.runtime.files import fsync_directory, make_directory
from quorate.runtime.marks import Marks

log = logging.getLogger("quorate.repair")

DAMAGE: Final = (FolderEmpty, FolderDamaged, JournalCorrupt, DiskUnreadable, SnapshotCorrupt, SnapshotMissing)
"""What is said of a folder that has lost something. Other errors (of its lock, its owner, its format) are no loss."""
DAMAGED: Final = "damaged"
JOURNAL: Final = "journal"
SNAPSHOTS: Final = "snapshots"
IDENTITY: Final = "identity"


def check_state(host: Host, records: Sequence[Record], marks: Marks) -> None:
    """Have a host that is thrown away start from these records, and verify the snapshots that it wants.

    Raises FolderDamaged, SnapshotMissing, SnapshotCorrupt, OSError.
    """
    try:
        for record in records:
            host.restore(record)
        wanted = [output for output in host.start(0.0).outputs if isinstance(output, Restored)]
    except ValueError as error:
        raise FolderDamaged(str(error)) from None
    for output in wanted:
        marks.check(ROOT, output.index)


def what_is_lost(check: Callable[[], None]) -> StorageError | None:
    """Why a node could not start with its folder; None if it could. ``check`` does all but that."""
    try:
        check()
    except DAMAGE as error:
        return error
    return None


def set_aside(folder: Path, kept: Collection[str]) -> Path | None:
    """Move what a folder holds of a node's memory to ``damaged-<time>`` in it, but files of these names.

    Returns where to; None if there was nothing. Whatever has been moved when a crash comes, what is left does not look
    whole: the snapshots go first, then the journal from its beginning, and what says that there was one goes last.
    Raises OSError.
    """
    parts = [*_files(folder / SNAPSHOTS), *_files(folder / JOURNAL), folder / IDENTITY]
    parts = [path for path in parts if path.is_file() and path.name not in kept]
    if not parts:
        return None
    aside = _fresh(folder)
    for path in parts:
        target = aside / path.relative_to(folder)
        make_directory(target.parent)
        path.rename(target)
        fsync_directory(path.parent)
        fsync_directory(target.parent)
    return aside


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*")) if folder.is_dir() else []


def _fresh(folder: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for count in range(1_000_000):
        aside = folder / (f"{DAMAGED}-{stamp}-{count}" if count else f"{DAMAGED}-{stamp}")
        if not aside.exists():
            make_directory(aside)
            return aside
    raise FileExistsError(f"{folder}: too many folders {DAMAGED}-{stamp}")
