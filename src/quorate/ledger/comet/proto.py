"""Proto3 on the wire, as far as CometBFT's formats need it: a type of message is a table of fields.

How it works. A ``MessageType`` names a Struct and, for each field, its number, its kind and whether it is always
written. ``encode`` gives the one encoding that CometBFT's own encoder (gogoproto) makes: fields by number, zeros left
out, except messages that are not nullable there, which are written even when they are empty. ``decode`` takes hostile
bytes. It raises ValueError, which names the field, for all that the table does not allow: a wire type that is not the
field's, a number out of range, text that is not UTF-8, more bytes or elements than the limit, a field that comes twice.
Fields that the table does not have are skipped, within the limits. What ``check`` of a table refuses is refused too.

A message type can only contain types that were made before it, so no input nests deeper than its table.

This is stricter than gogoproto, which lets the last one win if a field comes twice, cuts numbers to the size of the
field, and takes any bytes for text. ``decode_exact`` accepts the one encoding alone, for what is hashed as it came.

Source: the encoding guide of Protocol Buffers; the generated code of CometBFT 0.38.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from struct import Struct as Packing
from typing import Any, Final, Generic, TypeVar

import msgspec

from quorate.ledger.comet.wire_reader import FIXED64, LENGTH, VARINT, WireReader, delimited, uvarint

T = TypeVar("T")
E = TypeVar("E", bound=enum.IntEnum)

_SFIXED64: Final = Packing("<q")
_TWICE: Final = "is there twice"


class FieldKind(ABC):
    """How the value of a field is written and read, without its key."""

    wire: int
    zero: Any
    """The value that is left out."""

    @abstractmethod
    def write(self, value: Any) -> bytes: ...

    @abstractmethod
    def read(self, reader: WireReader) -> Any:
        """Raises ValueError."""


class IntKind(FieldKind):
    """int32, int64, uint32, uint64 and bool: a varint within a range; below zero by two's complement of 64 bits."""

    wire = VARINT

    def __init__(self, least: int, most: int) -> None:
        self.least = least
        self.most = most
        self.zero = 0

    def write(self, value: int) -> bytes:
        if not self.least <= value <= self.most:
            raise ValueError(f"{value} is not from {self.least} to {self.most}")
        return uvarint(value if value >= 0 else value + (1 << 64))

    def read(self, reader: WireReader) -> int:
        value = reader.varint()
        if self.least < 0 and value >> 63:
            value -= 1 << 64
        if not self.least <= value <= self.most:
            raise ValueError(f"{value} is not from {self.least} to {self.most}")
        return value


class BoolKind(IntKind):
    """A varint of 0 or 1."""

    def __init__(self) -> None:
        super().__init__(0, 1)
        self.zero = False

    def read(self, reader: WireReader) -> bool:
        return bool(super().read(reader))


class EnumKind(FieldKind, Generic[E]):
    """A number that has a name."""

    wire = VARINT

    def __init__(self, names: type[E]) -> None:
        self.names = names
        self.zero = names(0)

    def write(self, value: E) -> bytes:
        return uvarint(value)

    def read(self, reader: WireReader) -> E:
        return self.names(reader.varint())


class FixedKind(FieldKind):
    """sfixed64."""

    wire = FIXED64
    zero = 0

    def write(self, value: int) -> bytes:
        if not -(1 << 63) <= value < 1 << 63:
            raise ValueError(f"{value} does not fit 64 bits")
        return _SFIXED64.pack(value)

    def read(self, reader: WireReader) -> int:
        number: int = _SFIXED64.unpack(reader.take(8))[0]
        return number


class BytesKind(FieldKind):
    """Bytes, up to so many. ``is_hex``: JSON has them in hexadecimal, and not in base64."""

    wire = LENGTH
    zero = b""

    def __init__(self, bytes_max: int, *, is_hex: bool = False) -> None:
        self.bytes_max = bytes_max
        self.is_hex = is_hex

    def write(self, value: bytes) -> bytes:
        return uvarint(len(value)) + value

    def read(self, reader: WireReader) -> bytes:
        data, at = reader.data, reader.at
        size = data[at] if at < reader.end else 128
        if size < 128:  # most are short, and most of what is read is bytes: no call for them
            at += 1
        else:
            size = reader.varint()
            at = reader.at
        if size > self.bytes_max:
            raise ValueError(f"{size} bytes, at most {self.bytes_max}")
        stop = at + size
        if stop > reader.end:
            raise ValueError(f"ends {stop - reader.end} bytes before what it says")
        reader.at = stop
        return data[at:stop]


