"""Values of histories: those that Python has no type for, and frozen ones, which are equal only where EDN's are.

Python merges what EDN keeps apart: `1 == True == 1.0`, and a set or a dict loses one of them. So wherever a value is
compared or hashed it is frozen first, and the keys of maps and the members of sets are frozen by the reader.
Equal are a list and a vector of the same items, `2` and `2N`, `2/4` and `1/2`, `1.0M` and `1.00M`, NaN and NaN.
"""

import math
from collections.abc import Hashable
from decimal import Decimal
from typing import Any

import msgspec


class Keyword(msgspec.Struct, frozen=True, order=True):
    """`:name`, without the colon."""

    name: str


class Symbol(msgspec.Struct, frozen=True, order=True):
    """A bare word other than nil, true and false."""

    name: str


class Character(msgspec.Struct, frozen=True, order=True):
    """`\\a`: one character, which no string equals."""

    text: str


class Tagged(msgspec.Struct, frozen=True):
    """`#tag value`."""

    tag: str
    value: Any


class Truth(msgspec.Struct, frozen=True):
    """A frozen boolean, equal to no number."""

    value: bool


class Real(msgspec.Struct, frozen=True):
    """A frozen float, equal to no integer; None is NaN, so that it equals itself."""

    value: float | None


class Exact(msgspec.Struct, frozen=True):
    """A frozen decimal, equal to no float; without zeros at the end."""

    value: Decimal


class Mapping(msgspec.Struct, frozen=True):
    """A frozen map."""

    items: frozenset[tuple[Any, Any]]


def freeze(value: Any) -> Hashable:
    """A hashable equal of a value of a history; a frozen one is its own. Raises TypeError for what has none."""
    if value is None or type(value) in (int, str):
        return value  # type: ignore[no-any-return]
    if isinstance(value, bool):
        return Truth(value)
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    if isinstance(value, float):
        return Real(None if math.isnan(value) else value + 0.0)  # -0.0 becomes 0.0, which it equals
    if isinstance(value, Decimal):
        return Exact(_without_zeros(value))
    if isinstance(value, dict):
        return Mapping(frozenset((freeze(key), freeze(item)) for key, item in value.items()))
    if isinstance(value, (set, frozenset)):
        return frozenset(freeze(item) for item in value)
    if isinstance(value, Tagged):
        return Tagged(value.tag, freeze(value.value))
    hash(value)
    return value  # type: ignore[no-any-return]


def thaw(value: Any) -> Any:
    """The plain value of a frozen one, for people to read. Keys of maps and members of sets stay frozen."""
    if isinstance(value, (Truth, Exact)):
        return value.value
    if isinstance(value, Real):
        return math.nan if value.value is None else value.value
    if isinstance(value, tuple):
        return [thaw(item) for item in value]
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in sorted(value.items, key=repr)}
    if isinstance(value, Tagged):
        return Tagged(value.tag, thaw(value.value))
    return value


def _without_zeros(value: Decimal) -> Decimal:
    """The same number with the fewest digits, so that equal ones are written alike. (`normalize` would round.)"""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return value
    used = len(digits)
    while used > 1 and digits[used - 1] == 0:
        used -= 1
    if not value:
        return Decimal(0)
    return Decimal((sign, digits[:used], exponent + len(digits) - used))
