"""Configuration: a value that names the members of a group. It is submitted and decided like any other value.

How it takes effect is the protocol's. A log keeps it as an entry of the kind CONFIGURATION, which the Replica ignores.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from quorate.kernel import NodeId

PREFIX = b"\x00quorate/members\x00"
"""No command begins with it: commands are msgpack arrays, whose first byte is another."""
MEMBERS_MAX = 64

_Members = Annotated[tuple[NodeId, ...], Meta(min_length=1, max_length=MEMBERS_MAX)]
_decoder = msgspec.msgpack.Decoder(_Members)


def encode(members: tuple[int, ...]) -> bytes:
    """The value that makes these the members. Raises ValueError for none, or too many."""
    chosen = tuple(sorted(set(members)))
    if not 1 <= len(chosen) <= MEMBERS_MAX:
        raise ValueError(f"{len(chosen)} members; a configuration names 1 to {MEMBERS_MAX}")
    return PREFIX + msgspec.msgpack.encode(chosen)


def decode(value: bytes) -> tuple[int, ...] | None:
    """The members, sorted; None where the value is no configuration, or a broken one."""
    if not value.startswith(PREFIX):
        return None
    try:
        members = _decoder.decode(memoryview(value)[len(PREFIX) :])
    except msgspec.MsgspecError:
        return None
    return tuple(sorted(set(members)))
