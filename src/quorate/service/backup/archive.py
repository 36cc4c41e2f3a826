"""Backup files: what a state machine's snapshot writes, in frames that are checked one by one and as a whole.

    MAGIC, frame(head), frame(data)..., frame(end)
    frame: length u32, crc32 u32 (chained: each starts from the one before), kind u8, body; big-endian

The head is JSON (``BackupHead``), so that a person can read it with ``head -c``. The end has the number of bytes and of
data frames, and the SHA-256 of all that stands before it. So a bit that flipped is found in its frame, a frame that is
missing, repeated or in another's place by the chain, a cut by the end that is not there, and nothing may follow the
end. It is no proof against a person who writes a file: compare the digest with one that was kept elsewhere.

A file is written under another name, and has its own once all of it is durable.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, BinaryIO, Final, NamedTuple, Self

import msgspec
from msgspec import Meta

from quorate.kernel import NODE_ID_MAX
from quorate.parts.wire import Natural
from quorate.runtime.files import create, publish

MAGIC: Final = b"QUORBAK\x01"
"""The last byte is the version of the format."""
DATA_BYTES_MAX: Final = 256 << 10
HEAD_BYTES_MAX: Final = 16 << 10
_PREFIX: Final = struct.Struct(">IIB")
_END: Final = struct.Struct(">QQ32s")
_HEAD_KIND, _DATA_KIND, _END_KIND = 1, 2, 3
_LENGTHS: Final = {_HEAD_KIND: HEAD_BYTES_MAX, _DATA_KIND: DATA_BYTES_MAX, _END_KIND: _END.size}
"""The most that a body of each kind may have."""
UNFINISHED: Final = ".unfinished"

_Text = Annotated[str, Meta(max_length=256)]


class BackupDamaged(ValueError):
    """The file is not a whole backup; the text says where it ends being one."""


class BackupHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of what the file is a backup. The state is that after entry ``index`` of the log, as ``node`` had it."""

    cluster: Annotated[str, Meta(min_length=1, max_length=128)]
    protocol: _Text
    node: Annotated[int, Meta(ge=0, le=NODE_ID_MAX)]
    role: _Text
    """Of that node: its own word, and what it was to others at that moment."""
    index: Natural
    term: Natural
    kind: _Text
    """Of the state machine: ``StateMachine.kind``."""
    revision: Natural
    """Of a key-value store; 0: the state has no revisions."""
    oldest_revision: Natural
    """The history goes back to this one; 0: to the beginning."""
    time_ns: Natural
    """Since 1970, by the node's clock."""
    release: _Text
    is_one_word: bool = False
    """Whether the nodes of that cluster may lie, so that this is the word of one of them, and no proof."""


class BackupEnd(NamedTuple):
    """What is known once all of a file is read."""

    size_bytes: int
    """Of the state."""
    digest: bytes
    """SHA-256 of the file, but for its last frame."""


class _Frames:
    """The chain, for those who write and those who read."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.crc = 0
        self.count = 0
        self.size_bytes = 0
        self.digest = hashlib.sha256()

    def take(self, kind: int, data: bytes, body: bytes) -> None:
        """A frame that stands in the chain."""
        self.digest.update(data)
        if kind == _DATA_KIND:
            self.count += 1
            self.size_bytes += len(body)

    def end(self) -> bytes:
        """The body of the end that belongs here."""
        return _END.pack(self.size_bytes, self.count, self.digest.digest())


class BackupWriter:
    """A backup on its way to a file. Leave it by ``finish``, or nothing is there."""

    def __init__(self, path: Path, head: BackupHead, *, replaces: bool = False) -> None:
        """Raises FileExistsError where the file is there, unless this ``replaces`` it; OSError."""
        self._path = path
        self._replaces = replaces
        self._check_free()
        self._aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
        self._file = os.fdopen(create(self._aside, exclusive=True), "wb")
        self._frames = _Frames(self._file)
        self._buffer = bytearray()
        try:
            self._file.write(MAGIC)
            self._frames.digest.update(MAGIC)
            self._frames.crc = zlib.crc32(MAGIC)
            self._write_frame(_HEAD_KIND, msgspec.json.encode(head))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size_bytes(self) -> int:
        """Of the state, so far."""
        return self._frames.size_bytes + len(self._buffer)

    def write(self, data: bytes) -> None:
        """More of the state. Raises OSError."""
        self._buffer += data
        while len(self._buffer) >= DATA_BYTES_MAX:
            self._write_frame(_DATA_KIND, bytes(self._buffer[:DATA_BYTES_MAX]))
            del self._buffer[:DATA_BYTES_MAX]

    def finish(self) -> BackupEnd:
        """That was all: the file gets its end, and its name. Raises FileExistsError, OSError."""
        if self._buffer:
            self._write_frame(_DATA_KIND, bytes(self._buffer))
            self._buffer.clear()
        frames = self._frames
        end = BackupEnd(frames.size_bytes, frames.digest.digest())
        self._write_frame(_END_KIND, frames.end())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._check_free()
        publish(self._aside, self._path)
        return end

    def close(self) -> None:
        """What was not finished is gone. Harmless twice."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._aside.unlink(missing_ok=True)

    def _check_free(self) -> None:
        if self._path.exists() and not self._replaces:
            raise FileExistsError(f"{self._path} is there already: choose another name, or say --force")

    def _write_frame(self, kind: int, body: bytes) -> None:
        frames = self._frames
        frames.crc = zlib.crc32(body, zlib.crc32(bytes((kind,)), frames.crc))
        data = _PREFIX.pack(len(body), frames.crc, kind) + body
        self._file.write(data)
        frames.take(kind, data, body)


