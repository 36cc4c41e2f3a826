"""Messages for cores that are not there: parked while the core may still come, dropped once it is retired.

A peer may run ahead of us, so a message can arrive for a path that we have not spawned yet. Such messages wait,
bounded by count and by sender, so that no peer can fill our memory or push out another's. The memory of retired
paths is compact: a run of numbers under one name is one range.
"""

from typing import Any

from quorate.kernel.ids import Path


class Parking:
    """Messages by path, at most ``per_sender`` of each sender; a sender's surplus is refused."""

    def __init__(self, per_sender: int) -> None:
        self._per_sender = per_sender
        self._count: dict[int, int] = {}
        self._waiting: dict[Path, list[tuple[int, Any]]] = {}

    def __len__(self) -> int:
        return sum(self._count.values())

    def park(self, path: Path, sender: int, message: Any) -> bool:
        """Keep the message; False where the sender has too many waiting."""
        count = self._count.get(sender, 0)
        if count >= self._per_sender:
            return False
        self._count[sender] = count + 1
        self._waiting.setdefault(path, []).append((sender, message))
        return True

    def claim(self, path: Path) -> list[tuple[int, Any]]:
        """The messages that waited for this path, in order of arrival; they are parked no more."""
        claimed = self._waiting.pop(path, [])
        for sender, _ in claimed:
            self._count[sender] -= 1
        return claimed

    def drop_below(self, path: Path) -> None:
        """Forget what waits for this path and for any path below it."""
        for waiting in [p for p in self._waiting if p[: len(path)] == path]:
            self.claim(waiting)


class Retired:
    """The paths that will never be again. Numbers under one name merge into ranges."""

    def __init__(self) -> None:
        self._ranges: dict[tuple[Path, str], list[tuple[int, int]]] = {}

    def add(self, path: Path) -> None:
        """Retire a path."""
        for below in [key for key in self._ranges if key[0][: len(path)] == path]:
            del self._ranges[below]  # this path stands for them; else each would be remembered for ever
        *parent, (name, number) = path
        ranges = self._ranges.setdefault((tuple(parent), name), [])
        ranges.append((number, number))
        ranges.sort()
        merged = [ranges[0]]
        for low, high in ranges[1:]:
            if low <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        self._ranges[(tuple(parent), name)] = merged

    def __contains__(self, path: Path) -> bool:
        """Whether this path or one above it is retired."""
        for depth in range(1, len(path) + 1):
            name, number = path[depth - 1]
            for low, high in self._ranges.get((path[: depth - 1], name), ()):
                if low <= number <= high:
                    return True
        return False
