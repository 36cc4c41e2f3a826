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

WHO_CHARACTERS_MAX = 256
AGE_S_MAX = 100 * 366 * 86_400

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


class Rollback(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=8, forbid_unknown_fields=True):
    """Bring the values of a range back as they were at a revision, as one new revision.

    ``who`` asks for it, by their own word; ``time_ns``: when, by the clock of the node that took the command.
    """

    to_revision: Int64
    key: bytes
    range_end: bytes
    who: Annotated[str, msgspec.Meta(max_length=WHO_CHARACTERS_MAX)] = ""
    time_ns: Int64 = 0


class PlanRollback(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=9, forbid_unknown_fields=True):
    """Ask what a rollback would change; ``limit``: how many of the keys are named."""

    to_revision: Int64
    key: bytes
    range_end: bytes
    limit: Int64 = 0


class KeepHistory(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=10, forbid_unknown_fields=True):
    """From now on keep so much history: so many revisions, and what is no older than so many seconds.

    What one of the two says is too old is forgotten; 0: that one says nothing.
    """

    revisions_max: Annotated[int, msgspec.Meta(ge=0, lt=2**62)] = 0
    age_s_max: Annotated[int, msgspec.Meta(ge=0, le=AGE_S_MAX)] = 0


class AskHistory(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=11, forbid_unknown_fields=True):
    """Ask how far the history goes, which revision there was at a time (0: now), and of the newest rollbacks."""

    time_ns: Int64 = 0


Operation = Range | Put | DeleteRange | Txn
Command = Put | DeleteRange | Txn | Compact | Rollback | KeepHistory
Query = Range | Txn | Events | Digest | PlanRollback | AskHistory


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


class RollbackResult(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=8):
    """So many keys were put and deleted. ``before``: the revision until then, which is ``revision`` if none was."""

    revision: int
    before: int
    to_revision: int
    puts: int
    deletes: int
    digest: bytes


class KeyChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A key that a rollback deletes, or puts."""

    key: bytes
    is_delete: bool


class RollbackPlan(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=9):
    """What a rollback would change if it were the next command after ``revision``; the first of its keys."""

    revision: int
    to_revision: int
    puts: int
    deletes: int
    digest: bytes
    keys: list[KeyChange]


class TimeMark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The log said what time it was, and the store was at this revision."""

    revision: Int64
    time_ns: Int64


class RolledBack(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A rollback that took place."""

    revision: Int64
    to_revision: Int64
    key: bytes
    range_end: bytes
    who: Annotated[str, msgspec.Meta(max_length=WHO_CHARACTERS_MAX)]
    time_ns: Int64
    puts: Int64
    deletes: Int64


class HistoryResult(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=10):
    """The history goes from ``compact_revision`` (below 1: from the beginning) to ``revision``.

    ``at``: the newest revision that is known to have been there at the time asked for, and since when; None: none is.
    """

    revision: int
    compact_revision: int
    revisions_max: int
    age_s_max: int
    at: TimeMark | None
    rollbacks: list[RolledBack]


Result = (
    Error
    | RangeResult
    | PutResult
    | DeleteRangeResult
    | TxnResult
    | CompactResult
    | EventsResult
    | DigestResult
    | RollbackResult
    | RollbackPlan
    | HistoryResult
)

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


def range_of(prefix: bytes) -> tuple[bytes, bytes]:
    """The range of all keys with a prefix; of all keys for none."""
    return prefix or b"\0", prefix_end(prefix)


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