class BackupReader(io.RawIOBase):
    """The state in a backup, as a file that begins and ends with it. What it gives was checked, or BackupDamaged.

    ``end`` is there once all was read. A context manager.
    """

    def __init__(self, path: Path) -> None:
        """Read the head. Raises BackupDamaged, OSError."""
        self._path = path
        self._source = path.open("rb")
        self._frames = _Frames(self._source)
        self._rest = memoryview(b"")
        self._at = 0
        self.end: BackupEnd | None = None
        try:
            magic = self._read(len(MAGIC))
            if magic != MAGIC:
                raise self._not_one(magic)
            self._frames.digest.update(MAGIC)
            self._frames.crc = zlib.crc32(MAGIC)
            kind, body = self._frame()
            if kind != _HEAD_KIND:
                raise self._damaged("no head is there")
            self.head = self._decode(body)
        except BaseException:
            self.close()
            raise

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        while not self._rest and self.end is None:
            self._next()
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def check(self) -> BackupEnd:
        """Read all that is left. Raises BackupDamaged, OSError."""
        while self.end is None:
            self._next()
        return self.end

    def finish(self) -> BackupEnd:
        """What understands the state has read all of it: nothing may be left. Raises BackupDamaged, OSError."""
        if self._rest or self.read(1):
            raise self._damaged("more is there than the state has")
        return self.check()

    def close(self) -> None:
        self._source.close()
        super().close()

    def _next(self) -> None:
        expected = self._frames.end()  # before this frame is counted
        kind, body = self._frame()
        if kind == _DATA_KIND:
            self._rest = memoryview(body)
            return
        if kind != _END_KIND:
            raise self._damaged("a second head is there")
        if body != expected:
            raise self._damaged("the digest of the whole file is another one")
        if self._source.read(1):
            raise self._damaged("more bytes follow the end")
        size_bytes, _, digest = _END.unpack(body)
        self.end = BackupEnd(size_bytes, digest)

    def _frame(self) -> tuple[int, bytes]:
        prefix = self._read(_PREFIX.size)
        length, claimed, kind = _PREFIX.unpack(prefix)
        if length > _LENGTHS.get(kind, -1):
            raise self._damaged("this is not the beginning of a frame")
        body = self._read(length)
        crc = zlib.crc32(body, zlib.crc32(bytes((kind,)), self._frames.crc))
        if crc != claimed:
            raise self._damaged("a checksum is wrong")
        self._frames.crc = crc
        self._frames.take(kind, prefix + body, body)
        self._at += _PREFIX.size + length
        return kind, body

    def _read(self, size: int) -> bytes:
        data = self._source.read(size)
        if len(data) < size:
            raise self._damaged("the file is cut off")
        return data

    def _decode(self, body: bytes) -> BackupHead:
        try:
            return msgspec.json.decode(body, type=BackupHead)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._damaged(f"the head cannot be read: {error}") from None

    def _damaged(self, problem: str) -> BackupDamaged:
        where = f"after {len(MAGIC) + self._at} bytes" if self._at else "at its beginning"
        return BackupDamaged(f"{self._path} is not a whole backup: {problem}, {where}. Use another copy")

    def _not_one(self, magic: bytes) -> BackupDamaged:
        if magic[:-1] == MAGIC[:-1]:
            return BackupDamaged(
                f"{self._path} has version {magic[-1]} of the format of backups, and this release reads version "
                f"{MAGIC[-1]}: use the release that wrote it, unless the file is damaged"
            )
        return BackupDamaged(f"{self._path} is not a backup: its first bytes are not those of one")
