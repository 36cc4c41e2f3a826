"""Snapshot files: the state machine at an index, written whole or not at all, and sent to peers in chunks.

A file `snapshot-<index>-<term>.snap` is a header of 256 bytes and the payload. Integers are little-endian.

    offset  size
         0     8  magic "QUORSNAP"
         8     2  format version, 1
        10     2  length of the cluster's name in bytes
        12     8  node that wrote it; 0 where nodes have the same file
        20     8  index
        28     8  term
        36     8  size of the payload
        44    32  SHA-256 of the payload (processors compute it faster than BLAKE2b)
        76   176  cluster, UTF-8, padded with zeros
       252     4  CRC-32 of the 252 bytes before

Where nodes may lie, those that have a snapshot have the same file, and its pieces are proved by a Merkle tree over them
(`parts/log/pieces.py`). The tree of a file that is served is kept in memory, and computed anew after a restart.

The header is written last: until then the file has another name (`.aside`). Peers exchange the file as it is, so a
received snapshot is checked by the same header. An unfinished one does not outlive the process.

All methods block on the disk: call them in a worker thread. A store has one owner; the lock of the node's journal
guards both.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import re
import struct
import threading
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from quorate.parts.log.pieces import PieceTree, leaf_of, length_at
from quorate.runtime.errors import (
    NodeStops,
    SnapshotCorrupt,
    SnapshotMissing,
    SnapshotRefused,
    SnapshotSpoiled,
    StorageError,
    UnknownFormat,
    WrongIdentity,
)
from quorate.runtime.files import (
    ASIDE,
    Identity,
    create,
    drop_cached,
    fsync_directory,
    own_directory,
    publish,
    remove_asides,
)
from quorate.runtime.journal.segment import is_damaged_version
from quorate.runtime.verified import VerifiedFile, identity_of

MAGIC = b"QUORSNAP"
VERSION = 1
HEADER_SIZE = 256
CHUNK_SIZE_BYTES_MAX = 16 << 20
SNAPSHOT_SIZE_BYTES_MAX = 1 << 40
TREES_MAX = 4
VERIFIED_COUNT_MAX = 4  # files whose sums are kept; there are rarely more than two
DIGEST_PIECE_BYTES = 1 << 20
SYNC_BYTES = 16 << 20
CORRUPT = ".corrupt"  # the suffix of a file that is kept for a look into it

_HEADER = struct.Struct("<8sHHQQQQ32s176s")
_CRC = struct.Struct("<I")
_NAME = re.compile(r"snapshot-(0|[1-9]\d{0,19})-(0|[1-9]\d{0,19})\.snap")


@dataclass(frozen=True, slots=True, order=True)
class SnapshotInfo:
    """One complete snapshot. size_bytes: of the file, which is what a transfer carries. digest: SHA-256 of the payload,
    where it was just computed."""

    index: int
    term: int
    size_bytes: int
    digest: bytes = field(default=b"", compare=False)

    @property
    def payload_size_bytes(self) -> int:
        return self.size_bytes - HEADER_SIZE


class _Header(NamedTuple):
    cluster: bytes
    node: int
    at: int
    term: int
    payload_size: int
    digest: bytes


class SnapshotReader(io.RawIOBase):
    """The payload of a verified snapshot, as a file that begins and ends with it.

    fileno(), payload_offset and payload_size (bytes) serve zero-copy calls; the descriptor stands at the position.
    """

    def __init__(self, file: io.FileIO, info: SnapshotInfo, stops: threading.Event) -> None:
        self.info = info
        self.payload_offset = HEADER_SIZE
        self.payload_size = info.payload_size_bytes
        self._file = file
        self._stops = stops
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def tell(self) -> int:
        return self._file.tell() - self.payload_offset

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move within the payload; returns the new position, counted from the payload's start."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self.payload_size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}, before the payload")
        return self._file.seek(self.payload_offset + base + offset) - self.payload_offset

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        _go_on(self._stops)
        room = max(0, min(len(buffer), self.payload_size - self.tell()))
        return self._file.readinto(memoryview(buffer)[:room]) or 0

    def close(self) -> None:
        self._file.close()
        super().close()


class _SnapshotFile(io.BufferedRandom):
    """A new one that is being written; writing ends when the node stops.

    It is synced as it grows: gigabytes at its end would hold up the journal's syncs.
    """

    def __init__(self, path: Path, stops: threading.Event) -> None:
        super().__init__(io.FileIO(create(path, exclusive=True), "r+"))
        self._stops = stops
        self._unsynced_bytes = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        _go_on(self._stops)
        self._unsynced_bytes += len(data)
        if self._unsynced_bytes >= SYNC_BYTES:
            self._unsynced_bytes = 0
            os.fdatasync(self.fileno())
        return super().write(data)


@dataclass(slots=True)
class _Receiving:
    """A snapshot that is coming in: which one, its file, and how much of it is there."""

    info: SnapshotInfo
    path: Path
    fd: int
    header_checked: bool = False
    received_bytes: int = 0

    def abandon(self) -> None:
        os.close(self.fd)
        self.path.unlink(missing_ok=True)


class SnapshotStore:
    """The snapshots in one folder. size_bytes_max: of a file that a peer may send."""

    def __init__(
        self,
        directory: Path | str,
        identity: Identity,
        *,
        size_bytes_max: int = SNAPSHOT_SIZE_BYTES_MAX,
        is_view: bool = False,
    ) -> None:
        """Create the folder if missing; remove unfinished files. Raises WrongIdentity, OSError."""
        self._directory = Path(directory)
        self._identity = identity
        self._cluster = identity.cluster.encode()
        self._size_bytes_max = size_bytes_max
        self._receiving: _Receiving | None = None
        self._receive_lock = threading.Lock()
        self._verified: dict[SnapshotInfo, VerifiedFile] = {}
        self._verify_lock = threading.Lock()
        self._aside_numbers = itertools.count()
        self._trees: dict[tuple[SnapshotInfo, int], PieceTree] = {}  # that which was asked for longest ago first
        self._tree_lock = threading.Lock()
        self._stops = threading.Event()
        if is_view:
            return
        own_directory(self._directory)
        remove_asides(self._directory)
        for info in self.infos():
            self._header(info)

    @classmethod
    def view(cls, directory: Path, identity: Identity) -> SnapshotStore:
        """One that looks at files and changes none; another process may have the folder."""
        return cls(directory, identity, is_view=True)

    def stop(self) -> None:
        """Have what writes or reads a snapshot give up soon, with NodeStops; from any thread."""
        self._stops.set()

    def infos(self) -> list[SnapshotInfo]:
        """The complete snapshots, by index. Their content is not verified here."""
        found = []
        for path in self._directory.iterdir():
            with suppress(FileNotFoundError):  # discarded meanwhile
                if info := info_of(path):
                    found.append(info)
        return sorted(found)

    def own(self) -> list[SnapshotInfo]:
        """Those that this node took itself, of what its journal had then; not those that nodes have in common."""
        return [info for info in self.infos() if (header := self._header(info)) and header.node == self._identity.node]

    def write(
        self, index: int, term: int, writer: Callable[[BinaryIO], None], *, is_common: bool = False
    ) -> SnapshotInfo:
        """Let `writer` fill a new snapshot, and make it durable; it replaces one of the same index and term.

        `is_common`: the file says nothing of this node, so that whoever has the same payload has the same file.

        The writer gets a real file that stands behind the header: it may write to it, or hand its fileno() to a C
        library that writes at the descriptor's position (flush() first if it did both). What it raises, comes out
        of here, and nothing is left behind. Raises OSError.
        """
        final = self._path(index, term)
        aside = self._aside(final)
        try:
            with _SnapshotFile(aside, self._stops) as file:
                file.write(bytes(HEADER_SIZE))
                file.flush()
                writer(file)
                file.flush()
                # A library may have written past Python's buffer: ask the file itself for its size and content.
                size = os.fstat(file.fileno()).st_size
                digest = _payload_digest(file, self._stops)
                node = 0 if is_common else self._identity.node
                header = _Header(self._cluster, node, index, term, size - HEADER_SIZE, digest)
                os.pwrite(file.fileno(), _encode(header), 0)
                os.fsync(file.fileno())
                drop_cached(file.fileno())
            publish(aside, final)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        info = SnapshotInfo(index, term, size, digest)
        with self._tree_lock:
            self._trees = {key: tree for key, tree in self._trees.items() if key[0] != info}
        return info

    def open(self, index: int) -> SnapshotReader:
        """The payload of the snapshot at an index, after its digest was verified (which reads all of it).

        A corrupt one is renamed to `.corrupt`, so that it is not offered again. Raises SnapshotMissing,
        SnapshotSpoiled, UnknownFormat, WrongIdentity, OSError.
        """
        info = self._find(index)
        path = self._path(info.index, info.term)
        file = self._open_file(path)
        try:
            self._verify(file, path, info)
            return SnapshotReader(file, info, self._stops)
        except BaseException as error:
            file.close()
            if not isinstance(error, SnapshotCorrupt):
                raise
            raise self._set_aside(path, error) from None

    def look(self, index: int, *, whole: bool = False) -> SnapshotInfo:
        """The snapshot at an index, by its header and its size, or by the ``whole`` of it; it stays where it is.

        Raises SnapshotMissing, SnapshotCorrupt, UnknownFormat, WrongIdentity, OSError.
        """
        info = self._find(index)
        path = self._path(info.index, info.term)
        with self._open_file(path) as file:
            header = self._verify_header(os.pread(file.fileno(), HEADER_SIZE, 0), path, info)
            if whole:
                self._verify(file, path, info)
        return SnapshotInfo(info.index, info.term, info.size_bytes, header.digest)

    def read_chunk(self, index: int, offset: int, size: int) -> bytes:
        """Up to `size` bytes (at most 16 MiB) of the snapshot's file from an offset, for a peer; b"" at its end.

        Nothing leaves that was not verified: the first call reads the whole file. A corrupt one is renamed to
        `.corrupt`. Raises SnapshotMissing, SnapshotSpoiled, SnapshotRefused, DiskUnreadable, OSError.
        """
        if not 0 <= offset < 1 << 63 or not 0 < size <= CHUNK_SIZE_BYTES_MAX:
            raise SnapshotRefused(f"a chunk of {size} bytes at offset {offset}: at most {CHUNK_SIZE_BYTES_MAX} bytes")
        info = self._find(index)
        path = self._path(info.index, info.term)
        with self._open_file(path) as file:
            try:
                return self._sums_of(file, path, info).pread(file.fileno(), size, offset)
            except SnapshotCorrupt as error:
                raise self._set_aside(path, error) from None

    def tree(self, index: int, piece_bytes: int) -> PieceTree:
        """The tree over a snapshot's pieces; the first time all of it is read. Raises SnapshotMissing, OSError."""
        info = self._find(index)
        key = info, piece_bytes
        with self._tree_lock:
            if (known := self._trees.pop(key, None)) is not None:
                self._trees[key] = known  # the newest now: that of a file which travels stays, whatever else comes
                return known
        with self._open_file(self._path(info.index, info.term)) as file:
            tree = PieceTree([leaf_of(data) for data in _pieces(file, info.size_bytes, piece_bytes)])
        with self._tree_lock:
            self._trees[key] = tree
            while len(self._trees) > TREES_MAX:
                del self._trees[next(iter(self._trees))]
        return tree

    def read_piece(
        self, index: int, offset: int, piece_bytes: int, root: bytes
    ) -> tuple[SnapshotInfo, bytes, tuple[bytes, ...]]:
        """A piece of the snapshot's file and its proof, where `root` is that of its pieces.

        Raises SnapshotRefused (no piece begins there), SnapshotCorrupt (it is another file), and as `read_chunk` does.
        """
        info = self._find(index)
        if length_at(offset, info.size_bytes, piece_bytes) is None:
            raise SnapshotRefused(f"no piece of {piece_bytes} bytes begins at offset {offset} of {info.size_bytes}")
        data = self.read_chunk(index, offset, piece_bytes)  # verified, and so the tree is of what was written
        number, tree = offset // piece_bytes, self.tree(index, piece_bytes)
        if tree.root != root or leaf_of(data) != tree.leaf(number):
            raise SnapshotCorrupt(
                f"{self._path(info.index, info.term)}: these are not the pieces of the snapshot named"
            )
        return info, data, tree.proof(number)

    def write_chunk(
        self, index: int, term: int, offset: int, data: bytes, total_bytes: int, digest: bytes = b""
    ) -> int:
        """Take a chunk of a peer's snapshot file of `total_bytes`; returns the next offset wanted.

        A chunk at another offset than the one wanted changes nothing. The first chunk (offset 0) of another
        snapshot discards an unfinished one. The return value is total_bytes when the snapshot is complete, verified and
        durable, or was here already. A payload of another SHA-256 than ``digest`` is corrupt, unless that is empty.

        Raises SnapshotRefused (a limit; nothing changes), SnapshotCorrupt, UnknownFormat or WrongIdentity (what
        came is deleted), OSError (a full disk, say; the same chunk can be sent again).
        """
        self._check_chunk(index, term, offset, data, total_bytes)
        with self._receive_lock:
            if self._path(index, term).exists():
                return total_bytes
            receiving = self._receiving
            info = SnapshotInfo(index, term, total_bytes, digest)
            if receiving is None or receiving.info != info or receiving.info.digest != digest:
                if offset != 0:
                    return 0
                receiving = self._begin_receiving(info)
            if offset != receiving.received_bytes:
                return receiving.received_bytes
            return self._receive(receiving, data, digest)

    def discard(self, below_index: int, held: Collection[int] = ()) -> list[SnapshotInfo]:
        """Delete the snapshots below an index, but those at ``held``; returns them. An open reader keeps its file."""
        gone = [info for info in self.infos() if info.index < below_index and info.index not in held]
        for info in gone:
            self._path(info.index, info.term).unlink(missing_ok=True)
        if gone:
            fsync_directory(self._directory)
        return gone

    # Names and files.

    def _path(self, index: int, term: int) -> Path:
        if not (0 <= index < 1 << 64 and 0 <= term < 1 << 64):
            raise SnapshotRefused(f"index and term are 0 to 2**64 - 1: {index}, {term}")
        return self._directory / f"snapshot-{index}-{term}.snap"

    def _aside(self, final: Path) -> Path:
        return final.with_name(f"{final.name}.{next(self._aside_numbers)}{ASIDE}")

    def _find(self, index: int) -> SnapshotInfo:
        infos = self.infos()
        for info in reversed(infos):
            if info.index == index:
                return info
        for kept in self._directory.glob(f"snapshot-{index}-*.snap{CORRUPT}"):
            raise SnapshotSpoiled(f"{self._directory}: the snapshot at index {index} was found corrupt", kept.name)
        have = ", ".join(str(info.index) for info in infos) or "none"
        raise SnapshotMissing(f"{self._directory}: no snapshot at index {index} (there are: {have})")

    def _open_file(self, path: Path) -> io.FileIO:
        try:
            return io.FileIO(path)
        except FileNotFoundError:
            raise SnapshotMissing(f"{path}: the snapshot was discarded") from None

    def set_aside(self, info: SnapshotInfo, error: SnapshotCorrupt) -> SnapshotSpoiled:
        """Have nobody ask for a file again that is whole, and leads to what is not. Raises OSError."""
        return self._set_aside(self._path(info.index, info.term), error)

    def _set_aside(self, path: Path, error: SnapshotCorrupt) -> SnapshotSpoiled:
        """Keep a corrupt file under a name by which nobody asks for it."""
        kept = path.with_name(path.name + CORRUPT)
        path.replace(kept)
        fsync_directory(self._directory)
        return SnapshotSpoiled(str(error), kept.name)

    # Checks.

    def _sums_of(self, file: io.FileIO, path: Path, info: SnapshotInfo) -> VerifiedFile:
        """The sums of a file that was verified since it was last written."""
        with self._verify_lock:
            verified = self._verified.get(info)
            if verified is None or verified.identity != identity_of(file.fileno()):
                verified = VerifiedFile(file.fileno(), path)
                self._verify(file, path, info)
                while len(self._verified) >= VERIFIED_COUNT_MAX:
                    del self._verified[next(iter(self._verified))]
                self._verified[info] = verified
            return verified

    def _header(self, info: SnapshotInfo) -> _Header | None:
        """None of a damaged one, which is told when it is opened. Raises WrongIdentity, UnknownFormat, OSError."""
        path = self._path(info.index, info.term)
        with path.open("rb") as file, suppress(SnapshotCorrupt):
            return self._decode(file.read(HEADER_SIZE), path)
        return None

    def _decode(self, data: bytes, path: Path) -> _Header:
        """Read a header. Raises SnapshotCorrupt, UnknownFormat, WrongIdentity."""
        if data[:8] != MAGIC or len(data) < HEADER_SIZE:
            raise SnapshotCorrupt(f"{path}: this is not a snapshot, or its header is damaged")
        if is_damaged_version(data, VERSION, _HEADER.size):
            raise SnapshotCorrupt(f"{path}: the format version in the header is damaged")
        version = int.from_bytes(data[8:10], "little")
        if version != VERSION:
            raise UnknownFormat(
                f"{path}: snapshot format version {version}; this release reads version {VERSION}. Start the "
                "release that wrote it (if none newer ever ran here, the header is damaged)"
            )
        if _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: _HEADER.size]):
            raise SnapshotCorrupt(f"{path}: the checksum of the header is wrong")
        _, _, length, node, index, term, payload_size, digest, cluster = _HEADER.unpack_from(data)
        if cluster[:length] != self._cluster:
            raise WrongIdentity(
                f"{path} belongs to cluster {cluster[:length].decode(errors='replace')!r}; this is cluster "
                f"{self._identity.cluster!r}. Give each cluster its own data folder and addresses"
            )
        return _Header(cluster[:length], node, index, term, payload_size, digest)

    def _verify(self, file: BinaryIO | io.FileIO, path: Path, info: SnapshotInfo) -> None:
        """Check a whole file against its header and its name."""
        header = self._verify_header(os.pread(file.fileno(), HEADER_SIZE, 0), path, info)
        if _payload_digest(file, self._stops) != header.digest:
            raise SnapshotCorrupt(f"{path}: the digest of the payload is wrong")

    def _verify_header(self, data: bytes, path: Path, info: SnapshotInfo) -> _Header:
        header = self._decode(data, path)
        if (header.at, header.term) != (info.index, info.term):
            raise SnapshotCorrupt(f"{path}: the header says index {header.at}, term {header.term}")
        if header.payload_size != info.payload_size_bytes:
            raise SnapshotCorrupt(
                f"{path}: {info.payload_size_bytes} bytes of payload where the header says {header.payload_size}"
            )
        return header

    def _check_chunk(self, index: int, term: int, offset: int, data: bytes, total_bytes: int) -> None:
        name = self._path(index, term).name
        if not HEADER_SIZE <= total_bytes <= self._size_bytes_max:
            raise SnapshotRefused(
                f"{name}: {total_bytes} bytes; a snapshot has {HEADER_SIZE} to {self._size_bytes_max} bytes"
            )
        if len(data) > CHUNK_SIZE_BYTES_MAX:
            raise SnapshotRefused(f"{name}: a chunk of {len(data)} bytes; the limit is {CHUNK_SIZE_BYTES_MAX}")
        if offset < 0 or offset + len(data) > total_bytes:
            raise SnapshotRefused(f"{name}: {len(data)} bytes at offset {offset} of a file of {total_bytes}")

    # Receiving; the caller holds the lock.

    def _begin_receiving(self, info: SnapshotInfo) -> _Receiving:
        self._abandon()
        path = self._aside(self._path(info.index, info.term))
        fd = create(path, exclusive=True)
        self._receiving = _Receiving(info, path, fd)
        return self._receiving

    def _receive(self, receiving: _Receiving, data: bytes, digest: bytes) -> int:
        info, view = receiving.info, memoryview(data)
        while view:
            written = os.pwrite(receiving.fd, view, receiving.received_bytes)
            receiving.received_bytes += written
            view = view[written:]
        try:
            if not receiving.header_checked and receiving.received_bytes >= HEADER_SIZE:
                # A snapshot of the wrong cluster is refused before gigabytes of it have come.
                header = self._verify_header(os.pread(receiving.fd, HEADER_SIZE, 0), receiving.path, info)
                if digest and header.digest != digest:
                    raise SnapshotCorrupt(f"{receiving.path}: the digest is not that of the snapshot wanted")
                receiving.header_checked = True
            if receiving.received_bytes < info.size_bytes:
                return receiving.received_bytes
            with io.FileIO(receiving.fd, closefd=False) as file:
                self._verify(file, receiving.path, info)
            os.fsync(receiving.fd)
            publish(receiving.path, self._path(info.index, info.term))
        except (StorageError, OSError):
            # After a failed fsync the pages may be lost: the whole file must come again.
            self._abandon()
            raise
        os.close(receiving.fd)
        self._receiving = None
        return info.size_bytes

    def _abandon(self) -> None:
        if self._receiving is not None:
            self._receiving.abandon()
            self._receiving = None


