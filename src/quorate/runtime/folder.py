"""The data folder of a node as a whole: who may begin one, whose it is, and whether all of it is still there.

How it works. A node that comes back without what it promised can make its cluster lose committed data, so a folder is
made only if somebody says that the node is new. With the first segment of its journal it gets an *incarnation*, 16
random bytes, which it keeps for good. A node names it when it calls another one, and each keeps those that it has
heard: a node that calls under a known number as another incarnation has lost its folder, and is refused
(``incarnations.py``). Whether a node is new is for whoever starts it to say; the others' memory catches mistakes.

Two files have that, each replaced as a whole. ``identity`` is a line of JSON and one with its checksum:

- whose folder it is, and the incarnation;
- ``durable``: a sequence number that the journal has reached, as of the last start or stop in order. A journal that
  ends before that has lost frames which others may count on. After a crash it is a lower bound: what was appended
  since the start can be cut off unseen.

``others`` has a line with number and incarnation for each other node that has called, and another one each time that
it was repaired, of which the last counts, and a checksum of the line: if a wrong one called first under a number, a
person takes its lines out.

A folder that has lost something, or everything, can be mended or *repaired* (``opening.py``, ``repair.py``): a new
incarnation begins, whose protocol has the others send what was lost. It says so in each Hello.

A folder of a release that had no such file is taken as it is, and gets one.

The lock of the journal is taken first; before that nothing in the folder is changed.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Annotated, Final

import msgspec

from quorate.kernel.ids import NODE_ID_MAX
from quorate.runtime.errors import (
    REJOIN,
    FolderDamaged,
    FolderEmpty,
    FolderNotEmpty,
    JournalShort,
    StorageError,
    UnknownFormat,
    WrongIdentity,
)
from quorate.runtime.files import (
    ASIDE,
    FolderLock,
    Identity,
    fsync_directory,
    make_directory,
    own_directory,
    read_file,
    replace_file,
)
from quorate.runtime.incarnations import RANDOM_BYTES, REPAIRED, is_repaired
from quorate.runtime.journal.journal import LOCK_NAME
from quorate.runtime.journal.segment import segment_numbers
from quorate.runtime.repair import set_aside

log = logging.getLogger("quorate.folder")

NAME: Final = "identity"
OTHERS_NAME: Final = "others"
VERSION: Final = 1
SIZE_BYTES_MAX: Final = 64 << 10


class Beginning(Enum):
    """What a node may find where its folder should be."""

    NEW = "new"
    """Nothing: the folder is made, and one that is there is an error."""
    EXISTING = "existing"
    """What an earlier life has left; an empty folder is an error."""
    EITHER = "either"
    """Whichever it is. The memory of the other nodes is all that keeps out one that has lost its folder."""
    REPAIR = "repair"
    """Less than an earlier life had: it is set aside, and the node begins anew as one that has forgotten."""
    FORGETS = "forgets"
    """What an earlier life has left, some of which is damaged: the node goes on with it as one that has forgotten."""


class FolderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the file."""

    version: int = VERSION
    cluster: str
    node: int
    incarnation: bytes
    durable: Annotated[int, msgspec.Meta(ge=0)] = 0


_OTHER: Final = re.compile(rb"((\d{1,4}) ((?:[0-9a-f]{2}){1,64}))(?: ~([0-9a-f]{8}))?\r?\n")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(FolderRecord).decode


