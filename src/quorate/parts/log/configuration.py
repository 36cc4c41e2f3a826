"""Configuration: a value that names the members of a group. It is submitted and decided like any other value.

How it takes effect is the protocol's. A log keeps it as an entry of the kind CONFIGURATION, and the core says as
``voters`` who votes.

A change may name the epoch that it is meant for: the number that ``Voters`` has, which every change raises. It counts
in that epoch alone. So what was decided once cannot be brought again later, by a retry that comes late or by a node
that lies, and nobody changes members whom he has not seen.

Nodes come and go by it, too. A change may introduce *newcomers*, which all nodes know from then on and which follow
until a change makes them members, and it may name *leavers*, which are gone for good when it counts. Which nodes there
are follows from the founders, which every node is told, and from the changes that were decided: ``Nodes`` is that part
of the state, and whoever starts from a snapshot is given it. A node's number is used once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from quorate.kernel import NODE_ID_MAX, NodeId
from quorate.parts.crypto.keys import Keyring
from quorate.parts.wire import Natural

PREFIX = b"\x00quorate/members\x00"
"""No command begins with it: commands are msgpack arrays, whose first byte is another."""
MEMBERS_MAX = 64
NEWCOMERS_MAX: Final = 8
"""Of one change."""
ADDRESS_CHARACTERS_MAX: Final = 264
"""A name of 253 characters, in brackets, and a port."""
KEY_BYTES_MAX: Final = 64


class Voters(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who votes, as a node knows it; ``next_members`` will, where a change is decided and does not count yet."""

    members: Annotated[tuple[NodeId, ...], Meta(max_length=MEMBERS_MAX)]
    next_members: Annotated[tuple[NodeId, ...], Meta(max_length=MEMBERS_MAX)] = ()
    epoch: Natural = 0


class Newcomer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node that joins: its number, where the others dial it, and its public key (empty where nodes do not sign)."""

    node: NodeId
    address: Annotated[str, Meta(min_length=1, max_length=ADDRESS_CHARACTERS_MAX)]
    key: Annotated[bytes, Meta(max_length=KEY_BYTES_MAX)] = b""


class Change(NamedTuple):
    """What a configuration says. ``epoch`` None: it counts whenever it is decided."""

    members: tuple[int, ...]
    epoch: int | None
    newcomers: tuple[Newcomer, ...] = ()
    leavers: tuple[int, ...] = ()


class Nodes(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which nodes there are besides the founders: those that ever ``joined``, without those whose numbers ``left``.

    Who left is kept, as what it voted for may have to be checked, and so that its number and key are used once.
    """

    joined: Annotated[tuple[Newcomer, ...], Meta(max_length=NODE_ID_MAX + 1)] = ()
    left: Annotated[tuple[NodeId, ...], Meta(max_length=NODE_ID_MAX + 1)] = ()

    def __bool__(self) -> bool:
        """Whether anybody came or went."""
        return bool(self.joined or self.left)

    def numbers(self, founders: Iterable[int]) -> frozenset[int]:
        """Of all nodes that there are."""
        return frozenset([*founders, *(newcomer.node for newcomer in self.joined)]).difference(self.left)

    def may_be(self, founders: Iterable[int]) -> bool:
        """Whether changes can have led here from these founders; for what a peer says."""
        joined = [newcomer.node for newcomer in self.joined]
        return len(set(joined)) == len(joined) and set(joined).isdisjoint(founders)

    def takes(self, change: Change, founders: Iterable[int]) -> bool:
        """Whether the change fits: it names nodes that there are, or that it introduces under numbers never used."""
        here = self.numbers(founders)
        new = {newcomer.node for newcomer in change.newcomers}
        leavers = set(change.leavers)
        return (
            len(new) == len(change.newcomers)
            and new.isdisjoint(here)
            and new.isdisjoint(self.left)
            and leavers <= here
            and leavers.isdisjoint(change.members)
            and set(change.members) <= here | new
        )

    def after(self, change: Change) -> Nodes:
        """The same after a change that fits."""
        if not (change.newcomers or change.leavers):
            return self
        return Nodes((*self.joined, *change.newcomers), tuple(sorted({*self.left, *change.leavers})))


