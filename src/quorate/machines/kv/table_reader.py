"""Reading a table at a start: every record is checked, and what the index needs of it is passed on.

LMDB checks no page: where a bit of an inner page has flipped, it ends the process. So a node has another process read
the table (``heads_apart``), and a reader that dies is a damaged table. It also reads while the node makes its index,
and takes the mapped pages with it when it ends. ``heads`` does the same in this process.

    python -m quorate.machines.kv.table_reader PATH

writes batches of heads, each behind its length in u32, and an empty one at the end. With the upper bit of the length
set it is the reason why the reader stopped.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import IO, Final, TypeAlias

import lmdb
import msgspec

from quorate.machines.kv.index import STAMP_BYTES, stamp_revision

SUM_BYTES: Final = 4
BATCH: Final = 2048
_LENGTH = struct.Struct("<I")
_STOPPED: Final = 1 << 31
"""Added to the length of the reason why the reader stopped."""
_CRASHES: Final = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)
"""How LMDB ends a process that follows damaged pages."""

Head: TypeAlias = tuple[bytes, bytes, int, int]
"""Of a record: stamp as it is in the table, key, create revision and version."""


class TableDamaged(ValueError):
    """A table is not as it was left."""


class _RecordHead(msgspec.Struct, array_like=True, gc=False):
    """A record without its value and lease."""

    key: bytes
    value: msgspec.Raw
    create_revision: int
    mod_revision: int
    version: int


_decode_head = msgspec.msgpack.Decoder(_RecordHead).decode
_encode = msgspec.msgpack.Encoder().encode
_decode_batch = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, int, int]]).decode


def sum_of(key: bytes, record: bytes | memoryview) -> bytes:
    """What stands behind a record: a CRC-32 of its key and itself."""
    return zlib.crc32(record, zlib.crc32(key)).to_bytes(SUM_BYTES, "little")


def heads(path: Path) -> Iterator[Head]:
    """Of all records, in their order. Nobody may have the table open. Raises TableDamaged."""
    try:
        with closing(lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)) as table:
            yield from _heads(table, path)
    except lmdb.Error as error:
        raise TableDamaged(f"{path}: LMDB finds it damaged: {error}") from error


def _heads(table: lmdb.Environment, path: Path) -> Iterator[Head]:
    with table.begin(buffers=True) as txn:
        expected, before = txn.stat()["entries"], b""
        for key, summed in txn.cursor():
            stamp_key, record = bytes(key), summed[:-SUM_BYTES]
            if len(stamp_key) != STAMP_BYTES or stamp_key <= before:
                raise TableDamaged(f"{path}: record {stamp_key.hex()} is out of order")
            if sum_of(stamp_key, record) != summed[-SUM_BYTES:]:
                raise TableDamaged(f"{path}: record {stamp_key.hex()} is damaged: a checksum doesn't match")
            try:
                head = _decode_head(record)
            except msgspec.MsgspecError as error:
                raise TableDamaged(f"{path}: record {stamp_key.hex()} doesn't decode: {error}") from error
            if stamp_revision(int.from_bytes(stamp_key, "big")) != head.mod_revision:
                raise TableDamaged(f"{path}: record {stamp_key.hex()} isn't of the revision it claims")
            before = stamp_key
            expected -= 1
            yield stamp_key, head.key, head.create_revision, head.version
        if expected:
            raise TableDamaged(f"{path}: {abs(expected)} records are missing, or are too many")


def heads_apart(path: Path) -> Iterator[Head]:
    """As ``heads``, read by another process. Also raises OSError where there can be none, or where it was ended.

    The table is damaged if LMDB made it crash. If somebody killed it (the system, say, that was short of memory), or
    if it failed in another way, nothing is known of the table, and a node must not take it for damaged.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "quorate.machines.kv.table_reader", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment) as reader:
        assert reader.stdout is not None
        try:
            while batch := _next_batch(reader.stdout):
                yield from batch
        finally:
            reader.kill()
    if batch is None:
        why = f"the process that read it ended with {_named(reader.returncode)}"
        if -reader.returncode in _CRASHES:
            raise TableDamaged(f"{path}: {why}")
        raise OSError(errno.EINTR, f"{why}, so it is not known what is in it", str(path))


def _next_batch(pipe: IO[bytes]) -> list[Head] | None:
    """None: the reader died. Raises TableDamaged for what it says."""
    prefix = pipe.read(_LENGTH.size)
    if len(prefix) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(prefix)
    data = pipe.read(length & ~_STOPPED)
    if length & _STOPPED:
        raise TableDamaged(data.decode(errors="replace"))
    return _decode_batch(data) if len(data) == length else None


def _named(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def send_heads() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the node, which ends this
    path, pipe = Path(sys.argv[1]), sys.stdout.buffer
    try:
        found = heads(path)
        while True:
            data = _encode(batch := list(islice(found, BATCH)))
            pipe.write(_LENGTH.pack(len(data)) + data)
            if not batch:
                break
    except BrokenPipeError:
        os._exit(1)  # the node has ended, and Python would complain of the rest
    except (TableDamaged, OSError) as error:
        reason = str(error).encode()
        pipe.write(_LENGTH.pack(len(reason) | _STOPPED) + reason)
    pipe.flush()


if __name__ == "__main__":
    send_heads()
