"""Snapshots of the store: a stream of checksummed frames of records, in the order of revisions.

Not a copy of the LMDB file. Records are cheap to stream (a frame is one cursor pass, one encode, one checksum) and
the loader has to read each one anyway to build the index; in return a snapshot says nothing about page size, byte
order or library version, and what a peer sends is decoded and checked record by record, never mapped into memory
and trusted.

    MAGIC, frame(header), frame(records, total so far)..., frame(no records, total)
    frame: length u32, crc32 u32 (chained: each starts from the one before), payload

The chain and the totals make a lost, repeated or reordered frame as visible as a flipped bit.

Records that a compaction made unreachable are left out, swept already or not. So the stream follows from what clients
can read alone, and nodes that have applied the same commands write the same bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Self

import msgspec

from quorate.machines.kv.chronicle import NO_ANNALS, Annals, Chronicle
from quorate.machines.kv.commands import KEY_BYTES_MAX, VALUE_BYTES_MAX, KeyValue, encode
from quorate.machines.kv.index import STAMP_BYTES, first_stamp, stamp_revision
from quorate.machines.kv.revisions import MAP_BYTES, from_key, to_key
from quorate.machines.kv.store import KvStore, View

MAGIC = b"QUORKV\x00\x01"
_CHUNK_BYTES = 256 * 1024  # some 0.2 ms of reading under the GIL; the write that follows lets others run
_LARGE_BYTES = 16 * 1024
_AHEAD_THREADS = 4
_AHEAD_CHUNKS = 8
_FRAME_BYTES_MAX = _CHUNK_BYTES + 2 * (KEY_BYTES_MAX + VALUE_BYTES_MAX)
_PREFIX = struct.Struct(">II")


class SnapshotError(ValueError):
    """The payload isn't a whole, sound snapshot. Fetch or take another one."""


class _Header(msgspec.Struct, frozen=True, array_like=True, gc=False):
    revision: int
    compact_revision: int
    annals: Annals = NO_ANNALS


class _Frame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    records: list[tuple[bytes, bytes]]
    total: int


_decode_header = msgspec.msgpack.Decoder(_Header).decode
_decode_frame = msgspec.msgpack.Decoder(_Frame).decode
_decode_record = msgspec.msgpack.Decoder(KeyValue).decode


class SnapshotWriter:
    """Writes one view of a store, once, from any thread. Drop it or `close` it to give the view up unwritten."""

    def __init__(self, view: View, annals: Annals = NO_ANNALS) -> None:
        self._view = view
        self._annals = annals

    def __call__(self, file: BinaryIO) -> None:
        """Write the snapshot where the stream stands.

        Raises OSError from the stream, ValueError if the writer was used or closed before, or if the store is
        closed or replaced meanwhile.
        """
        if self._view.closed:
            raise ValueError("this snapshot was written or closed already; take another one")
        try:
            self._write(file)
        finally:
            self.close()

    def close(self) -> None:
        """Let the store forget what only this snapshot needed. Harmless twice."""
        self._view.close()

    def _write(self, file: BinaryIO) -> None:
        view = self._view
        file.write(MAGIC)
        crc = _write_frame(file, _encode_header(view, self._annals), 0)
        end = to_key(first_stamp(view.revision + 1))
        total = 0
        for records in _in_frames(view, end):
            total += len(records)
            crc = _write_frame(file, encode(_Frame(records, total)), crc)
        _write_frame(file, encode(_Frame([], total)), crc)


def _encode_header(view: View, annals: Annals) -> bytes:
    """A store of which nothing is told has the header of one that cannot be told of."""
    if annals == NO_ANNALS:
        return encode((view.revision, view.compact_revision))
    return encode(_Header(view.revision, view.compact_revision, annals))


def _in_frames(view: View, end: bytes) -> Iterator[list[tuple[bytes, bytes]]]:
    """What can be read, each list with a frame's bytes, or a record more; how it was read shows in none."""
    frame: list[tuple[bytes, bytes]] = []
    size_bytes, after = 0, b""
    with _Ahead(view) as ahead:
        while records := view.records.read_chunk(after, end, _CHUNK_BYTES):
            ahead.have_read(after, records)
            after = records[-1][0]
            for key, record in records:
                if view.is_readable(key, record):
                    frame.append((key, record))
                    size_bytes += len(record)
                    if size_bytes >= _CHUNK_BYTES:
                        yield frame
                        frame, size_bytes = [], 0
    if frame:
        yield frame


