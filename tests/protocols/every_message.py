"""That a strategy draws every message of a protocol, and only what a decoder would let through."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st


def assert_draws_all(strategy: st.SearchStrategy[Any], messages: tuple[type, ...]) -> None:
    """Each type at least once."""
    drawn: set[type] = set()

    @settings(max_examples=1000, database=None, derandomize=True)
    @given(strategy)
    def draw(message: Any) -> None:
        drawn.add(type(message))
        msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=type(message))  # in the range of its types

    draw()
    assert drawn == set(messages)