class DataFolder:
    """The folder of one node, which this process has locked.

    ``lock`` goes to the journal, which gives it back. ``incarnation`` and ``others`` are there once it is ``settled``.
    """

    def __init__(self, path: Path, identity: Identity, beginning: Beginning = Beginning.EITHER) -> None:
        """Lock it. Raises FolderEmpty, FolderNotEmpty, FolderDamaged, JournalLocked, WrongIdentity, OSError.

        Nothing is made where none may be, and nothing is changed before the lock is held. One that is to be repaired is
        empty then, but for what is set aside; that something is lost must be certain.
        """
        self.path = path
        self._identity = identity
        self._journal = path / "journal"
        self._record: FolderRecord | None = None
        self._others: dict[int, tuple[bytes, ...]] = {}
        self._write_lock = threading.Lock()
        self._is_closed = False
        self.aside: Path | None = None
        """Where what was found has been set aside; None: nothing was."""
        if beginning is Beginning.EXISTING:
            self._must_have_data()
        make_directory(path.absolute())
        own_directory(self._journal)
        self.lock = FolderLock(self._journal / LOCK_NAME)
        try:
            if beginning is Beginning.NEW and self._has_journal():
                raise FolderNotEmpty(
                    f"{path} has the data of a node already, so node {identity.node} is not new: leave --bootstrap out"
                )
            if beginning is Beginning.REPAIR:
                self.aside = set_aside(path, (LOCK_NAME, OTHERS_NAME))
                self._write(self._new_record(REPAIRED + os.urandom(RANDOM_BYTES), 0))
            elif not self._has_journal() and beginning is not Beginning.FORGETS:
                self._must_be_empty()
            self._record = self._read()
            if beginning is Beginning.FORGETS:
                self._forget()
            self._others = read_others(path / OTHERS_NAME)
            with suppress(PermissionError):  # a folder that was there, in one that this user cannot read
                fsync_directory(path.absolute().parent)
        except BaseException:
            self.lock.release()
            raise

    @property
    def incarnation(self) -> bytes:
        """Of this node, for as long as it has this folder."""
        return b"" if self._record is None else self._record.incarnation

    @property
    def anew(self) -> bytes:
        """The incarnation, if it is that of a repaired folder; otherwise nothing."""
        return self.incarnation if is_repaired(self.incarnation) else b""

    @property
    def others(self) -> Mapping[int, tuple[bytes, ...]]:
        """The incarnations of other nodes, by number."""
        return self._others

    def settle(self, last_sequence: int) -> None:
        """The journal was read and ends here. Raises FolderDamaged if it once reached further.

        A folder that has no identity yet gets one. Raises StorageError if that of a new node cannot be written.
        """
        if self._record is None:
            if last_sequence:
                log.info("%s: a folder without the file %s gets one", self.path, NAME)
            try:
                self._write(self._new_record(os.urandom(RANDOM_BYTES), last_sequence))
            except OSError as error:
                text = f"{self.path / NAME} cannot be written: {error}"
                if not last_sequence:
                    raise StorageError(f"{text}. Free some space if the disk is full, then start it again") from error
                log.warning("%s: until it can, the other nodes cannot tell whether this folder was lost", text)
            return
        check_reach(self._journal, last_sequence, self._record.durable)
        self.reached(last_sequence)

    def reached(self, last_sequence: int) -> None:
        """The journal is durable so far. A disk that does not take this (a full one) takes it the next time."""
        with self._write_lock:
            if self._record is not None and last_sequence > self._record.durable:
                try:
                    self._write(msgspec.structs.replace(self._record, durable=last_sequence))
                except OSError as error:
                    log.warning("%s: %s", self.path / NAME, error)

    def close(self) -> None:
        """Keep no more incarnations. It does not wait; the journal gives the lock back."""
        self._is_closed = True

    def know(self, latest: Callable[[], dict[int, tuple[bytes, ...]]]) -> None:
        """Keep the incarnations of other nodes. Any thread, so they are read when it is this one's turn to write: the
        last to write has the last of them. Raises OSError."""
        with self._write_lock:
            others = latest()
            if not self._is_closed and others != self._others:
                lines = [
                    b"%d %b" % (node, one.hex().encode()) for node, known in sorted(others.items()) for one in known
                ]
                text = b"".join(b"%b ~%08x\n" % (line, zlib.crc32(line)) for line in lines)
                replace_file(self.path / OTHERS_NAME, text)
                self._others = others

    def _forget(self) -> None:
        """Be another incarnation. Raises FolderDamaged if nothing says whose folder this is, StorageError."""
        if self._record is None:
            raise FolderDamaged(f"{self.path}: the file {NAME} is gone, and other files are damaged. {REJOIN}")
        try:
            self._write(self._new_record(REPAIRED + os.urandom(RANDOM_BYTES), 0))
        except OSError as error:
            raise StorageError(
                f"{self.path / NAME} cannot be written, so this damaged folder cannot be mended: {error}. Free some "
                "space if the disk is full, then start it again"
            ) from error

    def _new_record(self, incarnation: bytes, durable: int) -> FolderRecord:
        cluster, node = self._identity.cluster, self._identity.node
        return FolderRecord(cluster=cluster, node=node, incarnation=incarnation, durable=durable)

    def _must_have_data(self) -> None:
        if not self._has_journal():
            self._must_be_empty()
            raise FolderEmpty(
                f"{self.path} has no data of node {self._identity.node}. If it has run before, its folder is lost or "
                "its disk is not mounted: do not start it without. If it is new, start it once with --bootstrap; if "
                "its folder is lost for good, with --repair"
            )

    def _must_be_empty(self) -> None:
        """Without a journal there can be nothing else."""
        for left in (self.path / NAME, self.path / OTHERS_NAME, *sorted((self.path / "snapshots").rglob("*.snap*"))):
            if left.is_file() and left.suffix != ASIDE:
                raise FolderDamaged(f"{self._journal}: the journal is gone, and {left} is there. {REJOIN}")

    def _has_journal(self) -> bool:
        return self._journal.is_dir() and bool(segment_numbers(self._journal))

    def _read(self) -> FolderRecord | None:
        path = self.path / NAME
        if not path.exists():
            return None
        record = read_record(path)
        if (record.cluster, record.node) != (self._identity.cluster, self._identity.node):
            raise WrongIdentity(
                f"{path} belongs to node {record.node} of cluster {record.cluster!r}; this is node "
                f"{self._identity.node} of cluster {self._identity.cluster!r}. Give each node its own data folder"
            )
        return record

    def _write(self, record: FolderRecord) -> None:
        text = _encode(record)
        replace_file(self.path / NAME, b"%s\n%08x\n" % (text, zlib.crc32(text)))
        self._record = record


