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

T = TypeVar("T")
E = TypeVar("E", bound=enum.IntEnum)

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5
"""Wire types. Three and four are groups, which proto3 does not have."""

FIELDS_MAX: Final = 1 << 21
"""Fields in one message and all that it contains, skipped ones too: what decoding may cost."""
FIELD_NUMBER_MAX: Final = (1 << 29) - 1
_VARINT_BYTES_MAX: Final = 10
_SFIXED64: Final = Packing("<q")
_SMALL: Final = tuple(bytes([n]) for n in range(128))


def uvarint(number: int) -> bytes:
    """The base-128 encoding of a number from 0 to 2**64 - 1, the lowest seven bits first."""
    if number < 128:
        return _SMALL[number]
    if number < 1 << 14:
        return bytes((number & 127 | 128, number >> 7))
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)


def uvarint_bytes(number: int) -> int:
    """How long that is."""
    return (max(number, 1).bit_length() + 6) // 7


def delimited(data: bytes) -> bytes:
    """The bytes with their length before them."""
    return uvarint(len(data)) + data


class WireReader:
    """The rest of one message: ``data[at:end]``. What is nested shares the budget of fields."""

    __slots__ = ("at", "budget", "data", "end")

    def __init__(self, data: bytes, at: int, end: int, budget: list[int]) -> None:
        self.data = data
        self.at = at
        self.end = end
        self.budget = budget
        """How many fields more, in its one element."""

    def varint(self) -> int:
        """A number below 2**64."""
        data, at, end = self.data, self.at, self.end
        if at < end and data[at] < 128:  # the most frequent case by far
            self.at = at + 1
            return data[at]
        number = shift = 0
        for i in range(at, min(end, at + _VARINT_BYTES_MAX)):
            byte = data[i]
            number |= (byte & 127) << shift
            if byte < 128:
                if number >> 64:
                    raise ValueError("a varint of more than 64 bits")
                self.at = i + 1
                return number
            shift += 7
        if end - at >= _VARINT_BYTES_MAX:
            raise ValueError(f"a varint of more than {_VARINT_BYTES_MAX} bytes")
        raise ValueError("ends within a varint")

    def take(self, size: int) -> bytes:
        """So many bytes."""
        at = self.at
        if size > self.end - at:
            raise ValueError(f"ends {size - (self.end - at)} bytes before what it says")
        self.at = at + size
        return self.data[at : at + size]

    def nested(self) -> WireReader:
        """A reader of the delimited bytes that come next, which this one leaves behind."""
        size = self.varint()
        start = self.at
        if size > self.end - start:
            raise ValueError(f"ends {size - (self.end - start)} bytes before what it says")
        self.at = start + size
        return WireReader(self.data, start, self.at, self.budget)

    def key(self) -> tuple[int, int]:
        """The number and the wire type of the next field."""
        if not self.budget[0]:
            raise ValueError(f"more than {FIELDS_MAX} fields")
        self.budget[0] -= 1
        key = self.varint()
        number = key >> 3
        if not 0 < number <= FIELD_NUMBER_MAX:
            raise ValueError(f"field number {number}")
        return number, key & 7

    def skip(self, wire: int) -> None:
        """Leave out a field that no table has."""
        if wire == VARINT:
            self.varint()
        elif wire == LENGTH:
            self.take(self.varint())
        elif wire in (FIXED64, FIXED32):
            self.take(8 if wire == FIXED64 else 4)
        else:
            raise ValueError(f"wire type {wire}, which proto3 does not have")


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
        size = reader.varint()
        if size > self.bytes_max:
            raise ValueError(f"{size} bytes, at most {self.bytes_max}")
        return reader.take(size)


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

    def write(self, value: Any) -> bytes:
        return delimited(self.of.write(value))

    def read(self, reader: WireReader) -> Any:
        return self.of.read(reader.nested())


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
                raise ValueError("is there twice")
            values[self.name] = self.kind.read(reader)
            return
        found: list[Any] = values.setdefault(self.name, [])
        if wire == self.kind.wire:
            found.append(self.kind.read(reader))
        else:
            run = reader.nested()
            while run.at < run.end and len(found) <= self.count_max:
                found.append(self.kind.read(run))
        if len(found) > self.count_max:
            raise ValueError(f"more than {self.count_max} of them")


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
        return self.read(WireReader(data, 0, len(data), [FIELDS_MAX]))

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
        by_number = self.by_number
        while reader.at < reader.end:
            number, wire = reader.key()
            field = by_number.get(number)
            if field is None:
                reader.skip(wire)
                continue
            try:
                field.read(reader, wire, values)
            except ValueError as error:
                raise ValueError(f"{self.of.__name__}.{field.name}: {error}") from None
        for name in self._repeated:
            values[name] = tuple(values.get(name, ()))
        return self.made(values)

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
            found = self.options[number].read(reader.nested())
        if found is None:
            raise ValueError(f"{self.name}: none of the kinds that there are")
        return found
