"""Configuration: a value that names the members of a group. It is submitted and decided like any other value.

How it takes effect is the protocol's. A log keeps it as an entry of the kind CONFIGURATION, and the core says as
``voters`` who votes.

A change may name the epoch that it is meant for: the number that ``Voters`` has, which every change raises. It counts
in that epoch alone. So what was decided once cannot be brought again later, by a retry that comes late or by a node
that lies, and nobody changes members whom he has not seen.
"""

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from quorate.kernel import NodeId
from quorate.parts.wire import Natural

PREFIX = b"\x00quorate/members\x00"
"""No command begins with it: commands are msgpack arrays, whose first byte is another."""
MEMBERS_MAX = 64

_Members = Annotated[tuple[NodeId, ...], Meta(min_length=1, max_length=MEMBERS_MAX)]
_decoder = msgspec.msgpack.Decoder(tuple[_Members, Natural | None])


class Voters(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who votes, as a node knows it; ``next_members`` will, where a change is decided and does not count yet."""

    members: Annotated[tuple[NodeId, ...], Meta(max_length=MEMBERS_MAX)]
    next_members: Annotated[tuple[NodeId, ...], Meta(max_length=MEMBERS_MAX)] = ()
    epoch: Natural = 0


class Change(NamedTuple):
    """What a configuration says. ``epoch`` None: it counts whenever it is decided."""

    members: tuple[int, ...]
    epoch: int | None


def encode(members: tuple[int, ...], epoch: int | None = None) -> bytes:
    """The value that makes these the members. Raises ValueError for none, or too many."""
    chosen = tuple(sorted(set(members)))
    if not 1 <= len(chosen) <= MEMBERS_MAX:
        raise ValueError(f"{len(chosen)} members; a configuration names 1 to {MEMBERS_MAX}")
    return PREFIX + msgspec.msgpack.encode((chosen, epoch))


def decode(value: bytes) -> Change | None:
    """What it says, the members sorted; None where the value is no configuration, or a broken one."""
    if not value.startswith(PREFIX):
        return None
    try:
        members, epoch = _decoder.decode(memoryview(value)[len(PREFIX) :])
    except msgspec.MsgspecError:
        return None
    return Change(tuple(sorted(set(members))), epoch)
