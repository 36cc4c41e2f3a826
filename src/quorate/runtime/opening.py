"""Opening: how a node reads its folder at a start, and what it does if some of it is damaged.

How it works. The folder is locked, the journal is read into a host, and both are compared with the snapshots: the one
from which the journal goes on must be there, and none that this node took may hold more than the journal does.

**Damage.** If the protocol has a way back for a node that forgot (ADR 0030), the node takes it at once (ADR 0045). From
then on the folder is another incarnation, whose word counts for nothing until the log says that it has returned: what
was lost may have been its only vote, and nobody can tell. Only then are the files changed. What stood in the journal
before the damage stays, as it is what this node knew once, and a node that has forgotten may know too little; the rest
is set aside, and the others send it. If nothing is left that a start could use, all of it is set aside.

A start that is cut off in between finds an incarnation that has forgotten, whatever is in its journal.

In any other case the start is refused in words: if the protocol has no such way, or the others are no quorum without
this node; if the folder does not say whose it is, since it may be the wrong one, or a disk that is not mounted; and if
the service says that the node must not forget now (``service/presence.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from quorate.kernel import ROOT, App, Host, Record
from quorate.parts.log.replicated import Journaled, marks_of
from quorate.runtime.codec import Codec
from quorate.runtime.errors import (
    REJOIN,
    DiskUnreadable,
    FolderDamaged,
    FolderEmpty,
    FolderWhole,
    JournalCorrupt,
    JournalShort,
    NoRepair,
    SnapshotMissing,
    StorageError,
    problem_of,
)
from quorate.runtime.files import Identity
from quorate.runtime.folder import NAME, OTHERS_NAME, Beginning, DataFolder
from quorate.runtime.journal import Journal
from quorate.runtime.journal.journal import LOCK_NAME
from quorate.runtime.marks import Marks
from quorate.runtime.repair import DAMAGE, check_snapshot, keep_before, set_aside, what_is_lost
from quorate.runtime.snapshots import SnapshotStore
from quorate.runtime.stores import SnapshotStores

log = logging.getLogger("quorate.node")


class Opened(NamedTuple):
    """What a node finds of its earlier lives. ``host`` has taken it all back, and has not started."""

    folder: DataFolder
    journal: Journal
    stores: SnapshotStores
    host: Host

    def close(self) -> None:
        """Give the folder back."""
        self.folder.close()
        self.journal.close()


class Opening:
    """Of one node. ``make(records, anew)`` is a new host, whose seed is in the records, of this incarnation.

    ``why_not_forget`` is asked before the node's memory is given up. ``on_durable`` and ``on_stall`` are the journal's.
    All of it blocks.
    """

    def __init__(
        self,
        data: Path,
        identity: Identity,
        codec: Codec,
        make: Callable[[Sequence[Record], bytes], Host],
        app: App,
        why_not_forget: Callable[[], str],
        on_durable: Callable[[int], object],
        on_stall: Callable[[str | None], object],
    ) -> None:
        self._data = data
        self._identity = identity
        self._codec = codec
        self._make = make
        self._app = app
        self._why_not_forget = why_not_forget
        self._on_durable = on_durable
        self._on_stall = on_stall

    def open(self, beginning: Beginning) -> Opened:
        """What is durable, mended if need be. Raises StorageError, OSError; ValueError for other records."""
        if beginning is Beginning.REPAIR:
            self._check_repair()
        try:
            opened = self._open(beginning)
        except DAMAGE as damage:
            if beginning not in (Beginning.EXISTING, Beginning.EITHER) or not self._may_mend(damage):
                raise
            opened = self._mend(damage)
        if opened.folder.aside is not None:
            log.warning("what was left of this node's memory is in %s", opened.folder.aside)
        return opened

    def _open(self, beginning: Beginning) -> Opened:
        folder = DataFolder(self._data, self._identity, beginning)
        journal, frames = Journal.open(
            self._data / "journal",
            identity=self._identity,
            lock=folder.lock,
            on_end=folder.reached,
            on_durable=self._on_durable,
            on_stall=self._on_stall,
        )
        try:
            folder.settle(journal.last_sequence)
            stores = SnapshotStores(self._data / "snapshots", self._identity)
            host = self._recover(frames, folder.anew)
            self._check_snapshots(host, stores)
            return Opened(folder, journal, stores, host)
        except BaseException:
            journal.close()
            raise

    def _recover(self, frames: Sequence[bytes], anew: bytes) -> Host:
        records: list[Record] = []
        for frame in frames:
            records += self._codec.decode_records(frame)
        host = self._make(records, anew)
        try:
            for record in records:
                host.restore(record)
        except ValueError as error:
            if not isinstance(host.root, Journaled):
                raise
            raise FolderDamaged(f"{self._data / 'journal'}: {error}. {REJOIN}") from None
        return host

    def _check_snapshots(self, host: Host, stores: SnapshotStores) -> None:
        """What this node took a snapshot of was in its journal. One that came from another node may be newer."""
        core = host.root
        if not isinstance(core, Journaled):
            return
        kinds = stores(), stores(marks_of(ROOT))
        if core.stands_on:
            try:
                _look(kinds, core.stands_on)
            except SnapshotMissing as error:
                raise SnapshotMissing(f"{error}. The journal goes on from it. {REJOIN}") from None
        newest = max((info.index for store in kinds for info in store.own()), default=0)
        if newest > core.log_end:
            raise FolderDamaged(
                f"{self._data}: this node took a snapshot at index {newest}, and its journal ends at {core.log_end}: "
                f"what it acknowledged is gone. {REJOIN}"
            )

    # --- damage ---

    def _may_mend(self, damage: StorageError) -> bool:
        """Whether there is a way back, and no doubt whose folder this is."""
        if isinstance(damage, FolderEmpty) or not (self._data / NAME).exists():
            return False
        if self._make([], b"repaired").root.unrepairable():
            return False
        if why := self._why_not_forget():
            log.warning("this node does not mend its folder: %s", why)
        return not why

    def _mend(self, damage: StorageError) -> Opened:
        """Raises StorageError, OSError if the disk does not let it."""
        while True:
            log.warning("this node mends its folder, and counts again when the others agree: %s", problem_of(damage))
            is_emptied = not self._forget(damage)
            try:
                return self._open(Beginning.FORGETS)
            except DAMAGE as error:  # of what was kept
                if is_emptied:
                    raise
                damage = error

    def _forget(self, damage: StorageError) -> bool:
        """Be another incarnation, and keep what stood before the damage. Whether that may be anything."""
        folder = DataFolder(self._data, self._identity, Beginning.FORGETS)
        try:
            if isinstance(damage, JournalShort):
                return True
            if isinstance(damage, JournalCorrupt | DiskUnreadable):
                if (aside := keep_before(self._data, damage.path, damage.offset, self._identity)) is not None:
                    log.warning("what was damaged in the journal, and what followed it, is in %s", aside)
                    return True
            log.warning("all that was left is in %s", set_aside(self._data, (LOCK_NAME, OTHERS_NAME, NAME)))
            return False
        finally:
            folder.lock.release()

    def _check_repair(self) -> None:
        """Raises NoRepair, FolderWhole; StorageError or OSError where it cannot be told."""
        if why := self._make([], b"repaired").root.unrepairable():
            raise NoRepair(
                f"node {self._identity.node} cannot be repaired from its peers: {why}. Remove it from the cluster, and "
                "let a new node join under another id, if the protocol has that"
            )
        lost = what_is_lost(self._check_whole)
        if lost is None:
            raise FolderWhole(f"{self._data}: nothing is damaged or missing: start this node without --repair")
        log.warning("this node is repaired: %s", lost)

    def _check_whole(self) -> None:
        """As a start, but that nothing is begun, and that the snapshot is read to its end."""
        opened = self._open(Beginning.EXISTING)
        try:
            check_snapshot(opened.host, Marks(opened.stores, self._app))
        finally:
            opened.close()


def _look(stores: Sequence[SnapshotStore], index: int) -> None:
    """Whether one of them has the snapshot. Raises SnapshotCorrupt if one had it, SnapshotMissing, OSError."""
    missing: SnapshotMissing | None = None
    for store in sorted(stores, key=lambda store: all(info.index != index for info in store.infos())):
        try:
            store.look(index)
            return
        except SnapshotMissing as error:
            missing = missing or error
    assert missing is not None
    raise missing
