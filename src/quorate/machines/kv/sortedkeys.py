"""An ordered set of keys in memory: a list of short sorted lists.

An insert moves at most one short list's worth of pointers, which in CPython beats any tree of Python objects up to
tens of millions of keys. The rank of a key is a sum of lengths, kept until the set changes, so counting a range doesn't
walk it.

New keys wait unsorted until somebody looks, or until they are many: inserted in order they find their neighbours in the
processor's cache, where each alone would fetch its own from memory.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import accumulate

_BUCKET_KEYS = 512
_FRESH_KEYS_MAX = 2048
"""Some milliseconds of sorting."""


class SortedKeys:
    """A set of byte strings, kept in order."""

    __slots__ = ("_buckets", "_fresh", "_lasts", "_ranks")

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        """Build from `keys` in any order, without duplicates."""
        ordered = sorted(keys)
        step = _BUCKET_KEYS
        self._buckets = [ordered[i : i + step] for i in range(0, len(ordered), step)]
        self._lasts = [bucket[-1] for bucket in self._buckets]
        self._fresh: list[bytes] = []
        self._ranks: list[int] | None = None
        """How many keys are before each bucket, and in all; None: not known since the last change."""

    def __len__(self) -> int:
        return sum(map(len, self._buckets)) + len(self._fresh)

    def add(self, key: bytes) -> None:
        """Add a key that isn't there yet."""
        self._fresh.append(key)
        if len(self._fresh) >= _FRESH_KEYS_MAX:
            self._sort_in()

    def _sort_in(self) -> None:
        """Put the keys that wait into their places."""
        if not self._fresh:
            return
        self._ranks = None
        fresh, self._fresh = self._fresh, []
        fresh.sort()
        for key in fresh:
            self._insert(key)

    def _insert(self, key: bytes) -> None:
        lasts = self._lasts
        i = bisect_left(lasts, key)
        if i == len(lasts):
            if not lasts:
                self._buckets.append([key])
                lasts.append(key)
                return
            i -= 1
            lasts[i] = key
            bucket = self._buckets[i]
            bucket.append(key)
        else:
            bucket = self._buckets[i]
            insort(bucket, key)
        if len(bucket) > 2 * _BUCKET_KEYS:
            half = bucket[_BUCKET_KEYS:]
            del bucket[_BUCKET_KEYS:]
            self._buckets.insert(i + 1, half)
            lasts.insert(i, bucket[-1])

    def remove(self, key: bytes) -> None:
        """Remove a key. Raises KeyError if it isn't there."""
        self._sort_in()
        i = bisect_left(self._lasts, key)
        bucket = self._buckets[i] if i < len(self._lasts) else []
        j = bisect_left(bucket, key)
        if j == len(bucket) or bucket[j] != key:
            raise KeyError(key)
        self._ranks = None
        del bucket[j]
        if not bucket:
            del self._buckets[i], self._lasts[i]
        elif j == len(bucket):
            self._lasts[i] = bucket[-1]

    def take_range(self, start: bytes, end: bytes | None) -> list[bytes]:
        """Remove the keys in [start, end), `end` None being no end, and return them in order."""
        self._sort_in()
        self._ranks = None
        taken: list[bytes] = []
        first = i = bisect_left(self._lasts, start)
        while i < len(self._buckets):
            bucket = self._buckets[i]
            low = bisect_left(bucket, start)
            high = len(bucket) if end is None else bisect_left(bucket, end)
            taken += bucket[low:high]
            is_last = high < len(bucket)
            del bucket[low:high]
            i += 1
            if is_last:
                break
        kept = [bucket for bucket in self._buckets[first:i] if bucket]
        self._buckets[first:i] = kept
        self._lasts[first:i] = [bucket[-1] for bucket in kept]
        return taken

    def irange(self, start: bytes, end: bytes | None) -> Iterator[bytes]:
        """The keys in [start, end) in order; `end` None is no end. The set mustn't change meanwhile."""
        self._sort_in()
        i = bisect_left(self._lasts, start)
        while i < len(self._lasts):
            bucket = self._buckets[i]
            low = bisect_left(bucket, start)
            if end is not None and self._lasts[i] >= end:
                yield from bucket[low : bisect_left(bucket, end)]
                return
            yield from bucket[low:]
            i += 1

    def count(self, start: bytes, end: bytes | None) -> int:
        """How many keys lie in [start, end)."""
        self._sort_in()
        ranks = self._ranks
        if ranks is None:
            ranks = self._ranks = list(accumulate(map(len, self._buckets), initial=0))
        last = ranks[-1] if end is None else self._rank(ranks, end)
        return max(0, last - self._rank(ranks, start))

    def _rank(self, ranks: list[int], key: bytes) -> int:
        i = bisect_left(self._lasts, key)
        return ranks[i] + bisect_left(self._buckets[i], key) if i < len(self._lasts) else ranks[i]
