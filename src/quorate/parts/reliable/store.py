"""Store: what this node has said in each epoch, kept once for all receivers, bounded in messages and bytes.

The oldest epoch makes room for new messages, as long as this node has left it. What the epochs that it is in have no
room for is sent once and not kept. Either way ``lacks`` knows who can no longer have everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from quorate.kernel import Path
from quorate.parts.reliable.messages import NUMBERS_MAX, ReliableConfig

_encode: Final = msgspec.msgpack.Encoder().encode


class SentMessage(msgspec.Struct, frozen=True):
    """One message. ``to`` is a mask of nodes, ``tick`` the last beat before it; ``is_kept``: it can be sent again."""

    to: int
    tick: int
    path: Path
    message: Any
    size_bytes: int
    is_kept: bool = True


class _Said:
    """One epoch. The number of an entry is its place."""

    __slots__ = ("entries", "lost", "messages", "size_bytes")

    def __init__(self) -> None:
        self.entries: list[SentMessage] = []
        self.messages = 0
        self.size_bytes = 0
        self.lost = 0
        """The nodes for whom there was something that was not kept."""


class Store:
    """All epochs from ``floor`` on. ``messages`` and ``size_bytes`` are what it holds in all."""

    def __init__(self, config: ReliableConfig) -> None:
        self._config = config
        self._epochs: dict[int, _Said] = {}
        self.floor = 0
        self.messages = 0
        self.size_bytes = 0

    def first(self) -> int | None:
        """The oldest epoch of which there is something."""
        return min(self._epochs, default=None)

    def add(self, epoch: int, current: int, to: int, tick: int, path: Path, message: Any) -> int | None:
        """Keep a message of ``epoch``, while this node is in ``current``. Returns its number; None: it gets none."""
        said = self._epochs.get(epoch)
        if said is None:
            said = self._epochs[epoch] = _Said()
        number = len(said.entries)
        if number >= NUMBERS_MAX:
            said.lost |= to
            return None
        size = len(_encode(message))
        has_room = self._make_room(size, current)
        if epoch < self.floor:  # it made room itself
            return None
        if not has_room:
            said.lost |= to
            said.entries.append(SentMessage(to, tick, path, None, 0, is_kept=False))
            return number
        said.entries.append(SentMessage(to, tick, path, message, size))
        said.messages += 1
        said.size_bytes += size
        self.messages += 1
        self.size_bytes += size
        return number

    def drop_below(self, floor: int) -> None:
        """Forget all epochs below ``floor``."""
        if floor <= self.floor:
            return
        self.floor = floor
        for epoch in [epoch for epoch in self._epochs if epoch < floor]:
            said = self._epochs.pop(epoch)
            self.messages -= said.messages
            self.size_bytes -= said.size_bytes

    def sent(self, epoch: int) -> int:
        """How many numbers of the epoch were given."""
        said = self._epochs.get(epoch)
        return 0 if said is None else len(said.entries)

    def lacks(self, epoch: int, node: int) -> bool:
        """Whether a node in this epoch can no longer have all that was said to it."""
        said = self._epochs.get(epoch)
        return epoch < self.floor or (said is not None and bool(said.lost >> node & 1))

    def missing(self, epoch: int, node: int, acknowledged: int) -> Iterator[tuple[int, SentMessage]]:
        """What is kept for the node and not among the acknowledged numbers, with its number, ascending."""
        said = self._epochs.get(epoch)
        if said is None:
            return
        rest = ((1 << len(said.entries)) - 1) & ~acknowledged
        while rest:
            lowest = rest & -rest
            rest ^= lowest
            number = lowest.bit_length() - 1
            entry = said.entries[number]
            if entry.is_kept and entry.to >> node & 1:
                yield number, entry

    def _make_room(self, size: int, current: int) -> bool:
        config = self._config
        while self.messages >= config.messages_max or self.size_bytes + size > config.bytes_max:
            oldest = min(self._epochs)
            if oldest >= current:
                return False
            self.drop_below(oldest + 1)
        return True
