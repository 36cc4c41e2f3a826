"""MemoryStore: an ordered store of bytes that outlives its process, and forgets in a crash what was not synced.

It stands for a store on disk that is not synced after each batch. A batch is atomic. A crash keeps some of the batches
written since the last sync, how many is random: never a later one without all earlier ones, never half of one.

How it works. The content is a dict beside its sorted keys. Each batch since the last sync left behind what it replaced,
so that a crash can undo the newest ones. Beyond ``UNSYNCED_BATCHES_MAX`` the oldest becomes durable by itself, as pages
do that the system writes back.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from typing import Final

from quorate.kernel import Rng

UNSYNCED_BATCHES_MAX: Final = 4096


class MemoryStore:
    """Of one node. A Subject hands it to each life's App, and calls ``crash`` from its ``crashed``."""

    __slots__ = ("_keys", "_undo", "_values", "batches_lost")

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._undo: deque[list[tuple[bytes, bytes | None]]] = deque(maxlen=UNSYNCED_BATCHES_MAX)
        """By batch that is not synced, what its keys held before it."""
        self.batches_lost = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, if it has one."""
        return self._values.get(key)

    def items(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """The keys that begin so, in order, with their values."""
        keys, found = self._keys, []
        for at in range(bisect_left(keys, prefix), len(keys)):
            if not keys[at].startswith(prefix):
                break
            found.append((keys[at], self._values[keys[at]]))
        return found

    def write(self, batch: Mapping[bytes, bytes | None]) -> None:
        """Change keys together; None removes one. Visible at once, durable after ``sync``."""
        self._undo.append([(key, self._values.get(key)) for key in batch])
        for key, value in batch.items():
            self._put(key, value)

    def sync(self) -> None:
        """All that was written so far is durable."""
        self._undo.clear()

    def crash(self, rng: Rng) -> None:
        """Lose all batches from a random one on, of those that are not synced. What is left is durable."""
        kept = int(rng.random() * (len(self._undo) + 1))
        self.batches_lost += len(self._undo) - kept
        while len(self._undo) > kept:
            for key, value in self._undo.pop():
                self._put(key, value)
        self._undo.clear()

    def _put(self, key: bytes, value: bytes | None) -> None:
        if value is not None:
            if key not in self._values:
                insort(self._keys, key)
            self._values[key] = value
        elif self._values.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]
