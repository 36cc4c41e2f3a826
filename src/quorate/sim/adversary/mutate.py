"""Small changes to messages of any protocol: the structure is kept, one field somewhere in it is another.

Only what a decoder would let through is made: a value out of its type's range never comes to a core on a real wire, so
it must not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from quorate.kernel import Rng

Alteration = Callable[[Any, Rng], Any]
"""Another value in place of this one; None: no idea."""

Place = tuple[int | str, ...]
"""Where a value is in a message: fields and positions, from the outside inwards."""

DEPTH_MAX = 6
PLACES_MAX = 64
TRIES = 6


def places(value: Any, kinds: tuple[type, ...]) -> list[tuple[Place, Any]]:
    """All values of these kinds in a message, outermost first, with their places."""
    found: list[tuple[Place, Any]] = []
    waiting: list[tuple[Place, Any]] = [((), value)]
    while waiting and len(found) < PLACES_MAX:
        place, item = waiting.pop(0)
        if place and type(item) in kinds:
            found.append((place, item))
        if len(place) >= DEPTH_MAX:
            continue
        if isinstance(item, msgspec.Struct):
            waiting.extend(((*place, name), getattr(item, name)) for name in item.__struct_fields__)
        elif type(item) in (tuple, list):
            waiting.extend(((*place, position), inner) for position, inner in enumerate(item[:PLACES_MAX]))
    return found


def put_at(value: Any, place: Place, new: Any) -> Any:
    """The message with another value at a place."""
    if not place:
        return new
    step, *rest = place
    if isinstance(step, str):
        return msgspec.structs.replace(value, **{step: put_at(getattr(value, step), tuple(rest), new)})
    items = list(value)
    items[step] = put_at(items[step], tuple(rest), new)
    return tuple(items) if type(value) is tuple else items


def passes(message: Any) -> Any:
    """The message as it comes out of a decoder, or None where no decoder would let it through."""
    if message is None:
        return None
    try:
        return msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=type(message))
    except (msgspec.MsgspecError, ValueError, TypeError, ArithmeticError):
        return None


def changed(message: Any, rng: Rng, change: Alteration, kinds: tuple[type, ...]) -> Any:
    """The message with one value of these kinds changed; None where none can be."""
    candidates = places(message, kinds)
    for _ in range(min(TRIES, len(candidates))):
        place, value = candidates[int(rng.random() * len(candidates))]
        new = change(value, rng)
        if new is None or new == value:
            continue
        other = passes(_made(message, place, new))
        if other is not None and other != message:
            return other
    return None


def _made(message: Any, place: Place, new: Any) -> Any:
    """As ``put_at``; None for what its type refuses to be."""
    try:
        return put_at(message, place, new)
    except (ValueError, TypeError):
        return None


# --- changes ---


def by_one(value: Any, rng: Rng) -> Any:
    """ByzzFuzz's small mutation: one more or one less."""
    return value + (1 if rng.random() < 0.5 else -1)


def anything(value: Any, rng: Rng) -> Any:
    """Another value of the same type: near or far."""
    kind = type(value)
    if kind is bool:
        return not value
    if kind is int:
        return by_one(value, rng) if rng.random() < 0.5 else rng.getrandbits(1 + int(rng.random() * 61))
    if kind is bytes:
        return _bytes(value, rng)
    if kind in (tuple, list):
        return _items(value, rng)
    return None


ANYTHING = (bool, int, bytes, tuple, list)


def _bytes(value: bytes, rng: Rng) -> bytes:
    if not value or rng.random() < 0.1:
        return bytes(rng.getrandbits(8) for _ in range(int(rng.random() * 4)))
    position = int(rng.random() * len(value))
    flipped = value[position] ^ (1 << int(rng.random() * 8))
    return value[:position] + bytes((flipped,)) + value[position + 1 :]


def _items(value: Sequence[Any], rng: Rng) -> Any:
    """One left out, one doubled, or two that change places."""
    if not value:
        return None
    items = list(value)
    position, draw = int(rng.random() * len(items)), rng.random()
    if draw < 0.5:
        del items[position]
    elif draw < 0.75:
        items.insert(position, items[position])
    else:
        other = int(rng.random() * len(items))
        items[position], items[other] = items[other], items[position]
    return tuple(items) if type(value) is tuple else items
