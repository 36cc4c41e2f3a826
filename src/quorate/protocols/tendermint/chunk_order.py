"""ChunkOrder: which chunk of a snapshot the app is given next, and the one that is on its way, part by part.

They are given in order. What the app wants again comes first, the lowest number before the others. One chunk is in
memory at a time, so one that is wanted again is fetched again.

Source: CometBFT 0.38, ``spec/abci/abci++_methods.md`` (ApplySnapshotChunk), ``statesync/chunks.go``.
"""

from __future__ import annotations

from collections.abc import Collection


class ChunkOrder:
    """Of one attempt."""

    def __init__(self, count: int, part_bytes: int) -> None:
        self._count = count
        self._part_bytes = part_bytes
        self._first_new = 0
        self._again: set[int] = set()
        self._data = bytearray()
        self._total = -1

    @property
    def next(self) -> int | None:
        """The number of the next chunk; None: the app has all."""
        if self._again:
            return min(self._again)
        return self._first_new if self._first_new < self._count else None

    @property
    def offset(self) -> int:
        """Of the part of it that is missing."""
        return len(self._data)

    @property
    def whole(self) -> bytes | None:
        """The chunk, when all of it is here."""
        return bytes(self._data) if len(self._data) == self._total else None

    def forget_parts(self) -> None:
        """They are wrong, or of a node that sends no more."""
        self._data.clear()
        self._total = -1

    def add(self, total_bytes: int, data: bytes) -> bool:
        """The part at ``offset``; whether it may be, by its length."""
        if self._total not in (-1, total_bytes) or len(data) != min(self._part_bytes, total_bytes - self.offset):
            return False
        self._total = total_bytes
        self._data += data
        return True

    def applied(self) -> None:
        """The app took the next one."""
        number = self.next
        assert number is not None, "there was a chunk to take"
        self._again.discard(number)
        self._first_new = max(self._first_new, number + 1)
        self.forget_parts()

    def fetch_again(self, numbers: Collection[int]) -> None:
        """Chunks that the app wants anew, of those that it was given."""
        given = {index for index in numbers if 0 <= index < self._first_new}
        number = self.next
        if given or (number is not None and number in numbers):
            self.forget_parts()
        self._again |= given
