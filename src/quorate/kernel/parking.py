"""Messages for cores that are not there: parked while the core may still come, dropped once it is retired.

A peer may run ahead of us, so a message can arrive for a path that we have not spawned yet. Such messages wait,
bounded for each sender in number and in bytes, so that no peer can fill our memory or push out another's. The bounds
are those of the nearest core above the path, which may also say that no such core will come. What is above them is
dropped: a peer that is far ahead is no liar, and who needs every message sends it again (``parts/reliable.py``). The
memory of retired paths is compact: a run of numbers under one name is one range.
"""

from typing import Any

import msgspec

from quorate.kernel.ids import Path
from quorate.kernel.inputs import Received

_size_of = msgspec.msgpack.Encoder(enc_hook=repr)


class ParkingLimits(msgspec.Struct, frozen=True):
    """What may wait of each sender below one core."""

    messages_max: int = 256
    size_bytes_max: int = 16 << 20


class _Held:
    """What waits of one sender below one core."""

    __slots__ = ("messages", "size_bytes")

    def __init__(self) -> None:
        self.messages = 0
        self.size_bytes = 0


class _Waiting(msgspec.Struct, frozen=True):
    """One message, and under whose limits it waits."""

    sender: int
    message: Any
    size_bytes: int
    owner: Path


class Parking:
    """Messages by path. ``dropped`` counts those that found no room."""

    def __init__(self) -> None:
        self._held: dict[tuple[Path, int], _Held] = {}
        self._waiting: dict[Path, list[_Waiting]] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return sum(held.messages for held in self._held.values())

    def park(self, path: Path, sender: int, message: Any, owner: Path, limits: ParkingLimits) -> bool:
        """Keep the message; False where too much of this sender waits already below ``owner``, with its limits."""
        held = self._held.get((owner, sender)) or _Held()
        size_bytes = len(_size_of.encode(message))
        if held.messages >= limits.messages_max or held.size_bytes + size_bytes > limits.size_bytes_max:
            self.dropped += 1
            return False
        self._held[owner, sender] = held
        held.messages += 1
        held.size_bytes += size_bytes
        self._waiting.setdefault(path, []).append(_Waiting(sender, message, size_bytes, owner))
        return True

    def claim(self, path: Path) -> list[Received]:
        """The messages that waited for this path, in order of arrival; they are parked no more."""
        claimed = self._waiting.pop(path, [])
        for waiting in claimed:
            self._let_go(waiting)
        return [Received(waiting.sender, waiting.message, path) for waiting in claimed]

    def claim_below(self, path: Path) -> list[Received]:
        """The messages that waited for this path and for any path below it."""
        below = [waiting for waiting in self._waiting if waiting[: len(path)] == path]
        return [item for waiting in below for item in self.claim(waiting)]

    def drop_from(self, sender: int, top: Path = ()) -> None:
        """Forget what one sender said to a path and to those below it."""
        for path, messages in [each for each in self._waiting.items() if each[0][: len(top)] == top]:
            kept = [waiting for waiting in messages if waiting.sender != sender]
            for waiting in messages:
                if waiting.sender == sender:
                    self._let_go(waiting)
            if kept:
                self._waiting[path] = kept
            else:
                del self._waiting[path]

    def _let_go(self, waiting: _Waiting) -> None:
        held = self._held[waiting.owner, waiting.sender]
        held.messages -= 1
        held.size_bytes -= waiting.size_bytes
        if not held.messages:
            del self._held[waiting.owner, waiting.sender]


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
