"""Children: which cores of an epoch take messages, and the messages that wait for cores that are not there yet.

What waits is bounded for each sender; the rest is not taken, so it is not acknowledged and comes again. What is for a
core that is retired is taken and dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from quorate.kernel import Path
from quorate.parts.reliable.messages import Letter, ReliableConfig

_encode: Final = msgspec.msgpack.Encoder().encode

Take = Callable[[int, Any], None]
"""Has a core handle a message of a sender, after the running handler."""


class _Inside:
    """One epoch."""

    __slots__ = ("gone", "parked", "takers")

    def __init__(self) -> None:
        self.takers: dict[Path, Take] = {}
        self.gone: set[Path] = set()
        self.parked: dict[Path, list[tuple[int, Any, int]]] = {}


class _Waiting:
    """What waits of one sender."""

    __slots__ = ("messages", "size_bytes")

    def __init__(self) -> None:
        self.messages = 0
        self.size_bytes = 0


class Children:
    """Those of all epochs that this node takes part in. Paths are relative to the Outbox's owner."""

    def __init__(self, config: ReliableConfig) -> None:
        self._config = config
        self._epochs: dict[int, _Inside] = {}
        self._waiting: dict[int, _Waiting] = {}

    def parked(self, sender: int) -> tuple[int, int]:
        """How many messages, and bytes, of this sender wait."""
        waiting = self._waiting.get(sender)
        return (0, 0) if waiting is None else (waiting.messages, waiting.size_bytes)

    def enter(self, epoch: int, path: Path, take: Take) -> None:
        """A core is there. It takes what waited for it."""
        inside = self._inside(epoch)
        inside.takers[path] = take
        for sender, message, size in inside.parked.pop(path, ()):
            self._let_go(sender, size)
            take(sender, message)

    def leave(self, epoch: int, path: Path) -> None:
        """A core is retired, and all below it."""
        inside = self._inside(epoch)
        inside.gone.add(path)
        for below in [taker for taker in inside.takers if taker[: len(path)] == path]:
            del inside.takers[below]
        self._unpark(inside, [parked for parked in inside.parked if parked[: len(path)] == path])

    def drop_below(self, epoch: int) -> None:
        """Nothing is taken for epochs below this one any more."""
        for old in [each for each in self._epochs if each < epoch]:
            inside = self._epochs.pop(old)
            self._unpark(inside, list(inside.parked))

    def hand(self, sender: int, letter: Letter) -> bool:
        """Give a message to its core. False where it is not taken."""
        inside = self._inside(letter.epoch)
        path = letter.path
        take = inside.takers.get(path)
        if take is not None:
            take(sender, letter.message)
            return True
        if any(path[:depth] in inside.gone for depth in range(1, len(path) + 1)):
            return True
        return self._park(inside, sender, letter)

    def _inside(self, epoch: int) -> _Inside:
        inside = self._epochs.get(epoch)
        if inside is None:
            inside = self._epochs[epoch] = _Inside()
        return inside

    def _park(self, inside: _Inside, sender: int, letter: Letter) -> bool:
        waiting = self._waiting.get(sender) or _Waiting()
        size = len(_encode(letter))
        if waiting.messages >= self._config.parked_max or waiting.size_bytes + size > self._config.parked_bytes_max:
            return False
        self._waiting[sender] = waiting
        waiting.messages += 1
        waiting.size_bytes += size
        inside.parked.setdefault(letter.path, []).append((sender, letter.message, size))
        return True

    def _unpark(self, inside: _Inside, paths: list[Path]) -> None:
        for path in paths:
            for sender, _, size in inside.parked.pop(path):
                self._let_go(sender, size)

    def _let_go(self, sender: int, size: int) -> None:
        waiting = self._waiting[sender]
        waiting.messages -= 1
        waiting.size_bytes -= size
        if not waiting.messages:
            del self._waiting[sender]
