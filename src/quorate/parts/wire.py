"""Types of numbers that cross a wire, with the ranges that a decoder checks."""

from typing import Annotated, TypeAlias

from msgspec import Meta

Natural: TypeAlias = Annotated[int, Meta(ge=0, lt=2**62)]
"""A count or a position. Below 2**62, so that sums of two stay within what msgpack carries."""

Term: TypeAlias = Natural
Index: TypeAlias = Natural
