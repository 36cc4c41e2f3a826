"""What crosses a wire: types of numbers, with the ranges that a decoder checks, and values with one encoding alone."""

from collections.abc import Callable
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

T = TypeVar("T")

Natural: TypeAlias = Annotated[int, Meta(ge=0, lt=2**62)]
"""A count or a position. Below 2**62, so that sums of two stay within what msgpack carries."""

Term: TypeAlias = Natural
Index: TypeAlias = Natural


def decode_canonical(data: bytes | memoryview, decode: Callable[[bytes | memoryview], T], bytes_max: int, no: str) -> T:
    """The value whose encoding in msgpack this is, and no other. Raises ValueError; ``no`` says what it is not."""
    if len(data) > bytes_max:
        raise ValueError(f"{len(data)} bytes are {no}: it has at most {bytes_max}")
    try:
        value = decode(data)
    except (msgspec.MsgspecError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{no}: {error}") from None
    if msgspec.msgpack.encode(value) != bytes(data):
        raise ValueError(f"{no}: its encoding is not the canonical one")
    return value
