"""The bytes of Protocol Buffers: numbers to the base 128, and a reader of hostile ones.

Source: the encoding guide of Protocol Buffers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5
"""Wire types. Three and four are groups, which proto3 does not have."""

FIELDS_MAX: Final = 1 << 21
"""Fields in one message and all that it contains, skipped ones too: what decoding may cost."""
FIELD_NUMBER_MAX: Final = (1 << 29) - 1
_VARINT_BYTES_MAX: Final = 10
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
    """The rest of a message, ``data[at:end]``, of all that it contains too: within a field the end is the field's."""

    __slots__ = ("at", "budget", "data", "end")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.end = len(data)
        self.budget = FIELDS_MAX
        """How many fields more."""

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
        stop = at + size
        if stop > self.end:
            raise ValueError(f"ends {stop - self.end} bytes before what it says")
        self.at = stop
        return self.data[at:stop]

    def within(self, read: Callable[[WireReader], T]) -> T:
        """What ``read``, which goes to the end, makes of the delimited bytes that come next."""
        size = self.varint()
        outer = self.end
        end = self.at + size
        if end > outer:
            raise ValueError(f"ends {end - outer} bytes before what it says")
        self.end = end
        value = read(self)
        self.end = outer
        return value

    def key(self) -> tuple[int, int]:
        """The number and the wire type of the next field."""
        self.spend()
        key = self.varint()
        number = key >> 3
        if not 0 < number <= FIELD_NUMBER_MAX:
            raise ValueError(f"field number {number}")
        return number, key & 7

    def spend(self) -> None:
        """Take a field off the budget."""
        self.budget -= 1
        if self.budget < 0:
            raise ValueError(f"more than {FIELDS_MAX} fields")

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
