"""The key index: which versions every key has, in memory, as etcd's treeIndex is.

A version is named by its *stamp*: revision, the number of the change within its transaction, and whether it is a
deletion, packed into one integer that sorts in the order of the changes. As 12 bytes, big end first, the same stamp
is the record's key on disk.

The index is what makes a write cheap: the previous version of a random key costs one dict look-up, where a second
table on disk costs a path of pages copied and written for each put. It takes about half a kilobyte a key (with a key
of 256 bytes) and some 45 bytes for each older version until it is compacted away.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from heapq import merge

import msgspec

from quorate.machines.kv.sortedkeys import SortedKeys

NONE = 1
"""The stamp of a version that never was. It has the deletion bit, so one test serves both."""

STAMP_BYTES = 12


def first_stamp(revision: int) -> int:
    """The lowest stamp of a revision."""
    return revision << 32


def stamp_revision(stamp: int) -> int:
    """The revision of a stamp, its deletion bit or not."""
    return stamp >> 32


class KeyState(msgspec.Struct, gc=False):
    """A key's latest version, and the stamps of the older ones (oldest first; None: no older one)."""

    stamp: int
    create_revision: int
    version: int
    past: list[int] | None = None


class KeyIndex:
    """All keys that have a version, live or deleted. One thread; another may ask ``is_garbage`` meanwhile."""

    __slots__ = ("_dead", "_live", "_states")

    def __init__(self) -> None:
        self._states: dict[bytes, KeyState] = {}
        self._live = SortedKeys()
        self._dead = SortedKeys()  # deleted, but with history

    def get(self, key: bytes) -> KeyState | None:
        """What is known of a key that has a version, be it a deletion; None for any other."""
        return self._states.get(key)

    def latest(self, key: bytes) -> int:
        """The stamp of the key's current version, or one with the deletion bit."""
        state = self._states.get(key)
        return NONE if state is None else state.stamp

    def put(self, key: bytes, stamp: int, revision: int) -> tuple[int, int]:
        """Record a put; return the key's create revision and version."""
        state = self._states.get(key)
        if state is None:
            self._states[key] = KeyState(stamp, revision, 1)
            self._live.add(key)
            return revision, 1
        if state.past is None:
            state.past = [state.stamp]
        else:
            state.past.append(state.stamp)
        if state.stamp & 1:
            self._dead.remove(key)
            self._live.add(key)
            state.create_revision = revision  # the version is 0 already
        state.stamp = stamp
        state.version += 1
        return state.create_revision, state.version

    def delete(self, key: bytes, end: bytes, stamp: int) -> list[bytes]:
        """Record the deletion of a range, the first with this stamp and the next with the next; return its keys."""
        if end:
            keys = self._live.take_range(key, None if end == b"\0" else end)
        elif self.latest(key) & 1:
            return []
        else:
            keys = [key]
            self._live.remove(key)
        for k in keys:
            state = self._states[k]
            if state.past is None:
                state.past = [state.stamp]
            else:
                state.past.append(state.stamp)
            state.stamp = stamp
            state.create_revision = state.version = 0
            self._dead.add(k)
            stamp += 2  # the bit below is the deletion's
        return keys

    def at(self, key: bytes, revision: int) -> int:
        """The stamp of the key's version as of a revision, or one with the deletion bit."""
        state = self._states.get(key)
        if state is None:
            return NONE
        bound = first_stamp(revision + 1)
        if state.stamp < bound:
            return state.stamp
        older = bisect_left(state.past, bound) if state.past else 0
        return state.past[older - 1] if state.past and older else NONE

    def before(self, key: bytes, stamp: int) -> int:
        """The stamp of the version that `stamp` replaced, or one with the deletion bit."""
        state = self._states.get(key)
        if state is None or state.past is None:
            return NONE
        older = bisect_left(state.past, stamp)
        return state.past[older - 1] if older else NONE

    def live_keys(self, key: bytes, end: bytes) -> Iterator[bytes]:
        """The current keys of an etcd range, in order."""
        if not end:
            return iter(() if self.latest(key) & 1 else (key,))
        return self._live.irange(key, None if end == b"\0" else end)

    def live_count(self, key: bytes, end: bytes) -> int:
        """How many keys from `key` to before `end` are there now (`b""`: that key alone; `b"\\0"`: all from it on)."""
        if not end:
            return 0 if self.latest(key) & 1 else 1
        return self._live.count(key, None if end == b"\0" else end)

    def count(self, key: bytes, end: bytes) -> int:
        """How many keys of a range (not a single key) have a version, live or deleted."""
        stop = None if end == b"\0" else end
        return self._live.count(key, stop) + self._dead.count(key, stop)

    def versions(self, key: bytes, end: bytes, revision: int, *, is_newest: bool) -> Iterator[tuple[bytes, int]]:
        """The keys of a range (not a single key) in order, each with its stamp as of a revision.

        A stamp with the deletion bit: the key was not there then. ``is_newest``: no key has changed since that
        revision. The index mustn't change meanwhile.
        """
        stop = None if end == b"\0" else end
        if is_newest:
            states = self._states
            return ((k, states[k].stamp) for k in self._live.irange(key, stop))
        at = self.at
        return ((k, at(k, revision)) for k in merge(self._live.irange(key, stop), self._dead.irange(key, stop)))

    def is_garbage(self, key: bytes, stamp: int, compact_revision: int) -> bool:
        """Whether a compaction makes a version unreachable: older than the compacted revision, and by then
        replaced or deleted. What happened at that very revision stays, for whoever watches from it on.

        Any thread, as long as nobody prunes at a later revision (``KvStore`` sees to it while there is a view).
        """
        if stamp >= first_stamp(compact_revision):
            return False
        return bool(stamp & 1) or self._at(key, first_stamp(compact_revision + 1)) != stamp

    def _at(self, key: bytes, bound: int) -> int:
        """As ``at``, while another thread may change the key between any two steps.

        The newest stamp is read first, as a change puts it among the older ones before it takes its place. Between the
        look-up and the reading older ones may be pruned; what stands in that place then is above the bound, or nothing.
        """
        while (state := self._states.get(key)) is not None:
            newest, past = state.stamp, state.past
            if newest < bound:
                return newest
            if not past or not (older := bisect_left(past, bound)):
                return NONE
            found = past[older - 1 : older]
            if found and found[0] < bound:
                return found[0]
        return NONE

    def revert(self, key: bytes, create_revision: int, version: int) -> int:
        """Forget the key's latest version; return the stamp of the one before, which gets these numbers back."""
        state = self._states[key]
        if state.past is None:
            del self._states[key]
            self._live.remove(key)
            return NONE
        before = state.past[-1]
        if state.stamp & 1:
            self._dead.remove(key)
            self._live.add(key)
        elif before & 1:
            self._live.remove(key)
            self._dead.add(key)
        state.stamp, state.create_revision, state.version = before, create_revision, version
        state.past.pop()  # last: another thread finds it in one place or the other
        if not state.past:
            state.past = None
        return before

    def prune(self, key: bytes, revision: int) -> list[int]:
        """Forget the key's versions that a compaction at `revision` makes unreachable; return their stamps.

        Oldest first: a put must not outlive the deletion that followed it.
        """
        state = self._states.get(key)
        if state is None:
            return []
        kept = self.at(key, revision)
        bound = first_stamp(revision)  # what happened at the revision itself stays readable
        gone: list[int] = []
        if state.past:
            older = bisect_left(state.past, bound)
            survives = kept < bound and not kept & 1 and kept != state.stamp
            cut = older - 1 if survives else older
            gone = state.past[:cut]
            del state.past[:cut]
            if not state.past:
                state.past = None
        if state.stamp < bound and state.stamp & 1:
            gone.append(state.stamp)
            del self._states[key]
            self._dead.remove(key)
        return gone

    def load(self, key: bytes, stamp: int, create_revision: int, version: int) -> None:
        """Add one version while loading, in the order of stamps. `loaded` ends it."""
        state = self._states.get(key)
        if state is None:
            self._states[key] = KeyState(stamp, create_revision, version)
            return
        if state.past is None:
            state.past = [state.stamp]
        else:
            state.past.append(state.stamp)
        state.stamp, state.create_revision, state.version = stamp, create_revision, version

    def loaded(self) -> None:
        """Put the loaded keys in order."""
        self._live = SortedKeys(k for k, s in self._states.items() if not s.stamp & 1)
        self._dead = SortedKeys(k for k, s in self._states.items() if s.stamp & 1)
