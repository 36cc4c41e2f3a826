"""Repair: what a node does with a folder that has lost something, before its protocol has the others send it.

How it works. There are two ways. A damaged folder that still says whose it is mends itself at a start
(``opening.py``): ``keep_before`` keeps what stood in the journal before the damage. A folder that is gone, or does not
say whose it is, is repaired if a person says so (``--repair``), and only if it has lost something: a memory that is
whole must not be thrown away, as the cluster counts on it.

Nothing is deleted. What is not used any more is set aside in ``damaged-<time>``: it may be all that is left, if other
nodes are lost too.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from quorate.kernel import ROOT, Host
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
from quorate.runtime.files import (
    ASIDE,
    Identity,
    create,
    fsync_directory,
    make_directory,
    publish,
    read_file,
    write_all,
)
from quorate.runtime.journal.segment import decode_header, segment_numbers, segment_path
from quorate.runtime.marks import Marks

log = logging.getLogger("quorate.repair")

DAMAGE: Final = (FolderEmpty, FolderDamaged, JournalCorrupt, DiskUnreadable, SnapshotCorrupt, SnapshotMissing)
"""What is said of a folder that has lost something. Other errors (of its lock, its owner, its format) are no loss."""
DAMAGED: Final = "damaged"
JOURNAL: Final = "journal"
SNAPSHOTS: Final = "snapshots"
IDENTITY: Final = "identity"


def check_snapshot(host: Host, marks: Marks) -> None:
    """Have a host that is thrown away start, and verify the snapshots that it wants, each to its end.

    Raises FolderDamaged, SnapshotMissing, SnapshotCorrupt, OSError.
    """
    try:
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
        _move(path, folder, aside)
    return aside


def keep_before(folder: Path, damaged: Path, offset: int, identity: Identity) -> Path | None:
    """Move what follows an offset of a segment of the journal, and all later segments, to ``damaged-<time>``.

    Returns where to; None if nothing would be left in the journal, and then nothing is moved. The damaged segment is
    kept there as a whole. A crash in between leaves a journal that ends sooner, or is damaged still. Raises OSError.
    """
    journal = folder / JOURNAL
    number = int(damaged.stem)
    head = _head(damaged, offset, identity)
    present = segment_numbers(journal)
    if not head and not any(one < number for one in present):
        return None
    aside = _fresh(folder)
    kept = damaged.with_name(damaged.name + ASIDE)
    if head:
        fd = create(kept)
        try:
            write_all(fd, [head], 0)
            os.fsync(fd)
        finally:
            os.close(fd)
    for one in sorted((one for one in present if one >= number), reverse=True):
        _move(segment_path(journal, one), folder, aside)
    if head:
        publish(kept, damaged)
    return aside


def _head(damaged: Path, offset: int, identity: Identity) -> bytes:
    """What can be read of a segment up to there; nothing, if that ends within a checkpoint."""
    try:
        data = read_file(damaged, offset)
        header = decode_header(data, damaged, identity)
    except (OSError, StorageError):
        return b""
    return data if len(data) >= header.sealed else b""


def _move(path: Path, folder: Path, aside: Path) -> None:
    target = aside / path.relative_to(folder)
    make_directory(target.parent)
    path.rename(target)
    fsync_directory(path.parent)
    fsync_directory(target.parent)


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
