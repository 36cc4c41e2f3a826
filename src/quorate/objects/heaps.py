"""A binary heap in a list and a dict of the state: the least entry first, and any entry removed, in O(log n) changes.

An entry is a tuple whose last part is the item, a key that is there once; ``places`` has each item's index. Python's
own `heapq` changes a list past its methods, and so unseen by what keeps the state.
"""

from __future__ import annotations

from typing import Any


def push(heap: list[Any], places: dict[Any, int], entry: tuple[Any, ...]) -> None:
    """Add an entry, whose item must not be there."""
    heap.append(entry)
    _settle(heap, places, len(heap) - 1, entry)


def remove(heap: list[Any], places: dict[Any, int], item: Any) -> tuple[Any, ...]:
    """Take out the entry of an item. Raises KeyError."""
    at = places.pop(item)
    entry: tuple[Any, ...] = heap[at]
    last = heap.pop()
    if at < len(heap):
        _settle(heap, places, at, last)
    return entry


def _settle(heap: list[Any], places: dict[Any, int], at: int, entry: tuple[Any, ...]) -> None:
    """Put an entry at an index, or above or below it where the order wants it."""
    while at and entry < heap[(at - 1) // 2]:
        at = _move(heap, places, (at - 1) // 2, at)
    size = len(heap)
    while (child := 2 * at + 1) < size:
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if entry < heap[child]:
            break
        at = _move(heap, places, child, at)
    heap[at] = entry
    places[entry[-1]] = at


def _move(heap: list[Any], places: dict[Any, int], source: int, target: int) -> int:
    moved = heap[target] = heap[source]
    places[moved[-1]] = target
    return source
