"""Marks: the snapshots that an App keeps by itself, and their files (ADR 0042).

A mark has a file of its own, in the format of snapshots and beside them, which says where the App has that state. It is
never sent. A peer that needs the state gets a stream, a snapshot file that is made when the first piece is asked for.

A mark is of the life that took it, and of the next one, which starts from it. What it leads to stays as it is only
while it is held, so the first thing that a life does with an App's state is to remove the files of all other marks: of
those the journal names none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from typing import BinaryIO, cast

from quorate.kernel import App, Path, StateMark
from quorate.parts.log.replicated import marks_of
from quorate.runtime.errors import REJOIN, SnapshotCorrupt, SnapshotMissing
from quorate.runtime.snapshots import SnapshotInfo, SnapshotStore

log = logging.getLogger("quorate.snapshots")


class Marks:
    """Of one node. ``held`` and what changes it: on the loop. The rest is for worker threads."""

    def __init__(self, stores: Callable[[Path], SnapshotStore], app: App) -> None:
        self._stores = stores
        self._app = app
        self._begun: set[Path] = set()
        """The paths at which this life has removed what an earlier one left."""
        self._held: dict[tuple[Path, int], tuple[int, StateMark]] = {}
        """By path and index, each with its term."""

    def hold(self, path: Path, index: int, term: int, mark: StateMark) -> None:
        """This mark has its file now, and is there until it is let go."""
        self._held[path, index] = (term, mark)

    def held(self, path: Path, index: int) -> tuple[int, StateMark] | None:
        """The term and the mark, of one of this life."""
        return self._held.get((path, index))

    def let_go(self, path: Path, below_index: int) -> None:
        """Those below have no files any more."""
        for key in [key for key in self._held if key[0] == path and key[1] < below_index]:
            self._held.pop(key)[1].close()

    def write(self, path: Path, index: int, term: int, mark: StateMark, named_index: int) -> SnapshotInfo:
        """Make it durable, and remove the files of those below the one that the journal names. Raises OSError."""
        self._begin(path, named_index)
        store = self._stores(marks_of(path))
        info = store.write(index, term, mark.write)
        store.discard(named_index)
        return info

    def reopen(self, path: Path, index: int) -> Callable[[], None] | None:
        """Have the App's state at a mark of an earlier life aside; what this returns makes it the state.

        None: there is none, or it is too late for it. Raises SnapshotCorrupt, OSError.
        """
        if path in self._begun:
            return None
        self._begin(path, index)
        term, reopened = self.find(path, index)
        if reopened is None:
            return None

        def adopt() -> None:
            self.hold(path, index, term, reopened())

        return adopt

    def check(self, path: Path, index: int) -> None:
        """Whether a start finds the state at an index. Raises SnapshotMissing, SnapshotCorrupt, OSError."""
        _, reopened = self.find(path, index)
        if reopened is None:
            self._stores(path).open(index).close()

    def _begin(self, path: Path, index: int) -> None:
        """The App's state is about to change: no mark but this one leads to anything then."""
        if path not in self._begun:
            self._begun.add(path)
            self._stores(marks_of(path)).discard(1 << 64, held=(index,))

    def find(self, path: Path, index: int) -> tuple[int, Callable[[], StateMark] | None]:
        """The term of a mark, and what makes the state there that of the App; None: there is none, or a stream instead.

        Raises SnapshotCorrupt, OSError.
        """
        try:
            reader = self._stores(marks_of(path)).open(index)
        except SnapshotMissing:
            return 0, None
        except SnapshotCorrupt as error:
            self._or_stream(path, index, error)
            return 0, None
        with closing(reader):
            try:
                return reader.info.term, self._app.reopen(cast(BinaryIO, reader), path)
            except ValueError as error:
                damaged = SnapshotCorrupt(f"{error}. {REJOIN}")
                self._or_stream(path, index, self._stores(marks_of(path)).set_aside(reader.info, damaged))
                return 0, None

    def _or_stream(self, path: Path, index: int, error: SnapshotCorrupt) -> None:
        """A state that was sent to somebody is there as a file, too."""
        if all(info.index != index for info in self._stores(path).infos()):
            raise error
        log.warning("%s: the snapshot at index %d is loaded from the file that was made for others", error, index)
