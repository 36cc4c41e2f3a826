"""Founding: the folder of a node whose cluster begins with a state, in place of an empty log.

How it works. The folder gets a snapshot of the state, and a journal that begins with it: as if the cluster had decided
the log up to there and dropped it. All founders begin with the same index, so none of them lacks anything.

The folder appears whole, by a rename at the end, or not at all; a rest of an attempt that was cut is made anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from quorate.kernel import ROOT, Record
from quorate.parts.log.replicated import Survivor
from quorate.runtime.codec import Codec
from quorate.runtime.files import Identity, fsync_directory, make_directory, replace_file
from quorate.runtime.folder import Beginning, DataFolder
from quorate.runtime.journal import Journal
from quorate.runtime.stores import SnapshotStores
from quorate.service.config import NodeConfig

UNFINISHED: Final = ".unfinished"


@dataclass(frozen=True, slots=True)
class Footing:
    """What a cluster begins with: the state after entry ``index`` of its log, and who votes from there on.

    ``writes`` has what writes the state to a snapshot; it is called with a folder for working files.
    """

    index: int
    term: int
    members: tuple[int, ...]
    writes: Callable[[Path], Callable[[BinaryIO], None]]


def found_folder(config: NodeConfig, footing: Footing | None, files: Sequence[tuple[str, bytes]] = ()) -> None:
    """Make the data folder of a node, which is not there, with these files in it; None: it begins with nothing.

    Raises StorageError, OSError, and what ``writes`` raises.
    """
    out = config.data
    unfinished = out.with_name(out.name + UNFINISHED)
    if unfinished.exists():
        shutil.rmtree(unfinished)
    make_directory(unfinished.absolute())
    identity = Identity(config.cluster, config.node)
    folder = DataFolder(unfinished, identity, Beginning.EITHER)
    journal, _ = Journal.open(unfinished / "journal", identity=identity, lock=folder.lock, on_end=folder.reached)
    try:
        folder.settle(journal.last_sequence)
        if footing is not None:
            core, index, term = config.entry.core, footing.index, footing.term
            assert issubclass(core, Survivor), f"{config.protocol} cannot begin with a state"
            SnapshotStores(unfinished / "snapshots", identity)().write(index, term, footing.writes(unfinished))
            records = [Record(ROOT, value) for value in core.founded_on(index, term, footing.members)]
            journal.append(Codec(core).encode_records(records))
    finally:
        journal.close()
        folder.close()
    for name, data in files:
        replace_file(unfinished / name, data)
    unfinished.rename(out)
    fsync_directory(out.absolute().parent)
