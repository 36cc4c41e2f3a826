"""Commands, queries and their results, as they travel: msgpack arrays with a small integer tag.

A command changes the store and goes through the log; a query reads one replica. The shapes follow etcd's
`rpc.proto` (v3) field by field, so that a gRPC front end only has to copy; fields that come later are appended,
which older encodings read as their defaults. A field that a release does not know is refused, never skipped: how deep
a decoder can skip depends on the caller's stack, and replicas must agree.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Annotated

import msgspec

from quorate.machines.kv import refusals

KEY_BYTES_MAX = 64 * 1024
VALUE_BYTES_MAX = 3 * 512 * 1024  # 1.5 MiB, etcd's --max-request-bytes
COMMAND_BYTES_MAX = 16 * 1024 * 1024  # a transaction may hold several large values

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Target(enum.IntEnum):
    """What a compare looks at (etcd's `Compare.CompareTarget`)."""

    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4


class Relation(enum.IntEnum):
    """How it must stand to the given operand (etcd's `Compare.CompareResult`)."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


class KeyValue(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One version of a key. Also the stored record: a deleted key's has version 0 and no value."""

    key: bytes
    value: bytes = b""
    create_revision: Int64 = 0
    mod_revision: Int64 = 0
    version: Int64 = 0
    lease: Int64 = 0


class Range(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1, forbid_unknown_fields=True):
    """Read keys in order. `range_end`: empty = this key, b"\\0" = all keys >= key, else [key, range_end).

    `revision` <= 0 is the current one; `limit` <= 0 is no limit. `count` in the result ignores the limit.
    """

    key: bytes
    range_end: bytes = b""
    limit: Int64 = 0
    revision: Int64 = 0
    keys_only: bool = False
    count_only: bool = False


class Put(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2, forbid_unknown_fields=True):
    """Set a key."""

    key: bytes
    value: bytes
    lease: Int64 = 0
    prev_kv: bool = False


class DeleteRange(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3, forbid_unknown_fields=True):
    """Delete a key or a range of keys; `range_end` as in `Range`."""

    key: bytes
    range_end: bytes = b""
    prev_kv: bool = False


class Compare(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A condition on one key. A key that isn't there has zeros, and fails every compare of VALUE."""

    key: bytes
    target: Target
    relation: Relation
    operand: Int64 | bytes


class Txn(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4, forbid_unknown_fields=True):
    """If every compare holds then `success`, else `failure`; all of it is one revision."""

    compare: list[Compare]
    success: list[Range | Put | DeleteRange | Txn]
    failure: list[Range | Put | DeleteRange | Txn] = []


class Compact(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=5, forbid_unknown_fields=True):
    """Forget the history before `revision`."""

    revision: Int64


class Events(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=6, forbid_unknown_fields=True):
    """Read what changed from a revision on, in order. At least one revision, and never a part of one:

    the answer ends with the revision that reaches `limit` events (<= 0: no limit).
    """

    from_revision: Int64
    limit: Int64 = 0
    prev_kv: bool = False


class Digest(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=7, forbid_unknown_fields=True):
    """Ask for a hash of the whole state."""


Operation = Range | Put | DeleteRange | Txn
Command = Put | DeleteRange | Txn | Compact
Query = Range | Txn | Events | Digest


class Error(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=0):
    """The request was refused; nothing changed. `code` is gRPC's."""

    code: int
    message: str


class RangeResult(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    revision: int
    kvs: list[KeyValue]
    count: int
    more: bool


class PutResult(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    revision: int
    prev_kv: KeyValue | None = None


class DeleteRangeResult(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    revision: int
    deleted: int
    prev_kvs: list[KeyValue] = []


class TxnResult(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    revision: int
    succeeded: bool
    results: list[RangeResult | PutResult | DeleteRangeResult | TxnResult]


class CompactResult(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=5):
    revision: int


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A put, or a delete: then `kv` has the key, its `mod_revision` and nothing more."""

    kv: KeyValue
    prev_kv: KeyValue | None = None

    @property
    def is_delete(self) -> bool:
        return self.kv.version == 0


class EventsResult(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=6):
    """`next_revision` is where the next call goes on."""

    revision: int
    events: list[Event]
    next_revision: int


class DigestResult(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=7):
    revision: int
    compact_revision: int
    digest: bytes


Result = Error | RangeResult | PutResult | DeleteRangeResult | TxnResult | CompactResult | EventsResult | DigestResult

encode = msgspec.msgpack.Encoder().encode
_decode_command: Callable[[bytes], Command] = msgspec.msgpack.Decoder(Command).decode
_decode_query: Callable[[bytes], Query] = msgspec.msgpack.Decoder(Query).decode
_decode_result: Callable[[bytes], Result] = msgspec.msgpack.Decoder(Result).decode

# Deep nesting raises RecursionError at a depth that depends on the caller's stack. It is the same refusal as a
# depth the checks refuse, so replicas agree.
_UNDECODABLE = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)


def prefix_end(prefix: bytes) -> bytes:
    """The `range_end` that makes a range of all keys with a prefix, as etcd's clients compute it."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


def decode_command(data: bytes) -> Command:
    """Decode one command. Raises KvError for bytes that aren't one."""
    if len(data) > COMMAND_BYTES_MAX:
        raise refusals.too_large()
    try:
        return _decode_command(data)
    except _UNDECODABLE:
        raise refusals.malformed() from None


def decode_query(data: bytes) -> Query:
    """Decode one query. Raises KvError for bytes that aren't one."""
    if len(data) > COMMAND_BYTES_MAX:
        raise refusals.too_large()
    try:
        return _decode_query(data)
    except _UNDECODABLE:
        raise refusals.malformed() from None


def decode_result(data: bytes) -> Result:
    """Decode what `apply` or `query` returned. Raises msgspec.MsgspecError for anything else."""
    return _decode_result(data)
