"""Marks of the store: a revision that its own table keeps, and what finds it there again.

A mark holds a *pin*, which keeps the table's pages as they were (``revisions.py``), for a restart; and a *view*, which
keeps the sweep from what can be read at its revision, for streams to others. What it writes names the table and has the
pin's roots, with what of the store is not in the table. The index of the keys is made again from the records, all of
which are checked on that way.

    MAGIC, length u32, crc32 u32, a StoreMark
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import msgspec

from quorate.kernel import StateMark
from quorate.machines.kv.chronicle import Annals, Chronicle
from quorate.machines.kv.commands import encode
from quorate.machines.kv.index import KeyIndex, first_stamp
from quorate.machines.kv.revisions import KEPT, SUFFIX, from_key, put_back, to_key
from quorate.machines.kv.snapshot import SnapshotWriter
from quorate.machines.kv.store import KvStore
from quorate.machines.kv.table_reader import Head, TableDamaged
from quorate.machines.streams import read_exactly

MAGIC: Final = b"QUORKVM\x01"
MARK_BYTES_MAX: Final = 64 << 20
TableReader: TypeAlias = Callable[[Path], Iterator[Head]]
"""What reads all of a table: in this process, or in another."""
_PREFIX = struct.Struct("<II")
_NAME = re.compile(re.escape(KEPT) + r"\d{1,18}" + re.escape(SUFFIX))


class StoreMark(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a table has a store, and what it has not. ``doomed``: records that no key has any more, but the table."""

    table: str
    roots: bytes
    revision: int
    compact_revision: int
    swept: bytes
    doomed: list[bytes]
    annals: Annals


_decode_mark = msgspec.msgpack.Decoder(StoreMark).decode


class KvMark(StateMark):
    """Of a store that has nothing pending, as it is now."""

    def __init__(self, store: KvStore) -> None:
        """Raises OSError."""
        self._store = store
        self._pin = store.records.pin()
        self._view = store.view()
        self._annals = store.chronicle.annals
        self._saved = encode(
            StoreMark(
                *(store.records.path.name, self._pin.roots, store.revision, store.compact_revision),
                *(to_key(store.swept), list(map(to_key, store.records.doomed_stamps)), self._annals),
            )
        )

    def write(self, file: BinaryIO) -> None:
        """As the base says. The pages are on the disk before there is anything that leads to them."""
        self._store.records.sync()
        file.write(MAGIC + _PREFIX.pack(len(self._saved), zlib.crc32(self._saved)) + self._saved)

    def stream(self) -> Callable[[BinaryIO], None]:
        """As the base says; what it returns needs the mark no longer."""
        if self._view.closed:
            raise ValueError("this mark was given up")
        return SnapshotWriter(self._store.view(like=self._view), self._annals)

    def close(self) -> None:
        """As the base says."""
        self._view.close()
        self._pin.close()


def read_mark(file: BinaryIO) -> StoreMark:
    """What a mark wrote. Raises ValueError."""
    if read_exactly(file, len(MAGIC)) != MAGIC:
        raise ValueError("not a mark of a key-value store, or one of another version: its first bytes are wrong")
    length, crc = _PREFIX.unpack(read_exactly(file, _PREFIX.size))
    if length > MARK_BYTES_MAX:
        raise ValueError(f"a mark of {length} bytes; {MARK_BYTES_MAX} is the most")
    payload = read_exactly(file, length)
    if zlib.crc32(payload) != crc:
        raise ValueError("the mark is corrupt: its checksum doesn't match")
    try:
        mark = _decode_mark(payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(f"the mark doesn't decode: {error}") from error
    if not _NAME.fullmatch(mark.table):
        raise ValueError(f"the mark names no table of a store: {mark.table!r}")
    if mark.revision < 1 or not -1 <= mark.compact_revision <= mark.revision:
        raise ValueError("the mark names impossible revisions")
    Chronicle.of(mark.annals, mark.revision)
    return mark


def reopen_store(mark: StoreMark, directory: Path, map_bytes: int, read: TableReader) -> tuple[KvStore, KvMark]:
    """The store as it was when it was marked, and that mark. What its table got later is cut off.

    Raises TableDamaged, OSError, what ``read`` raises. The table stays.
    """
    path = directory / mark.table
    try:
        put_back(path, mark.roots)
    except FileNotFoundError as error:
        raise TableDamaged(f"{path} is gone, and the last snapshot of this node is in it") from error
    index, chronicle = _index_of(path, mark, read), Chronicle.of(mark.annals, mark.revision)
    store = KvStore(path, map_bytes, is_kept=True)
    try:
        store.revision, store.compact_revision, store.swept = mark.revision, mark.compact_revision, from_key(mark.swept)
        store.index = index
        store.chronicle = chronicle
        store.records.doom(list(map(from_key, mark.doomed)))
        return store, KvMark(store)  # before anything is written: its pin has the roots that were put back
    except BaseException:
        store.close(keeps=True)
        raise


def _index_of(path: Path, mark: StoreMark, read: TableReader) -> KeyIndex:
    """All keys, from the table."""
    index, doomed, last = KeyIndex(), set(mark.doomed), to_key(first_stamp(mark.revision + 1))
    load = index.load
    key = b""
    for key, name, create_revision, version in read(path):
        if key not in doomed:
            load(name, from_key(key), create_revision, version)
    if key >= last:
        raise TableDamaged(f"{path}: it has records after revision {mark.revision}, where it was marked")
    index.loaded()
    return index
