"""Which values travel in calls, results and snapshots, with their exact types, and how.

Values are msgpack. What msgpack has is itself: None, bool, int of 64 bits, float, str, bytes, list, and dict with such
keys. The rest is an extension with nested msgpack. Every value has one encoding: equal values of equal types give equal
bytes on every node, so sets are sorted by their encoded elements. Types are exact: a subclass of list, dict, set, str
or int that is not a known class is refused, as it would come back as something else.

Nesting is limited to ``DEPTH_MAX`` levels, far below what any stack has left, and counted here: deeper than that, one
node's decoder gives up where another's does not. Bytes that are no value raise ValueError and nothing else.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import uuid
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from quorate.machines.objects.kinds import Kinds, Shape
from quorate.machines.objects.ordered_set import OrderedSet

DEPTH_MAX = 64
TOO_DEEP = f"values are nested more than {DEPTH_MAX} deep"
BIG_INT, TUPLE, SET, FROZENSET, DATETIME, DATE, TIME, TIMEDELTA, DECIMAL, UUID, INSTANCE, PAIRS = range(1, 13)
"""Codes of extensions. A code is never used again for something else."""

Ext = msgspec.msgpack.Ext
encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode

NoneType = type(None)
SCALARS = frozenset({NoneType, bool, int, float, str, bytes})
"""What msgspec encodes and decodes as it is, but for integers beyond 64 bits."""
KEYS = frozenset({NoneType, bool, int, float, str, bytes})
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
INSTEAD: dict[type, str] = {
    collections.defaultdict: "use a dict and setdefault",
    collections.OrderedDict: "use a dict, which keeps the order of insertion",
    collections.Counter: "use a dict and get(key, 0)",
    collections.deque: "use a list: append and pop(0) are quick in state",
    bytearray: "use bytes",
    memoryview: "use bytes",
    range: "use list(range(...))",
    complex: "use a tuple of two floats",
}


def cannot_travel(value: Any) -> TypeError:
    """The error for a value of a type that is not known; it says what to use."""
    kind = type(value)
    for refused, words in INSTEAD.items():
        if isinstance(value, refused):
            return TypeError(f"a {kind.__name__} would not come back as it is: {words}")
    for base in (list, dict, set, frozenset, str, int, float, bytes, tuple):
        if isinstance(value, base):
            return TypeError(f"a {kind.__name__} would come back as {base.__name__}: use {base.__name__} itself")
    return TypeError(
        f"a value of type {kind.__name__} cannot be stored or sent: use plain values, a dataclass of this module, "
        f"or register_type({kind.__name__}, ...)"
    )


def check_text(text: str) -> None:
    """Raises TypeError for a str that is not Unicode text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TypeError(f"the text {text[:40]!r} has lone surrogates, which UTF-8 cannot carry: use bytes") from None


