"""Quorum systems: which sets of nodes may decide.

A set is an int with one bit a node. Any two sets that decide must meet; a system that breaks this is refused when it
is made. Majority and Joint serve Raft; a Byzantine, weighted or flexible system implements the same two methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from quorate.kernel import mask_of, nodes_of


class QuorumSystem(ABC):
    """Says of a set of nodes whether it is a quorum."""

    members: int
    """The mask of all nodes that count."""

    @abstractmethod
    def is_quorum(self, nodes: int) -> bool:
        """Whether this mask contains a quorum. Bits outside ``members`` count for nothing."""

    def is_blocking(self, nodes: int) -> bool:
        """Whether no quorum is left without these nodes."""
        return not self.is_quorum(self.members & ~nodes)

    def reached(self, progress: Mapping[int, int]) -> int:
        """The highest value that every node of some quorum has reached; a node that is not in ``progress`` is at 0."""
        mask = 0
        for value, node in sorted(((progress.get(n, 0), n) for n in nodes_of(self.members)), reverse=True):
            mask |= 1 << node
            if self.is_quorum(mask):
                return value
        return 0


class Majority(QuorumSystem):
    """More than half of the members."""

    __slots__ = ("_order", "_size", "members")

    def __init__(self, members: Sequence[int]) -> None:
        if not members:
            raise ValueError("a majority needs at least one member")
        self.members = mask_of(tuple(members))
        self._order = nodes_of(self.members)
        self._size = len(self._order) // 2 + 1

    def __repr__(self) -> str:
        return f"Majority({list(self._order)})"

    def is_quorum(self, nodes: int) -> bool:
        """At least floor(n/2) + 1 of them."""
        return (nodes & self.members).bit_count() >= self._size

    def reached(self, progress: Mapping[int, int]) -> int:
        """As the base says; a sort is enough where all nodes weigh the same."""
        values = sorted([progress.get(node, 0) for node in self._order])
        return values[-self._size]


class Joint(QuorumSystem):
    """A quorum of both the old and the new system, as in Raft's joint consensus (dissertation §4.3)."""

    __slots__ = ("members", "new", "old")

    def __init__(self, old: QuorumSystem, new: QuorumSystem) -> None:
        self.old = old
        self.new = new
        self.members = old.members | new.members

    def __repr__(self) -> str:
        return f"Joint({self.old!r}, {self.new!r})"

    def is_quorum(self, nodes: int) -> bool:
        """A quorum of each."""
        return self.old.is_quorum(nodes) and self.new.is_quorum(nodes)

    def reached(self, progress: Mapping[int, int]) -> int:
        """What both have reached."""
        return min(self.old.reached(progress), self.new.reached(progress))
