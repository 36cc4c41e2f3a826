"""Codec: a protocol's messages and records as bytes, and back with every type checked.

How it works. The types that a core and its children name, at any depth, become one tagged union; msgspec builds a
decoder of it once. Limits on lengths and ranges stand in the types (``msgspec.Meta``) and are checked while decoding,
so nothing unchecked ever exists as an object. A message is msgpack of ``[path, message]``; a journal frame, the atomic
records of one Turn, is msgpack of ``[[path, record], ...]``.

Recovery by inputs (``Stepped``) needs one thing more: the kernel declares the message of a ``Received``, the result of
a ``Done`` and the value of a ``Handed`` as Any. The inputs therefore have twins whose fields have the real types; a
frame is decoded into twins, which are then turned into what the Host knows. What no twin could be decoded from is
refused before it is written: a journal that cannot be read is a node lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from typing import Any, cast

import msgspec

from quorate.kernel import (
    Asked,
    Began,
    Core,
    Done,
    Failed,
    Fired,
    Handed,
    HandOver,
    HungUp,
    Known,
    Met,
    Misbehaved,
    Parted,
    Path,
    Received,
    Record,
    Settled,
    Spawned,
    Stalled,
    Started,
    Stepped,
    Submitted,
    Unmet,
)
from quorate.parts.crypto.keys import Verified
from quorate.parts.log.replicated import Chunk, Piece, SnapshotInfo, Written

RESULTS: tuple[type, ...] = (SnapshotInfo, Chunk, Piece, Written, Verified)
"""What the jobs that every node does end in (besides Failed and plain values)."""
WHY_CHARACTERS_MAX = 400
"""Of an error's text: it may hold what a peer sent, and goes into logs."""

_PLAIN: tuple[Any, ...] = (bool, int, float, bytes, type(None))
_TUPLE: Any = tuple  # of types made at run time, which mypy takes in no subscript
_LIST: Any = list
_DECODING_ERRORS = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError, MemoryError)


class MalformedMessage(ValueError):
    """Bytes that are no message (or no journal frame) of this protocol. The text says where and what."""


class _Nothing(msgspec.Struct, frozen=True, array_like=True, tag="-"):
    """Stands in for the union of no types; nobody sends it, and a Host has no handler for it."""


class Codec:
    """Bytes to and from the messages and records of one core class and its children.

    ``results`` are the Struct types of job results, needed for recovery by inputs alone; cores name their own.
    Raises TypeError where two types share a name (names are the tags on the wire) or lack a tag.
    """

    def __init__(self, core: type[Core], results: Sequence[type] = RESULTS) -> None:
        family = _family(core)
        self.messages = _distinct(core, (message for member in family for message in member.messages))
        self.records = _distinct(core, (record for member in family for record in member.records))
        message = _union(self.messages or (_Nothing,))
        own = _distinct(core, (result for member in family for result in (*results, *member.results)))
        handed = _distinct(core, (each for member in family for each in member.handed))
        self._results = frozenset((Failed, *own, *_PLAIN))
        self._handed = frozenset((*handed, *_PLAIN))
        self._inputs = {
            _twin(Received, message=message): Received,
            _twin(Submitted): Submitted,
            _twin(Asked): Asked,
            _twin(Fired): Fired,
            _twin(Done, result=_union((Failed, *own, *_PLAIN))): Done,
            _twin(Handed, value=_union((*handed, *_PLAIN))): Handed,
            **{
                _twin(kind): kind
                for kind in (HandOver, HungUp, Stalled, Met, Parted, Unmet, Misbehaved, Started, Settled, Known)
            },
        }
        self._stepped = stepped = _twin(Stepped, inputs=_TUPLE[_union(self._inputs), ...])
        record = _union((*self.records, stepped, Spawned, Began))
        self._encode = msgspec.msgpack.Encoder().encode
        try:
            self._decode_message = msgspec.msgpack.Decoder(_TUPLE[Path, message]).decode
            self._decode_records = msgspec.msgpack.Decoder(_LIST[_TUPLE[Path, record]]).decode
        except (TypeError, ValueError) as error:
            raise TypeError(f"{core.__name__}'s messages and records make no codec: {error}") from error

    def encode_message(self, path: Path, message: Any) -> bytes:
        """One message for the core at ``path``."""
        return self._encode((path, message))

    def decode_message(self, data: bytes | memoryview) -> tuple[Path, Any]:
        """The path and the message. Raises MalformedMessage, and nothing else, whatever the bytes."""
        try:
            return cast("tuple[Path, Any]", self._decode_message(data))
        except _DECODING_ERRORS as error:
            raise MalformedMessage(f"no message: {_text_of(error)}") from error

    def encode_records(self, records: Sequence[Record]) -> bytes:
        """One journal frame: the records of one Turn, in order.

        Raises TypeError for the result of a job, or a value handed down, of a type that no core has named.
        """
        for record in records:
            if type(record.value) is Stepped:
                self._check(record.value)
        return self._encode(records)

    def decode_records(self, frame: bytes | memoryview) -> list[Record]:
        """The records of one journal frame, in order. Raises MalformedMessage, and nothing else."""
        try:
            pairs = self._decode_records(frame)
        except _DECODING_ERRORS as error:
            raise MalformedMessage(f"no journal frame: {_text_of(error)}") from error
        twin = self._stepped
        return [Record(path, self._stepped_of(value) if type(value) is twin else value) for path, value in pairs]

    def _check(self, stepped: Stepped) -> None:
        for item in stepped.inputs:
            if type(item) is Done and type(item.result) not in self._results:
                raise TypeError(f"{item.key} ended in a {type(item.result).__name__}: name it in the core's results")
            if type(item) is Handed and type(item.value) not in self._handed:
                raise TypeError(f"{item.path} was handed a {type(item.value).__name__}: name it in the core's handed")

    def _stepped_of(self, twin: Any) -> Stepped:
        inputs = (self._inputs[type(item)](*msgspec.structs.astuple(item)) for item in twin.inputs)
        return Stepped(twin.now, tuple(inputs), twin.start, twin.wall_ns, twin.seed)


def _text_of(error: BaseException) -> str:
    text = str(error)
    return text if len(text) <= WHY_CHARACTERS_MAX else f"{text[:WHY_CHARACTERS_MAX]}..."


def _family(core: type[Core]) -> list[type[Core]]:
    """The class and all that it may spawn, directly or not, each once."""
    family = [core]
    for member in family:  # grows while it is walked
        family.extend(child for child in member.children if child not in family)
    return family


def _distinct(core: type[Core], types: Iterable[type]) -> tuple[type, ...]:
    """The types, each once, in order. A parent and a child may share a type, but not a name."""
    named: dict[str, type] = {}
    for each in types:
        if named.setdefault(each.__name__, each) is not each:
            raise TypeError(
                f"{core.__name__} and its children have two types {each.__name__}; rename one: names are tags"
            )
    return tuple(named.values())


def _union(types: Iterable[Any]) -> Any:
    return reduce(or_, types)


def _twin(struct: type[msgspec.Struct], **types: Any) -> Any:
    """A Struct with the same bytes as ``struct``, in which the named fields have these types."""
    fields = [
        (field.name, types.get(field.name, field.type), *([] if field.required else [field.default]))
        for field in msgspec.structs.fields(struct)
    ]
    tag = struct.__name__
    return msgspec.defstruct(tag, fields, tag=tag, frozen=True, array_like=True, gc=False)