class Packer:
    """Turns values into what msgspec encodes. ``is_strict``: as state, where a NaN is refused."""

    def __init__(self, kinds: Kinds, *, is_strict: bool = False) -> None:
        self._kinds = kinds
        self._is_strict = is_strict
        self._inner: list[Any] | None = None

    def dumps(self, value: Any) -> bytes:
        """The one encoding of a value. Raises TypeError for what does not travel."""
        return encode(self.pack(value))

    def dumps_noting(self, value: Any, inner: list[Any]) -> bytes:
        """As `dumps`; containers and instances within the value that may change are added to ``inner``."""
        self._inner = inner
        try:
            return encode(self.pack(value))
        finally:
            self._inner = None

    def pack(self, value: Any, levels: int = DEPTH_MAX) -> Any:
        """What msgspec encodes for the value. Raises TypeError, also for more than ``levels`` levels."""
        pack = _PACK.get(type(value))
        if pack is not None:
            return pack(self, value, levels)
        shape = self._kinds.of(type(value))
        if shape is None:
            return self._pack_other(value, levels)
        return self._pack_instance(shape, value, levels)

    def _pack_other(self, value: Any, levels: int) -> Any:
        # Subclasses that are ours: what they hold is plain.
        for base in (list, dict, OrderedSet):
            if isinstance(value, base) and type(value).__module__.startswith("quorate."):
                if self._inner is not None:
                    raise TypeError(f"part of the state is put into an instance too: put a copy, {base.__name__}(...)")
                return _PACK[base](self, value, levels)
        raise cannot_travel(value)

    def _pack_instance(self, shape: Shape, value: Any, levels: int) -> Any:
        if self._inner is not None and not shape.is_frozen:
            self._inner.append(value)
        content = shape.take(value)
        _count(levels)
        if type(content) is dict:  # fields: names are text, and the dict is not the owner's
            packed: Any = {name: self.pack(part, levels - 1) for name, part in content.items()}
        else:
            packed = self.pack(content, levels - 1)
        return Ext(INSTANCE, encode([shape.name, packed]))

    def scalar(self, value: Any, _: int) -> Any:
        """None, a bool or bytes."""
        return value

    def integer(self, value: int, _: int) -> Any:
        """An int of any size."""
        if _INT_MIN <= value <= _INT_MAX:
            return value
        return Ext(BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))

    def floating(self, value: float, _: int) -> Any:
        """A float."""
        if value != value and self._is_strict:
            raise TypeError("NaN cannot be state: it is not equal to itself. Use None")
        return value

    def text(self, value: str, _: int) -> Any:
        """A str that is Unicode text."""
        if not value.isascii():
            check_text(value)
        return value

    def sequence(self, value: list[Any], levels: int) -> Any:
        """A list."""
        _count(levels)
        if self._inner is not None:
            self._inner.append(value)
        return [self.pack(part, levels - 1) for part in value]

    def mapping(self, value: dict[Any, Any], levels: int) -> Any:
        """A dict, in its order."""
        _count(levels)
        if self._inner is not None:
            self._inner.append(value)
        if KEYS.issuperset(map(type, value)) and all(_is_plain_key(key) for key in value):
            return {self.pack(key, 0): self.pack(part, levels - 1) for key, part in value.items()}
        flat = [self.pack(part, levels - 1) for item in value.items() for part in item]
        return Ext(PAIRS, encode(flat))

    def elements(self, value: Iterable[Any], levels: int) -> Any:
        """A set, sorted by the encodings of its elements."""
        if self._inner is not None:
            self._inner.append(value)
        return Ext(SET, self._sorted(value, levels))

    def frozen_elements(self, value: Iterable[Any], levels: int) -> Any:
        """A frozenset, in the same way."""
        return Ext(FROZENSET, self._sorted(value, levels))

    def _sorted(self, value: Iterable[Any], levels: int) -> bytes:
        _count(levels)
        return encode([msgspec.Raw(part) for part in sorted(encode(self.pack(part, levels - 1)) for part in value)])

    def pair(self, value: tuple[Any, ...], levels: int) -> Any:
        """A tuple."""
        _count(levels)
        return Ext(TUPLE, encode([self.pack(part, levels - 1) for part in value]))

    def datetime(self, value: dt.datetime, _: int) -> Any:
        """A datetime: naive, of a fixed offset, or of a zone with a name."""
        day = [value.year, value.month, value.day]
        return Ext(DATETIME, encode([*day, *_clock(value), _pack_zone(value.tzinfo)]))

    def date(self, value: dt.date, _: int) -> Any:
        """A date."""
        return Ext(DATE, encode([value.year, value.month, value.day]))

    def time(self, value: dt.time, _: int) -> Any:
        """A time of day."""
        return Ext(TIME, encode([*_clock(value), _pack_zone(value.tzinfo)]))

    def timedelta(self, value: dt.timedelta, _: int) -> Any:
        """A timedelta."""
        return Ext(TIMEDELTA, encode([value.days, value.seconds, value.microseconds]))

    def decimal(self, value: decimal.Decimal, _: int) -> Any:
        """A Decimal with its exponent."""
        if value.is_nan() and self._is_strict:
            raise TypeError("NaN cannot be state: it is not equal to itself. Use None")
        return Ext(DECIMAL, str(value).encode())

    def uuid(self, value: uuid.UUID, _: int) -> Any:
        """A UUID."""
        return Ext(UUID, value.bytes)


_PACK: dict[type, Callable[[Packer, Any, int], Any]] = {
    NoneType: Packer.scalar,
    bool: Packer.scalar,
    int: Packer.integer,
    float: Packer.floating,
    str: Packer.text,
    bytes: Packer.scalar,
    list: Packer.sequence,
    dict: Packer.mapping,
    set: Packer.elements,
    OrderedSet: Packer.elements,
    frozenset: Packer.frozen_elements,
    tuple: Packer.pair,
    dt.datetime: Packer.datetime,
    dt.date: Packer.date,
    dt.time: Packer.time,
    dt.timedelta: Packer.timedelta,
    decimal.Decimal: Packer.decimal,
    uuid.UUID: Packer.uuid,
}


def _count(levels: int) -> None:
    if levels <= 0:
        raise TypeError(TOO_DEEP)


def _is_plain_key(key: Any) -> bool:
    return type(key) is not int or _INT_MIN <= key <= _INT_MAX


def _clock(value: dt.datetime | dt.time) -> list[int]:
    return [value.hour, value.minute, value.second, value.microsecond, value.fold]


def _pack_zone(zone: dt.tzinfo | None) -> Any:
    if zone is None:
        return None
    if type(zone) is dt.timezone:
        given: Any = zone
        offset, *name = given.__getinitargs__()
        return [offset.days, offset.seconds, offset.microseconds, *(name or [None])]
    if type(zone) is zoneinfo.ZoneInfo and zone.key is not None:
        return zone.key
    raise TypeError(f"a time zone of type {type(zone).__name__} does not travel: use timezone or ZoneInfo(name)")