def owner_of(folder: Path) -> Identity | None:
    """Whose it is, by what is written in it; None if nothing is. Raises FolderDamaged, UnknownFormat, OSError."""
    path = folder / NAME
    if not path.exists():
        return None
    record = read_record(path)
    return Identity(record.cluster, record.node)


def check_reach(journal: Path, last_sequence: int, durable: int) -> None:
    """A journal ends with this frame; ``durable``: what it had at the last start or stop. Raises JournalShort."""
    if last_sequence < durable:
        raise JournalShort(
            f"{journal}: it ends with frame {last_sequence}, and frame {durable} was durable when this node ran: what "
            f"it acknowledged since is gone. {REJOIN}"
        )


def read_others(path: Path) -> dict[int, tuple[bytes, ...]]:
    """What is in the file ``others``, if it is there: incarnations by node. Raises FolderDamaged, OSError."""
    if not path.exists():
        return {}
    found: dict[int, tuple[bytes, ...]] = {}
    for number, line in enumerate(read_file(path, SIZE_BYTES_MAX).splitlines(keepends=True), 1):
        matched = _OTHER.fullmatch(line)
        is_changed = matched and matched[4] and int(matched[4], 16) != zlib.crc32(matched[1])
        if matched is None or is_changed or int(matched[2]) > NODE_ID_MAX:
            raise FolderDamaged(
                f"{path}: line {number} is not the number and the incarnation of a node. Take it out: this node "
                "then knows the other one by its next call"
            )
        node, incarnation = int(matched[2]), bytes.fromhex(matched[3].decode())
        found[node] = (*found.get(node, ()), incarnation)
    return found


def read_record(path: Path) -> FolderRecord:
    """What is in the file ``identity``. Raises FolderDamaged, UnknownFormat, OSError."""
    data = read_file(path, SIZE_BYTES_MAX)
    text, _, checksum = data.rstrip(b"\n").rpartition(b"\n")
    try:
        record = _decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    is_known = len(record.incarnation) == RANDOM_BYTES or is_repaired(record.incarnation)
    if checksum != b"%08x" % zlib.crc32(text):
        raise _damaged(path, "its checksum is wrong")
    if record.version != VERSION:
        raise UnknownFormat(
            f"{path}: format version {record.version}; this release reads version {VERSION}. Start the release that "
            "wrote it"
        )
    if not is_known:
        raise _damaged(path, "its incarnation has a length that none has")
    return record


def _damaged(path: Path, problem: str) -> FolderDamaged:
    return FolderDamaged(f"{path}: it is damaged: {problem}. {REJOIN}")