class RawKind(BytesKind):
    """A message that stays encoded, as bytes, until somebody decodes it."""

    def __init__(self, of: WireForm[Any]) -> None:
        super().__init__(of.bytes_max)
        self.of = of


class TextKind(FieldKind):
    """Text in UTF-8, up to so many bytes."""

    wire = LENGTH
    zero = ""

    def __init__(self, bytes_max: int) -> None:
        self.bytes = BytesKind(bytes_max)

    def write(self, value: str) -> bytes:
        return self.bytes.write(value.encode())

    def read(self, reader: WireReader) -> str:
        return self.bytes.read(reader).decode()  # raises UnicodeDecodeError, a ValueError


class MessageKind(FieldKind):
    """A message, of the type that a table or a choice describes."""

    wire = LENGTH
    zero = None

    def __init__(self, of: WireForm[Any]) -> None:
        self.of = of
        self._read = of.read

    def write(self, value: Any) -> bytes:
        return delimited(self.of.write(value))

    def read(self, reader: WireReader) -> Any:
        return reader.within(self._read)


INT32: Final = IntKind(-(1 << 31), (1 << 31) - 1)
INT64: Final = IntKind(-(1 << 63), (1 << 63) - 1)
UINT32: Final = IntKind(0, (1 << 32) - 1)
UINT64: Final = IntKind(0, (1 << 64) - 1)
BOOL: Final = BoolKind()
SFIXED64: Final = FixedKind()


class Field:
    """One field of a message. ``name`` is that of the Struct's attribute.

    ``always``: a message that is never None, so it is written even when it is empty (not nullable, in gogoproto); if it
    is missing, it is the default, which is checked. ``count_max``: it is repeated, up to so many times, and its
    attribute is a tuple.
    """

    __slots__ = ("always", "count_max", "key", "kind", "name", "number", "packed_key")

    def __init__(self, number: int, name: str, kind: FieldKind, *, always: bool = False, count_max: int = 0) -> None:
        self.number = number
        self.name = name
        self.kind = kind
        self.always = always
        self.count_max = count_max
        self.key = uvarint(number << 3 | kind.wire)
        self.packed_key = uvarint(number << 3 | LENGTH) if count_max and kind.wire != LENGTH else b""
        """Numbers that are repeated are written as one run of bytes. They are read one by one too."""

    def write(self, value: Any) -> bytes:
        """The field with its key; nothing, where it is left out."""
        kind = self.kind
        if self.packed_key:
            return self.packed_key + delimited(b"".join(map(kind.write, value))) if value else b""
        if self.count_max:
            key, write = self.key, kind.write
            return b"".join([key + write(item) for item in value])
        if value == kind.zero:
            return b""
        return self.key + kind.write(value)

    def read(self, reader: WireReader, wire: int, values: dict[str, Any]) -> None:
        """Read it into the values. Raises ValueError."""
        if wire != self.kind.wire and not (self.packed_key and wire == LENGTH):
            raise ValueError(f"wire type {wire}, not {self.kind.wire}")
        if not self.count_max:
            if self.name in values:
                raise ValueError(_TWICE)
            values[self.name] = self.kind.read(reader)
            return
        found: list[Any] = values.setdefault(self.name, [])
        if wire == self.kind.wire:
            found.append(self.kind.read(reader))
        else:
            reader.within(lambda run: self._read_packed(run, found))
        if len(found) > self.count_max:
            raise ValueError(f"more than {self.count_max} of them")

    def _read_packed(self, run: WireReader, found: list[Any]) -> None:
        while run.at < run.end and len(found) <= self.count_max:
            found.append(self.kind.read(run))


class WireForm(ABC, Generic[T]):
    """How a type of value is encoded."""

    bytes_max: int

    @abstractmethod
    def write(self, value: T) -> bytes:
        """Without a length before it."""

    @abstractmethod
    def read(self, reader: WireReader) -> T:
        """Raises ValueError."""

    def encode(self, value: T) -> bytes:
        """The one encoding of the value. Raises ValueError for a number that does not fit its field."""
        return self.write(value)

    def decode(self, data: bytes) -> T:
        """The value. Raises ValueError, which says what is wrong and in which field, and nothing else."""
        if len(data) > self.bytes_max:
            raise ValueError(f"{len(data)} bytes, at most {self.bytes_max}")
        return self.read(WireReader(data))

    def decode_exact(self, data: bytes) -> T:
        """The same, for bytes that are exactly what ``encode`` makes of the value. Raises ValueError for others."""
        value = self.decode(data)
        if self.write(value) != data:
            raise ValueError(f"not the one encoding of {type(value).__name__}")
        return value


