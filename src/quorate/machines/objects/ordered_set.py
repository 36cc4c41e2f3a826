"""A set that is iterated in the order in which its elements were added, so the same on every node.

The order of a plain set of str follows the process's hash seed: a command that iterates one does something else on each
node. So sets of a replicated state, and sets that come as arguments, are OrderedSets, and what their operators and
`copy` give are too. The elements are in the set itself, where C code finds them, and in the dict ``order`` as keys and
as values: by it the element that stands in the set is found for one that is equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, SupportsIndex


def in_order(elements: Iterable[Any]) -> list[Any]:
    """The elements as a list, the same on every node also if they come from a plain set of values."""
    if type(elements) not in (set, frozenset):
        return list(elements)
    if {str}.issuperset(map(type, elements)):
        return sorted(elements)
    return sorted(elements, key=_rank)


def _rank(value: Any) -> tuple[str, Any]:
    kind = type(value)
    if kind in (str, int, bytes, float):
        return kind.__name__, value
    if kind is tuple:
        return kind.__name__, [_rank(part) for part in value]
    if kind is frozenset:
        return kind.__name__, sorted(_rank(part) for part in value)
    return kind.__name__, repr(value)


class OrderedSet(set[Any]):
    """A set in the order of insertion. `pop` takes the element that was added last."""

    __slots__ = ("order",)

    def __init__(self, elements: Iterable[Any] = ()) -> None:
        self.order: dict[Any, Any] = {}
        for element in elements:
            self.order.setdefault(element, element)
        super().__init__(self.order)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.order)

    def __repr__(self) -> str:
        return "{" + ", ".join(map(repr, self.order)) + "}" if self.order else "set()"

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return set, (list(self.order),)

    # --- new sets ---

    def copy(self) -> OrderedSet:
        """As set.copy."""
        return OrderedSet(self.order)

    def union(self, *others: Iterable[Any]) -> OrderedSet:
        """As set.union."""
        made = self.copy()
        made.update(*others)
        return made

    def intersection(self, *others: Iterable[Any]) -> OrderedSet:
        """As set.intersection."""
        kept = [dict.fromkeys(other) for other in others]
        return OrderedSet(element for element in self.order if all(element in other for other in kept))

    def difference(self, *others: Iterable[Any]) -> OrderedSet:
        """As set.difference."""
        made = self.copy()
        made.difference_update(*others)
        return made

    def symmetric_difference(self, other: Iterable[Any]) -> OrderedSet:
        """As set.symmetric_difference."""
        made = self.copy()
        made.symmetric_difference_update(other)
        return made

    def __or__(self, other: Any) -> Any:
        return self.union(other) if isinstance(other, set | frozenset) else NotImplemented

    def __and__(self, other: Any) -> Any:
        return self.intersection(other) if isinstance(other, set | frozenset) else NotImplemented

    def __sub__(self, other: Any) -> Any:
        return self.difference(other) if isinstance(other, set | frozenset) else NotImplemented

    def __xor__(self, other: Any) -> Any:
        return self.symmetric_difference(other) if isinstance(other, set | frozenset) else NotImplemented

    # --- changes ---

    def add(self, element: Any) -> None:
        """As set.add."""
        self.order.setdefault(element, element)
        set.add(self, element)

    def discard(self, element: Any) -> None:
        """As set.discard."""
        self.order.pop(element, None)
        set.discard(self, element)

    def clear(self) -> None:
        """As set.clear."""
        self.order.clear()
        set.clear(self)

    def remove(self, element: Any) -> None:
        """As set.remove."""
        if element not in self.order:
            raise KeyError(element)
        self.discard(element)

    def pop(self) -> Any:
        """The element that was added last."""
        for element in reversed(self.order):
            self.discard(element)
            return element
        raise KeyError("pop from an empty set")

    def update(self, *others: Iterable[Any]) -> None:
        """As set.update."""
        for other in others:
            for element in in_order(other):
                self.add(element)

    def difference_update(self, *others: Iterable[Any]) -> None:
        """As set.difference_update."""
        for other in others:
            for element in list(other):
                self.discard(element)

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """As set.intersection_update."""
        kept = self.intersection(*others)
        for element in list(self.order):
            if element not in kept:
                self.discard(element)

    def symmetric_difference_update(self, other: Iterable[Any]) -> None:
        """As set.symmetric_difference_update."""
        for element in dict.fromkeys(in_order(other)):
            if element in self.order:
                self.discard(element)
            else:
                self.add(element)

    def __ior__(self, other: Any) -> Any:
        if not isinstance(other, set | frozenset):
            return NotImplemented
        self.update(other)
        return self

    def __isub__(self, other: Any) -> Any:
        if not isinstance(other, set | frozenset):
            return NotImplemented
        self.difference_update(other)
        return self

    def __iand__(self, other: Any) -> Any:
        if not isinstance(other, set | frozenset):
            return NotImplemented
        self.intersection_update(other)
        return self

    def __ixor__(self, other: Any) -> Any:
        if not isinstance(other, set | frozenset):
            return NotImplemented
        self.symmetric_difference_update(other)
        return self