FOUNDERS_ALONE: Final = Nodes()


class InForce(msgspec.Struct, frozen=True):
    """What of all configurations holds at a node now. ``keyring``: the nodes' keys, where they sign."""

    voters: Voters
    nodes: Nodes = FOUNDERS_ALONE
    keyring: Keyring | None = None


class Reconfigurable:
    """What a Core is besides, whose members change by configurations that it decides."""

    def in_force(self) -> InForce:
        """Who votes and which nodes there are, by what is decided so far. Asked for between steps."""
        raise NotImplementedError(f"{type(self).__name__} does not say who its members are")

    def acting(self) -> Voters:
        """Whose votes this node counts now: those in force, unless a change counts before it is decided."""
        return self.in_force().voters


def beginning(
    founders: Sequence[int], members: Sequence[int], peers: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The nodes that a cluster began with, and its first members, of what a config names and a node is told.

    ``peers`` are the founders where none are named, and all founders the members. Raises ValueError where members are
    no founders.
    """
    all_founders = tuple(sorted(set(founders or peers)))
    first = tuple(sorted(set(members))) or all_founders
    if unknown := sorted(set(first).difference(all_founders)):
        raise ValueError(f"members {unknown} are not in the group {list(all_founders)}")
    return all_founders, first


def check_own(node: int, founders: Sequence[int], change: Change) -> None:
    """Raises ValueError if a change that counts introduces this node, which was told that it is a founder.

    Its quorums would be others than everybody else's. What clients submit introduces no founder.
    """
    if node in founders and any(newcomer.node == node for newcomer in change.newcomers):
        raise ValueError(
            f"node {node} joined the cluster later, and its configuration counts it among the first: write in "
            "founders which nodes the cluster began with"
        )


_Members = Annotated[tuple[NodeId, ...], Meta(min_length=1, max_length=MEMBERS_MAX)]


class _Encoded(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    members: _Members
    epoch: Natural | None
    newcomers: Annotated[tuple[Newcomer, ...], Meta(max_length=NEWCOMERS_MAX)] = ()
    leavers: Annotated[tuple[NodeId, ...], Meta(max_length=MEMBERS_MAX)] = ()


_decoder = msgspec.msgpack.Decoder(_Encoded)


def encode_change(
    members: Sequence[int],
    epoch: int | None = None,
    newcomers: Sequence[Newcomer] = (),
    leavers: Sequence[int] = (),
) -> bytes:
    """The value that makes these the members. Raises ValueError for none, or too many; also of the others."""
    chosen, leaving = tuple(sorted(set(members))), tuple(sorted(set(leavers)))
    if not 1 <= len(chosen) <= MEMBERS_MAX:
        raise ValueError(f"{len(chosen)} members; a configuration names 1 to {MEMBERS_MAX}")
    if len(newcomers) > NEWCOMERS_MAX or len(leaving) > MEMBERS_MAX:
        raise ValueError(f"a change introduces at most {NEWCOMERS_MAX} nodes, and takes leave of {MEMBERS_MAX}")
    said = (chosen, epoch, tuple(newcomers), leaving) if newcomers or leaving else (chosen, epoch)
    return PREFIX + msgspec.msgpack.encode(said)


def decode_change(value: bytes) -> Change | None:
    """What it says, numbers sorted; None where the value is no configuration, or a broken one."""
    if not value.startswith(PREFIX):
        return None
    try:
        said = _decoder.decode(memoryview(value)[len(PREFIX) :])
    except msgspec.MsgspecError:
        return None
    members, leavers = tuple(sorted(set(said.members))), tuple(sorted(set(said.leavers)))
    return Change(members, said.epoch, said.newcomers, leavers)