class _Ahead:
    """Threads that have the pages of large records read before it is their turn.

    Where memory is short these are on the disk, and a value of a megabyte is 350 pages, each a read of its own: one
    after another they take ten times as long as the disk needs for several at a time. Small records share pages.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._pool: ThreadPoolExecutor | None = None
        self._asked_to = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)  # what it raised in a thread says that the store was closed

    def have_read(self, after: bytes, records: list[tuple[bytes, bytes]]) -> None:
        """These follow each other; what is next has about as many bytes in as many revisions."""
        if sum(len(record) for _, record in records) < _LARGE_BYTES * len(records):
            return
        last = from_key(records[-1][0])
        span = max(last - from_key(after or records[0][0]), 1)
        self._asked_to = max(self._asked_to, last)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_AHEAD_THREADS, "quorate-ahead")
        while self._asked_to < min(last + _AHEAD_CHUNKS * span, first_stamp(self._view.revision + 1)):
            self._pool.submit(self._view.records.touch, self._asked_to, self._asked_to + span)
            self._asked_to += span


def _write_frame(file: BinaryIO, payload: bytes, crc: int) -> int:
    crc = zlib.crc32(payload, crc)
    file.write(_PREFIX.pack(len(payload), crc) + payload)
    return crc


def load_store(file: BinaryIO, path: Path, map_bytes: int = MAP_BYTES) -> KvStore:
    """Read a snapshot into a new store with its records at `path`; the stream is left just behind the snapshot.

    Raises SnapshotError, or OSError from stream or disk; nothing is left at `path` then.
    """
    store = KvStore(path, map_bytes)
    try:
        _load(file, store)
    except BaseException:
        store.close()
        raise
    return store


def _load(file: BinaryIO, store: KvStore) -> None:
    if _read(file, len(MAGIC)) != MAGIC:
        raise SnapshotError("not a key-value snapshot, or one of another version: its first bytes are wrong")
    payload, crc = _read_frame(file, 0)
    try:
        header = _decode_header(payload)
        if header.revision < 1 or not -1 <= header.compact_revision <= header.revision:
            raise SnapshotError("the snapshot's header names impossible revisions")
        store.revision = header.revision
        store.compact_revision = header.compact_revision
        try:
            store.chronicle = Chronicle.of(header.annals, header.revision)
        except ValueError as error:
            raise SnapshotError(f"the snapshot is wrong: {error}") from None
        last, total = 0, 0
        while True:
            payload, crc = _read_frame(file, crc)
            frame = _decode_frame(payload)
            total += len(frame.records)
            if frame.total != total:
                raise SnapshotError(f"the snapshot counts {frame.total} records where {total} were read")
            if not frame.records:
                break
            last = _load_records(store, frame.records, last)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise SnapshotError(f"the snapshot has a frame that doesn't decode: {error}") from error
    store.index.loaded()


def _load_records(store: KvStore, records: list[tuple[bytes, bytes]], last: int) -> int:
    index_load = store.index.load
    pending = store.records.pending
    for key, record in records:
        stamp = from_key(key)
        kv = _decode_record(record)
        problem = _record_problem(store, key, stamp, last, kv)
        if problem:
            raise SnapshotError(f"the snapshot's record {key.hex()} {problem}")
        index_load(kv.key, stamp, kv.create_revision, kv.version)
        pending[key] = record
        last = stamp
    store.records.flush()
    return last


def _record_problem(store: KvStore, key: bytes, stamp: int, last: int, kv: KeyValue) -> str:
    revision = stamp_revision(stamp)
    if len(key) != STAMP_BYTES or stamp <= last:
        return "is out of order"
    if revision > store.revision or revision != kv.mod_revision:
        return "isn't of the revision it claims"
    if not 0 < len(kv.key) <= KEY_BYTES_MAX or len(kv.value) > VALUE_BYTES_MAX:
        return "has a key or value of a size that isn't allowed"
    if stamp & 1:
        return "is a deletion with a version" if kv.version or kv.create_revision else ""
    return "" if kv.version >= 1 and 1 < kv.create_revision <= revision else "has an impossible version"


def _read_frame(file: BinaryIO, crc: int) -> tuple[bytes, int]:
    length, claimed = _PREFIX.unpack(_read(file, _PREFIX.size))
    if length > _FRAME_BYTES_MAX:
        raise SnapshotError(f"the snapshot has a frame of {length} bytes; {_FRAME_BYTES_MAX} is the most")
    payload = _read(file, length)
    crc = zlib.crc32(payload, crc)
    if crc != claimed:
        raise SnapshotError("the snapshot is corrupt: a checksum doesn't match")
    return payload, crc


def _read(file: BinaryIO, size: int) -> bytes:
    """Exactly `size` bytes. A raw stream may give them in pieces."""
    data = file.read(size)
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            raise SnapshotError("the snapshot is cut short")
        data += more
    return data