class Unpacker:
    """Turns what msgspec decoded into values. ``sets`` is the class of those that come back."""

    def __init__(self, kinds: Kinds, *, sets: type[set[Any]] = set) -> None:
        self._kinds = kinds
        self._sets = sets

    def loads(self, data: bytes | memoryview) -> Any:
        """The value of one encoding. Raises ValueError."""
        return self.unpack(_loads(data))

    def unpack(self, value: Any, levels: int = DEPTH_MAX) -> Any:
        """The value of what msgspec decoded. Raises ValueError, also for more than ``levels`` levels."""
        kind = type(value)
        if kind in SCALARS:
            return value
        if levels <= 0:
            raise ValueError(TOO_DEEP)
        if kind is list:
            return [self.unpack(part, levels - 1) for part in value]
        if kind is dict:
            if not KEYS.issuperset(map(type, value)):
                raise ValueError("a map has keys that are no scalars")
            return {key: self.unpack(part, levels - 1) for key, part in value.items()}
        if kind is not Ext:
            raise ValueError(f"{kind.__name__} is not written as an extension of msgpack")
        reader = _UNPACK.get(value.code)
        if reader is None:
            raise ValueError(f"extension {value.code} is not known")
        try:
            return reader(self, value.data, levels)
        except (TypeError, OverflowError, ArithmeticError, LookupError, UnicodeError, OSError) as error:
            raise ValueError(f"extension {value.code} is malformed: {error}") from None

    def _parts(self, data: bytes, levels: int) -> list[Any]:
        parts = _loads(data)
        if type(parts) is not list:
            raise ValueError("an extension holds a list")
        return [self.unpack(part, levels - 1) for part in parts]

    def _integer(self, data: bytes, _: int) -> int:
        if len(data) < 8:
            raise ValueError(f"an int of {len(data)} bytes")
        return int.from_bytes(data, "big", signed=True)

    def _tuple(self, data: bytes, levels: int) -> tuple[Any, ...]:
        return tuple(self._parts(data, levels))

    def _set(self, data: bytes, levels: int) -> set[Any]:
        return self._sets(self._parts(data, levels))

    def _frozenset(self, data: bytes, levels: int) -> frozenset[Any]:
        return frozenset(self._parts(data, levels))

    def _pairs(self, data: bytes, levels: int) -> dict[Any, Any]:
        parts = self._parts(data, levels)
        if len(parts) % 2:
            raise ValueError("a key without a value")
        return dict(zip(parts[::2], parts[1::2], strict=True))

    def _instance(self, data: bytes, levels: int) -> Any:
        head = _loads(data)
        if type(head) is not list or len(head) != 2 or type(head[0]) is not str:
            raise ValueError("an instance is its class's name and its content")
        shape = self._kinds.named(head[0])
        if shape is None:
            raise ValueError(f"no class is known as {head[0]!r}: register_type, or annotate it on the replicated class")
        content = self.unpack(head[1], levels - 1)
        try:
            return shape.make(content)
        except RecursionError:
            raise
        except Exception as error:  # the functions are the class owner's
            raise ValueError(f"{head[0]}: {error}") from error

    def _datetime(self, data: bytes, _: int) -> dt.datetime:
        year, month, day, hour, minute, second, microsecond, fold, zone = _loads(data)
        return dt.datetime(year, month, day, hour, minute, second, microsecond, tzinfo=_unpack_zone(zone), fold=fold)

    def _date(self, data: bytes, _: int) -> dt.date:
        year, month, day = _loads(data)
        return dt.date(year, month, day)

    def _time(self, data: bytes, _: int) -> dt.time:
        hour, minute, second, microsecond, fold, zone = _loads(data)
        return dt.time(hour, minute, second, microsecond, tzinfo=_unpack_zone(zone), fold=fold)

    def _timedelta(self, data: bytes, _: int) -> dt.timedelta:
        days, seconds, microseconds = _loads(data)
        return dt.timedelta(days, seconds, microseconds)

    def _decimal(self, data: bytes, _: int) -> decimal.Decimal:
        return decimal.Decimal(bytes(data).decode())

    def _uuid(self, data: bytes, _: int) -> uuid.UUID:
        return uuid.UUID(bytes=bytes(data))

    READERS = {
        BIG_INT: _integer,
        TUPLE: _tuple,
        SET: _set,
        FROZENSET: _frozenset,
        DATETIME: _datetime,
        DATE: _date,
        TIME: _time,
        TIMEDELTA: _timedelta,
        DECIMAL: _decimal,
        UUID: _uuid,
        INSTANCE: _instance,
        PAIRS: _pairs,
    }


_UNPACK: Mapping[int, Callable[[Unpacker, Any, int], Any]] = Unpacker.READERS


def _unpack_zone(zone: Any) -> dt.tzinfo | None:
    if zone is None:
        return None
    if type(zone) is str:
        return zoneinfo.ZoneInfo(zone)
    days, seconds, microseconds, name = zone
    offset = dt.timedelta(days, seconds, microseconds)
    return dt.timezone(offset) if name is None else dt.timezone(offset, name)


def _loads(data: bytes | memoryview) -> Any:
    try:
        return _decode(data)
    except RecursionError:
        # Reached by thousands of levels only, on every node: far more than are allowed anywhere.
        raise ValueError(TOO_DEEP) from None
    except (msgspec.MsgspecError, TypeError) as error:
        raise ValueError(str(error)) from None