class MessageType(WireForm[T]):
    """A type of message: its Struct and its fields, in the order of their numbers.

    ``check`` raises ValueError for a value whose fields are each in order but do not fit together.
    """

    def __init__(
        self, of: type[T], *fields: Field, bytes_max: int = 1 << 20, check: Callable[[T], None] | None = None
    ) -> None:
        names = msgspec.structs.fields(of)  # type: ignore[arg-type]  # T is a Struct
        assert [field.name for field in fields] == [info.name for info in names], f"{of.__name__}: its table"
        assert sorted(field.number for field in fields) == [field.number for field in fields], of.__name__
        self.of = of
        self.fields = fields
        self.bytes_max = bytes_max
        self.check = check
        self.by_number: Mapping[int, Field] = {field.number: field for field in fields}
        self._by_key = {
            field.key[0]: (field.name, field.kind.read, field.count_max) for field in fields if len(field.key) == 1
        }
        """By a first byte that is their whole key: number and wire type are right, as they nearly always are."""
        self._repeated = [field.name for field in fields if field.count_max]
        self._writers = [(field.name, () if field.count_max else field.kind.zero, field.write) for field in fields]
        """Most fields of most messages are left out, and that is found here."""
        self._defaults = [
            (field.name, field.kind.of.check)
            for field in fields
            if field.always and isinstance(field.kind, MessageKind) and isinstance(field.kind.of, MessageType)
        ]
        """What is not there is the default, which must be in order too."""

    def write(self, value: T) -> bytes:
        parts = []
        for name, zero, write in self._writers:
            its = getattr(value, name)
            if its != zero:
                parts.append(write(its))
        return b"".join(parts)

    def read(self, reader: WireReader) -> T:
        values: dict[str, Any] = {}
        data, by_key, end = reader.data, self._by_key, reader.end
        while reader.at < end:
            known = by_key.get(data[reader.at])
            if known is None:
                self._read_rare(reader, values)
                continue
            name, read, count_max = known
            reader.at += 1
            reader.spend()
            try:
                if not count_max:
                    if name in values:
                        raise ValueError(_TWICE)
                    values[name] = read(reader)
                elif name not in values:
                    values[name] = [read(reader)]
                else:
                    found = values[name]
                    found.append(read(reader))
                    if len(found) > count_max:
                        raise ValueError(f"more than {count_max} of them")
            except ValueError as error:
                raise ValueError(f"{self.of.__name__}.{name}: {error}") from None
        for name in self._repeated:
            values[name] = tuple(values.get(name, ()))
        return self.made(values)

    def _read_rare(self, reader: WireReader, values: dict[str, Any]) -> None:
        """A field with a long number, a packed one, one of another wire type, one that the table does not have."""
        number, wire = reader.key()
        field = self.by_number.get(number)
        if field is None:
            reader.skip(wire)
            return
        try:
            field.read(reader, wire, values)
        except ValueError as error:
            raise ValueError(f"{self.of.__name__}.{field.name}: {error}") from None

    def made(self, values: Mapping[str, Any]) -> T:
        """The value with these fields, checked. Raises ValueError."""
        try:
            value = self.of(**values)
        except TypeError as error:  # a field without a default is not there
            raise ValueError(f"{self.of.__name__}: {error}") from None
        for name, check in self._defaults:
            if check is not None and name not in values:
                check(getattr(value, name))
        if self.check is not None:
            self.check(value)
        return value


class ChoiceType(WireForm[T]):
    """A message that is one ``oneof`` of messages: the type of the value says which."""

    def __init__(self, name: str, options: Mapping[int, MessageType[Any]], *, bytes_max: int = 1 << 20) -> None:
        self.name = name
        self.options = options
        self.bytes_max = bytes_max
        self._keys = {option.of: uvarint(number << 3 | LENGTH) for number, option in options.items()}
        self._options = {option.of: option for option in options.values()}

    def write(self, value: T) -> bytes:
        of = type(value)
        return self._keys[of] + delimited(self._options[of].write(value))

    def read(self, reader: WireReader) -> T:
        found: T | None = None
        while reader.at < reader.end:
            number, wire = reader.key()
            if number not in self.options:
                reader.skip(wire)
                continue
            if wire != LENGTH:
                raise ValueError(f"{self.name}: wire type {wire}, not {LENGTH}")
            if found is not None:
                raise ValueError(f"{self.name}: more than one of its kinds")
            found = reader.within(self.options[number].read)
        if found is None:
            raise ValueError(f"{self.name}: none of the kinds that there are")
        return found