def info_of(path: Path) -> SnapshotInfo | None:
    """Which snapshot a file is, by its name; None: none. Raises FileNotFoundError."""
    name = _NAME.fullmatch(path.name)
    return SnapshotInfo(int(name[1]), int(name[2]), path.stat().st_size) if name else None


def _encode(header: _Header) -> bytes:
    body = _HEADER.pack(
        *(MAGIC, VERSION, len(header.cluster), header.node, header.at, header.term),
        *(header.payload_size, header.digest, header.cluster),
    )
    return body + _CRC.pack(zlib.crc32(body))


def _pieces(file: io.FileIO, size_bytes: int, piece_bytes: int) -> Iterator[bytes]:
    for offset in range(0, size_bytes, piece_bytes):
        yield os.pread(file.fileno(), min(piece_bytes, size_bytes - offset), offset)


def _payload_digest(file: BinaryIO | io.FileIO, stops: threading.Event) -> bytes:
    """Read a snapshot's file from behind the header to its end. Raises NodeStops."""
    file.seek(HEADER_SIZE)
    digest, buffer = hashlib.sha256(), bytearray(DIGEST_PIECE_BYTES)
    view = memoryview(buffer)
    while size := file.readinto(buffer):  # type: ignore[union-attr]
        _go_on(stops)
        digest.update(view[:size])
    return digest.digest()


def _go_on(stops: threading.Event) -> None:
    if stops.is_set():
        raise NodeStops("the node stops, and needs this snapshot no more")
