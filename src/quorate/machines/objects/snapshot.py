"""Snapshots of a state: records of msgpack, each after its length in four bytes.

The first record is ``[FORMAT, version of the class]``. Then come pieces of containers, ``[number, kind, items]``, with
at most PIECE_ITEMS_MAX items each, so that nothing holds up other threads for long; keys and values of dicts alternate.
A container within another stands in it as a reference to its number, and all its pieces have come before: no depth of
the state needs a deep stack. The last record, ``[ROOT, attributes, digests]``, is the instance. Each container is
referred to once. Objects are in their images, other values as `values` packs them.

Written in another thread than the one that applies commands; `capture` says how that is right.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import msgspec

from quorate.machines.objects.capture import Capture
from quorate.machines.objects.containers import TrackedDict, TrackedList, TrackedSet
from quorate.machines.objects.kinds import Kinds
from quorate.machines.objects.tracker import DICTS, LISTS, TRACKED, Attributes, Tracker
from quorate.machines.objects.values import Packer, encode
from quorate.machines.streams import read_exactly

FORMAT: Final = 1
ROOT: Final = -1
PIECE_ITEMS_MAX: Final = 512
WRITE_BYTES: Final = 1 << 16
RECORD_BYTES_MAX: Final = 1 << 28
REFERENCE: Final = 0
"""Code of the extension that refers to a container; no value is written so."""
DICT, LIST, SET = range(3)
END: Final = object()
_LENGTH = struct.Struct("<I")
_NUMBER = struct.Struct("<Q")
_AS_IT_IS = frozenset({type(None), bool, float, bytes})
_Ext = msgspec.msgpack.Ext
_decode = msgspec.msgpack.Decoder().decode


class _Frame:
    """A container that is being written: what is left of it, and the items of its next piece."""

    __slots__ = ("items", "kind", "number", "parts")

    def __init__(self, number: int, kind: int, parts: Iterator[Any]) -> None:
        self.number = number
        self.kind = kind
        self.parts = parts
        self.items: list[Any] = []


class StateWriter:
    """Writes a capture."""

    def __init__(self, capture: Capture, kinds: Kinds) -> None:
        self._capture = capture
        self._packer = Packer(kinds, is_strict=True)
        self._next = 0

    def write(self, file: BinaryIO, version: int, digests: dict[str, bytes]) -> None:
        """Write all records. Raises OSError."""
        waiting: list[bytes] = []
        size = 0
        try:
            for record in self.records(version, digests):
                waiting += (_LENGTH.pack(len(record)), record)
                size += len(record)
                if size >= WRITE_BYTES:
                    file.write(b"".join(waiting))
                    waiting, size = [], 0
            file.write(b"".join(waiting))
        finally:
            self._capture.is_done = True

    def records(self, version: int, digests: dict[str, bytes]) -> Iterator[bytes]:
        """The records, made one by one: between any two, and two reads, the state may change."""
        yield encode([FORMAT, version])
        root = _Frame(ROOT, DICT, itertools.chain.from_iterable(sorted(self._capture.attributes.items())))
        stack = [root]
        while stack:
            frame = stack[-1]
            child = self._advance(frame)
            if child is not None:
                stack.append(child)
            elif frame is root:
                yield encode([ROOT, dict(zip(root.items[::2], root.items[1::2], strict=True)), digests])
                return
            elif len(frame.items) >= PIECE_ITEMS_MAX:
                yield encode([frame.number, frame.kind, frame.items])
                frame.items = []
            else:
                yield encode([frame.number, frame.kind, frame.items])
                stack.pop()

    def _advance(self, frame: _Frame) -> _Frame | None:
        """Go on until a container is met, which is to be written first, or the piece is full or the last."""
        items, parts = frame.items, frame.parts
        # A piece is not split between a key and its value. The attributes are one record.
        while frame.number == ROOT or len(items) < PIECE_ITEMS_MAX or len(items) % 2:
            value = next(parts, END)
            if value is END:
                return None
            if type(value) in _AS_IT_IS:
                items.append(value)
            elif type(value) in TRACKED:
                child = self._frame_of(value)
                items.append(_Ext(REFERENCE, _NUMBER.pack(child.number)))
                return child
            else:
                hold = self._capture.hold_of(value)
                items.append(self._packer.pack(value) if hold is None else msgspec.Raw(self._capture.read(hold)))
        return None

    def _frame_of(self, node: Any) -> _Frame:
        self._next += 1
        content = self._capture.read(node)
        if type(node) in DICTS:
            return _Frame(self._next, DICT, itertools.chain.from_iterable(content.items()))
        return _Frame(self._next, LIST if type(node) in LISTS else SET, iter(content))


class StateReader:
    """Reads a snapshot into the attributes of a tracker that is in a command."""

    def __init__(self, file: BinaryIO, tracker: Tracker) -> None:
        self._file = file
        self._tracker = tracker
        self._loose: dict[int, Any] = {}

    def read(self, root: Attributes) -> dict[str, bytes]:
        """Set the attributes; return their digests, as written. Raises ValueError, TypeError."""
        head = self._record()
        if len(head) != 2 or head[0] != FORMAT:
            raise ValueError(f"the snapshot is of format {head[:1]}, and {FORMAT} is read: it is of another release")
        while True:
            record = self._record()
            if len(record) != 3 or type(record[0]) is not int:
                raise ValueError("the snapshot has a record that is none")
            number, kind, items = record
            if number == ROOT:
                break
            if type(items) is not list:
                raise ValueError("the snapshot has a piece without items")
            self._add(number, kind, items)
        attributes, digests = kind, items
        if type(attributes) is not dict or type(digests) is not dict or self._file.read(1):
            raise ValueError("the snapshot does not end with its attributes")
        for name, value in attributes.items():
            if type(name) is not str:
                raise ValueError("the snapshot has an attribute without a name")
            old = root.values.get(name)
            self._tracker.release(old)
            root.values[name] = self._value(value, root, name)
        if self._loose or digests.keys() != attributes.keys():
            raise ValueError("the snapshot has containers or digests that belong to nothing")
        return digests

    def _record(self) -> list[Any]:
        (size,) = _LENGTH.unpack(read_exactly(self._file, _LENGTH.size))
        if size > RECORD_BYTES_MAX:
            raise ValueError(f"a record of {size} bytes is above the limit of {RECORD_BYTES_MAX}")
        try:
            record = _decode(read_exactly(self._file, size))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"the snapshot is corrupt: {error}") from None
        if type(record) is not list:
            raise ValueError("the snapshot has a record that is none")
        return record

    def _add(self, number: int, kind: Any, items: list[Any]) -> None:
        made: Any = self._loose.get(number)
        if made is None:
            made = (TrackedDict if kind == DICT else TrackedList if kind == LIST else TrackedSet)()
            self._tracker.new(made, None, None)
            self._loose[number] = made
        if type(made) in DICTS:
            for key, value in zip(items[::2], items[1::2], strict=True):
                key = self._key(key)
                made.fill(key, self._value(value, made, key))
        elif type(made) in LISTS:
            for value in items:
                slot = len(made)
                list.append(made, self._value(value, made, slot))
        else:
            for element in items:
                made.fill(self._key(element))

    def _key(self, value: Any) -> Any:
        if type(value) is not str:
            value = self._tracker.unpacker.unpack(value)
            self._tracker.check_key(value)
        return value

    def _value(self, value: Any, owner: Any, slot: Any) -> Any:
        if type(value) in _AS_IT_IS and value == value:
            return value
        if type(value) is _Ext and value.code == REFERENCE:
            data = bytes(value.data)
            number = _NUMBER.unpack(data)[0] if len(data) == _NUMBER.size else ROOT
            node = self._loose.pop(number, None)
            if node is None:
                raise ValueError("the snapshot refers to a container that is not there, or twice")
            node.owner, node.slot = owner, slot
            return node
        if type(value) in (list, dict):
            raise ValueError("the snapshot has a container in another's place")
        value = self._tracker.unpacker.unpack(value)
        self._tracker.load_hold(value, owner, slot)
        return value
