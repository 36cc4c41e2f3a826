"""Log: the entries since the last snapshot, in memory, by index.

The journal makes entries durable; this is the copy that a protocol reads. Indexes start at 1. What lies at or below
``base_index`` has been replaced by a snapshot, of which only the term of its last entry is still known.
"""

from collections.abc import Iterator, Sequence

import msgspec

from quorate.parts.wire import Index, Term

COMMAND = 0
NOOP = 1
CONFIGURATION = 2
RETURN = 3
WITHHELD = 4
"""Kinds of entries. ``configuration.py`` has configurations, ``leaderlog/returns.py`` returns. Withheld: a command of
which a witness knows index and term, and not the data (``protocols/raft/witnesses.py``)."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One slot of the log: the term of the leader that made it, its kind, and a command as opaque bytes."""

    term: Term
    data: bytes = b""
    kind: int = COMMAND

    @property
    def size_bytes(self) -> int:
        """What the entry counts for in limits: its data and a little for the rest."""
        return len(self.data) + ENTRY_OVERHEAD_BYTES


ENTRY_OVERHEAD_BYTES = 16


def size_of(entries: Sequence[Entry]) -> int:
    """The sum of their ``size_bytes``. A loop beats ``sum`` where they are few, as they mostly are."""
    size_bytes = ENTRY_OVERHEAD_BYTES * len(entries)
    for entry in entries:
        size_bytes += len(entry.data)
    return size_bytes


class Log:
    """Entries ``base_index + 1`` to ``last_index``."""

    __slots__ = ("_entries", "base_index", "base_term", "last_index", "last_term", "size_bytes")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self.base_index: Index = 0
        self.base_term: Term = 0
        self.last_index: Index = 0
        """The index of the newest entry, or of the snapshot where there is none. A plain field: it is read so often."""
        self.last_term: Term = 0
        """The term of the newest entry, or of the snapshot."""
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def term_at(self, index: int) -> int | None:
        """The term of the entry at ``index``; None where the log does not know it."""
        position = index - self.base_index
        if 0 < position <= len(self._entries):
            return self._entries[position - 1].term
        return self.base_term if position == 0 else None

    def slice(self, first: int, last: int) -> list[Entry]:
        """Entries ``first`` to ``last``, both included; both must be there."""
        assert self.base_index < first <= last + 1 <= self.last_index + 1, (first, last)
        return self._entries[first - self.base_index - 1 : last - self.base_index]

    def batch(self, first: int, count_max: int, bytes_max: int) -> list[Entry]:
        """Entries from ``first`` on, as many as fit both limits, but at least one if there is one."""
        assert first > self.base_index, (first, self.base_index)
        start = first - self.base_index - 1
        entries = self._entries[start : start + count_max]
        size = 0
        for position, entry in enumerate(entries):
            size += len(entry.data) + ENTRY_OVERHEAD_BYTES
            if size > bytes_max and position > 0:
                return entries[:position]
        return entries

    def tail(self, index: int, count_max: int, bytes_max: int) -> int:
        """The lowest index from which those after it, up to ``index``, fit both limits; ``base_index`` at least."""
        lowest = max(self.base_index, index - count_max)
        while index > lowest:
            bytes_max -= len(self._entries[index - self.base_index - 1].data) + ENTRY_OVERHEAD_BYTES
            if bytes_max < 0:
                break
            index -= 1
        return index

    def batches(self, count_max: int, bytes_max: int) -> Iterator[tuple[int, list[Entry]]]:
        """All entries, in lists as ``batch`` makes them, each after the index of its first."""
        first = self.base_index + 1
        while first <= self.last_index:
            entries = self.batch(first, count_max, bytes_max)
            yield first, entries
            first += len(entries)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries after the last."""
        self._entries.extend(entries)
        self._note_last()
        self.size_bytes += size_of(entries)

    def truncate(self, first: int) -> None:
        """Remove the entry at ``first`` and all after it."""
        assert first > self.base_index, (first, self.base_index)
        position = first - self.base_index - 1
        self.size_bytes -= size_of(self._entries[position:])
        del self._entries[position:]
        self._note_last()

    def compact(self, index: int, term: int) -> None:
        """A snapshot stands for everything up to ``index``. What follows it stays if the log agrees with it there."""
        assert index >= self.base_index, (index, self.base_index)
        if self.term_at(index) == term:
            dropped = self._entries[: index - self.base_index]
            self.size_bytes -= size_of(dropped)
            del self._entries[: index - self.base_index]
        else:
            self._entries.clear()
            self.size_bytes = 0
        self.base_index, self.base_term = index, term
        self._note_last()

    def _note_last(self) -> None:
        self.last_index = self.base_index + len(self._entries)
        self.last_term = self._entries[-1].term if self._entries else self.base_term

    def last_at_or_below_term(self, index: int, term: int) -> int:
        """The highest index at or below ``index`` whose entry has a term of at most ``term``."""
        index = min(index, self.last_index)
        while index > self.base_index and self._entries[index - self.base_index - 1].term > term:
            index -= 1
        return index
