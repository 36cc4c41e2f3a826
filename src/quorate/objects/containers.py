"""A dict, a list and a set that are the same on every node.

Values are what state may be: scalars, containers, dataclasses and so on. What is stored is a copy, and so is what is
returned. Pages take a ``start`` and a ``limit``: an answer does not grow with the store, though the time to skip to
``start`` does. What is added or removed between two pages may make an entry show up in both, or in neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from quorate.machines.objects.definition import Replicated, command, read
from quorate.objects.arguments import PAGE_MAX, check_int, check_page


class ReplicatedDict(Replicated):
    """A dict; iterated in the order in which keys were added."""

    def __init__(self) -> None:
        self.entries: dict[Any, Any] = {}

    @command
    def put(self, key: Any, value: Any) -> None:
        """Set the value of a key."""
        self.entries[key] = value

    @command
    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    @command
    def update(self, entries: Mapping[Any, Any]) -> None:
        """Set many at once: all of them or, if one is refused, none."""
        self.entries.update(entries)

    @command
    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value of the key, which becomes ``default`` if there is none."""
        return self.entries.setdefault(key, default)

    @command
    def compare_and_set(self, key: Any, expected: Any, value: Any) -> bool:
        """Set the value if the key is there and its value equals ``expected``; return whether that was so."""
        if key not in self.entries or self.entries[key] != expected:
            return False
        self.entries[key] = value
        return True

    @command
    def pop(self, key: Any, *default: Any) -> Any:
        """Remove a key and return its value, or ``default``. Raises KeyError if there is neither."""
        return self.entries.pop(key, *default)

    @command
    def __delitem__(self, key: Any) -> None:
        del self.entries[key]

    @command
    def discard(self, key: Any) -> bool:
        """Remove a key if it is there; return whether it was."""
        if key not in self.entries:
            return False
        del self.entries[key]
        return True

    @command
    def clear(self) -> None:
        """Remove everything."""
        self.entries.clear()

    @read
    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or ``default``."""
        return self.entries.get(key, default)

    @read
    def __getitem__(self, key: Any) -> Any:
        return self.entries[key]

    @read
    def __contains__(self, key: Any) -> bool:
        return key in self.entries

    @read
    def __len__(self) -> int:
        return len(self.entries)

    @read
    def keys(self, start: int = 0, limit: int = PAGE_MAX) -> list[Any]:
        """A page of the keys."""
        page = check_page(start, limit)
        return list(islice(self.entries, page.start, page.stop))

    @read
    def items(self, start: int = 0, limit: int = PAGE_MAX) -> list[tuple[Any, Any]]:
        """A page of keys with their values."""
        page = check_page(start, limit)
        return list(islice(self.entries.items(), page.start, page.stop))


class ReplicatedList(Replicated):
    """A list. Changes at its ends are cheap at any length; others cost in proportion to it, as in a plain list."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    @command
    def append(self, value: Any) -> int:
        """Add a value at the end; return its index."""
        self.entries.append(value)
        return len(self.entries) - 1

    @command
    def extend(self, values: Iterable[Any]) -> int:
        """Add values at the end: all of them or, if one is refused, none. Return the new length."""
        self.entries.extend(values)
        return len(self.entries)

    @command
    def insert(self, index: int, value: Any) -> None:
        """Put a value before the one at an index, as list.insert."""
        self.entries.insert(check_int("index", index), value)

    @command
    def put(self, index: int, value: Any) -> None:
        """Replace the value at an index. Raises IndexError."""
        self.entries[check_int("index", index)] = value

    @command
    def __setitem__(self, index: int, value: Any) -> None:
        self.entries[check_int("index", index)] = value

    @command
    def compare_and_set(self, index: int, expected: Any, value: Any) -> bool:
        """Replace the value at an index if it equals ``expected``; return whether it did. Raises IndexError."""
        if self.entries[check_int("index", index)] != expected:
            return False
        self.entries[index] = value
        return True

    @command
    def pop(self, index: int = -1) -> Any:
        """Remove the value at an index and return it. Raises IndexError."""
        return self.entries.pop(check_int("index", index))

    @command
    def __delitem__(self, index: int) -> None:
        del self.entries[check_int("index", index)]

    @command
    def remove(self, value: Any) -> None:
        """Remove the first value equal to this one. Raises ValueError."""
        self.entries.remove(value)

    @command
    def clear(self) -> None:
        """Remove everything."""
        self.entries.clear()

    @read
    def get(self, index: int) -> Any:
        """The value at an index. Raises IndexError."""
        return self.entries[check_int("index", index)]

    @read
    def __getitem__(self, index: int) -> Any:
        return self.entries[check_int("index", index)]

    @read
    def __contains__(self, value: Any) -> bool:
        return value in self.entries

    @read
    def __len__(self) -> int:
        return len(self.entries)

    @read
    def page(self, start: int = 0, limit: int = PAGE_MAX) -> list[Any]:
        """A page of the values."""
        return self.entries[check_page(start, limit)]


class ReplicatedSet(Replicated):
    """A set; iterated in the order in which elements were added."""

    def __init__(self) -> None:
        self.entries: set[Any] = set()

    @command
    def add(self, element: Any) -> bool:
        """Add an element; return whether it is new."""
        before = len(self.entries)
        self.entries.add(element)
        return len(self.entries) > before

    @command
    def update(self, elements: Iterable[Any]) -> int:
        """Add elements: all of them or, if one is refused, none. Return how many are new."""
        before = len(self.entries)
        self.entries.update(elements)
        return len(self.entries) - before

    @command
    def discard(self, element: Any) -> bool:
        """Remove an element if it is there; return whether it was."""
        before = len(self.entries)
        self.entries.discard(element)
        return len(self.entries) < before

    @command
    def remove(self, element: Any) -> None:
        """Remove an element. Raises KeyError."""
        self.entries.remove(element)

    @command
    def pop(self) -> Any:
        """Remove the element that was added last, and return it. Raises KeyError."""
        return self.entries.pop()

    @command
    def clear(self) -> None:
        """Remove everything."""
        self.entries.clear()

    @read
    def __contains__(self, element: Any) -> bool:
        return element in self.entries

    @read
    def __len__(self) -> int:
        return len(self.entries)

    @read
    def page(self, start: int = 0, limit: int = PAGE_MAX) -> list[Any]:
        """A page of the elements."""
        page = check_page(start, limit)
        return list(islice(self.entries, page.start, page.stop))
