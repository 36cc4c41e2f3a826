"""The systems: by count, by weight, by list, and two at once.

A set is an int with one bit a node. Where a single system decides, any two of its quorums must meet: Majority,
Byzantine, Weighted and a Joint of these see to that. Threshold and Listed promise no such thing; they are for one phase
of a Flexible pair, which checks that the two phases meet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

from quorate.kernel import mask_of, nodes_of

HALF: Final = Fraction(1, 2)


class QuorumSystem(ABC):
    """Says of a set of nodes whether it is a quorum. More nodes never unmake one."""

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


class Threshold(QuorumSystem):
    """Any ``size`` of the members."""

    def __init__(self, members: Sequence[int], size: int) -> None:
        """Raises ValueError unless 1 <= size <= the number of members."""
        self.members = mask_of(tuple(members))
        self._order = nodes_of(self.members)
        self.size = size
        if not 1 <= size <= len(self._order):
            raise ValueError(
                f"quorums of {size} among {len(self._order)} members: choose a size from 1 to their number"
            )

    def __repr__(self) -> str:
        return f"Threshold({list(self._order)}, {self.size})"

    def is_quorum(self, nodes: int) -> bool:
        """At least ``size`` of them."""
        return (nodes & self.members).bit_count() >= self.size

    def reached(self, progress: Mapping[int, int]) -> int:
        """As the base says; a sort is enough where all nodes weigh the same."""
        values = sorted([progress.get(node, 0) for node in self._order])
        return values[-self.size]


class Majority(Threshold):
    """More than half of the members."""

    def __init__(self, members: Sequence[int]) -> None:
        if not members:
            raise ValueError("a majority needs at least one member")
        super().__init__(members, mask_of(tuple(members)).bit_count() // 2 + 1)

    def __repr__(self) -> str:
        return f"Majority({list(self._order)})"


class Byzantine(Threshold):
    """n members of which ``faults`` may lie, n >= 3 * faults + 1.

    A quorum is ceil((n + faults + 1) / 2) of them, which is 2f + 1 where n = 3f + 1: two quorums share at least
    faults + 1 nodes, so at least one correct one, and the correct nodes alone are a quorum (Castro and Liskov 1999).
    """

    def __init__(self, members: Sequence[int], faults: int | None = None) -> None:
        """``faults``: as many as the members can bear, if not given. Raises ValueError for more, or without members."""
        count = mask_of(tuple(members)).bit_count()
        if not count:
            raise ValueError("a Byzantine quorum system needs at least one member")
        self.faults = (count - 1) // 3 if faults is None else faults
        if not 0 <= self.faults <= (count - 1) // 3:
            raise ValueError(
                f"{count} members bear 0 to {(count - 1) // 3} Byzantine faults, not {self.faults}: n > 3f"
            )
        super().__init__(members, (count + self.faults + 2) // 2)
        self.weak = Threshold(members, self.faults + 1)
        """Sets that hold at least one correct node."""

    def __repr__(self) -> str:
        return f"Byzantine({list(self._order)}, {self.faults})"


class Weighted(QuorumSystem):
    """Members whose weights sum to more than a share of all weight: a half, or two thirds where stake may lie."""

    def __init__(self, weights: Mapping[int, int], more_than: Fraction = HALF) -> None:
        """``weights``: node to weight, each at least 1. Raises ValueError; also for shares outside [1/2, 1)."""
        if not weights:
            raise ValueError("a weighted quorum system needs at least one member")
        light = [node for node, weight in sorted(weights.items()) if weight < 1]
        if light:
            raise ValueError(f"node {light[0]} weighs {weights[light[0]]}: a weight is at least 1")
        if not HALF <= more_than < 1:
            raise ValueError(f"quorums of more than {more_than} of the weight: choose a share from 1/2 to below 1")
        self.members = mask_of(tuple(weights))
        self.weights = dict(sorted(weights.items()))
        self.needed = int(sum(self.weights.values()) * more_than) + 1
        self._bits = [(1 << node, weight) for node, weight in self.weights.items()]
        first = next(iter(self.weights.values()))
        self._each = first if all(weight == first for weight in self.weights.values()) else 0
        """What each weighs, if all are alike: then it is enough to count."""

    def __repr__(self) -> str:
        return f"Weighted({self.weights}, needed={self.needed})"

    def is_quorum(self, nodes: int) -> bool:
        """Their weights reach ``needed``."""
        if self._each:
            return (nodes & self.members).bit_count() * self._each >= self.needed
        return sum([weight for bit, weight in self._bits if nodes & bit]) >= self.needed


class Listed(QuorumSystem):
    """The sets given, and whatever contains one of them."""

    def __init__(self, quorums: Sequence[Sequence[int]]) -> None:
        """Raises ValueError for no sets at all, and for an empty one."""
        self.quorums = tuple(mask_of(tuple(quorum)) for quorum in quorums)
        if not self.quorums or not all(self.quorums):
            raise ValueError("list at least one quorum, and at least one node in each")
        self.members = 0
        for quorum in self.quorums:
            self.members |= quorum

    def __repr__(self) -> str:
        return f"Listed({[list(nodes_of(quorum)) for quorum in self.quorums]})"

    def is_quorum(self, nodes: int) -> bool:
        """It contains one of the list."""
        return any(quorum & ~nodes == 0 for quorum in self.quorums)


class Joint(QuorumSystem):
    """A quorum of both the old and the new system, as in Raft's joint consensus (dissertation §4.3)."""

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
