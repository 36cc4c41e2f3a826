"""Names of things: nodes, the cores inside a node, and the keys of timers and jobs.

A node is a small non-negative integer, so that a set of nodes fits in an int used as a bit mask. A core inside a
Host is found by its path: the root is ``()``, and a child that the root spawned as ``("slot", 7)`` is
``(("slot", 7),)``. Paths travel on the wire, so their depth and the length of their names are bounded.
"""

from typing import Annotated, TypeAlias

from msgspec import Meta

NODE_ID_MAX = 1023
PATH_DEPTH_MAX = 8

NodeId: TypeAlias = Annotated[int, Meta(ge=0, le=NODE_ID_MAX)]
Name: TypeAlias = tuple[Annotated[str, Meta(max_length=32)], Annotated[int, Meta(ge=0, le=2**63 - 1)]]
Path: TypeAlias = Annotated[tuple[Name, ...], Meta(max_length=PATH_DEPTH_MAX)]
Key: TypeAlias = str | tuple[str, int]

ROOT: Path = ()
"""The path of the core that a Host was made for."""


def mask_of(nodes: "tuple[int, ...] | list[int] | frozenset[int]") -> int:
    """The bit mask with bit ``n`` set for each node ``n``."""
    mask = 0
    for node in nodes:
        mask |= 1 << node
    return mask


def nodes_of(mask: int) -> tuple[int, ...]:
    """The nodes of a bit mask, ascending."""
    return tuple(bit for bit in range(mask.bit_length()) if mask >> bit & 1)
