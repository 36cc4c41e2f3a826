"""What a key-value client is given: keys and values are bytes, and whatever else is told before anything is sent.

Text is not taken as UTF-8: what comes back would be bytes all the same, so that a key which was put as "a" would not
be equal to the one that a range finds.
"""

from __future__ import annotations

from typing import Any

import msgspec

SHOWN_CHARACTERS_MAX = 40
BYTES_FIELDS = ("key", "range_end", "value")
LISTS_FIELDS = ("compare", "success", "failure")


def check_bytes(command: msgspec.Struct) -> None:
    """Raises TypeError for a key or value that is not bytes, at any depth of a transaction; names it."""
    fields = command.__struct_fields__
    for name in BYTES_FIELDS:
        if name in fields:
            value = getattr(command, name)
            if not isinstance(value, bytes | bytearray | memoryview):
                raise _wrong(name, value, "bytes")
    if "operand" in fields:
        value = command.operand  # type: ignore[attr-defined]
        if not isinstance(value, bytes | int):
            raise _wrong("operand", value, "bytes, or an int,")
    for name in LISTS_FIELDS:
        if name in fields:
            for item in getattr(command, name):
                check_bytes(item)


def _wrong(name: str, value: Any, wanted: str) -> TypeError:
    text = f"{name}: {wanted} must be given, not {type(value).__name__}"
    if isinstance(value, str):
        shown = value[:SHOWN_CHARACTERS_MAX]
        return TypeError(f"{text}: write {shown!r}.encode()" if shown == value else f"{text}: encode the text first")
    return TypeError(f"{text}: encode it first, for example with str({name}).encode()")
