"""The multi-version store: etcd's mvcc on an index in memory and records on disk.

One *transaction* (a put, a delete, or a Txn's operations together) is one revision; its changes are numbered
within it, and what it reads sees what it has already written. A fresh store is at revision 1 and its first change
makes revision 2, as etcd's does.

Compaction is two things. The *rule* is at once: reads before the compacted revision are refused. The *removal* is
a sweep over the records up to it, a share with each commit, so that no single command stalls the replica. What a
client or another replica can see follows the rule alone.

Readers that take long hold a `View`. The sweep goes on under it, up to what was compacted when the view was made: a
store whose sweep waited for its readers would grow for as long as somebody always reads.
"""

from __future__ import annotations

from pathlib import Path
from weakref import WeakSet

import msgspec

from quorate.machines.kv import refusals
from quorate.machines.kv.chronicle import Chronicle
from quorate.machines.kv.commands import KeyValue, encode
from quorate.machines.kv.index import KeyIndex, first_stamp
from quorate.machines.kv.revisions import MAP_BYTES, Revisions, from_key, to_key

decode_record = msgspec.msgpack.Decoder(KeyValue).decode
_SWEEP_RECORDS = 256
_SWEEP_BYTES = 256 << 10
"""What the sweep looks at with each commit, beside twice what that one adds. To look at a record is to read it."""
_ABSENT = KeyValue(b"")


class _RecordKey(msgspec.Struct, array_like=True, gc=False):
    """A record's first field. What follows it in the array is skipped, not decoded."""

    key: bytes


decode_record_key = msgspec.msgpack.Decoder(_RecordKey).decode


class View:
    """A promise that what can be read of the records up to a revision stays readable.

    It ends with `close`, or with its last reference.
    """

    def __init__(self, revision: int, compact_revision: int, records: Revisions, index: KeyIndex) -> None:
        self.revision = revision
        self.compact_revision = compact_revision
        self.records = records
        self._index = index
        self.closed = False

    def is_readable(self, key: bytes, record: bytes) -> bool:
        """Whether a record is part of what can be read; others are there until the sweep finds them. Any thread."""
        stamp, compacted = from_key(key), self.compact_revision
        if stamp >= first_stamp(compacted):
            return True
        return not self._index.is_garbage(decode_record_key(record).key, stamp, compacted)

    @property
    def held(self) -> tuple[int, int]:
        """The revision, and the compacted one."""
        assert not self.closed, "nothing is held any more"
        return self.revision, self.compact_revision

    def close(self) -> None:
        self.closed = True


class KvStore:
    """Keys, their versions, and the revision. One thread, except what `View` allows."""

    def __init__(self, path: Path, map_bytes: int = MAP_BYTES, *, is_kept: bool = False) -> None:
        """Create an empty store whose records live in a new file at `path`; or in the one there that ``is_kept``.

        Raises what `Revisions` does.
        """
        self.revision = 1
        self.compact_revision = -1
        self.index = KeyIndex()
        self.records = Revisions(path, map_bytes, is_kept=is_kept)
        self.chronicle = Chronicle()
        self.is_staging = False
        """Whether the open transaction is made in steps: until it is over, nobody sees anything of it."""
        self._changes = 0  # in the transaction that is open
        self.swept = 0
        """The sweep has passed every stamp below."""
        self._views: WeakSet[View] = WeakSet()

    # Writing: any number of put and delete, then end_transaction.

    @property
    def current(self) -> int:
        """The revision a read sees now: the open transaction's own, once it has changed something."""
        return self.revision + 1 if self._changes and not self.is_staging else self.revision

    def is_newest(self, revision: int) -> bool:
        """Whether what the index knows of each key last is what a read at this revision sees."""
        return revision == self.current and not self.is_staging

    def put(self, key: bytes, value: bytes, lease: int) -> None:
        """Set a key in the open transaction."""
        revision = self.revision + 1
        stamp = revision << 32 | self._changes << 1
        self._changes += 1
        create, version = self.index.put(key, stamp, revision)
        # The tuple encodes as a KeyValue does, and is cheaper to make.
        self.records.pending[stamp.to_bytes(12, "big")] = encode((key, value, create, revision, version, lease))

    def delete(self, key: bytes, end: bytes) -> int:
        """Delete an etcd range in the open transaction; return how many keys that were."""
        revision, pending = self.revision + 1, self.records.pending
        stamp = revision << 32 | self._changes << 1 | 1
        doomed = self.index.delete(key, end, stamp)
        self._changes += len(doomed)
        for k in doomed:
            pending[stamp.to_bytes(12, "big")] = encode((k, b"", 0, revision, 0, 0))
            stamp += 2
        return len(doomed)

    def end_transaction(self) -> None:
        """Close the open transaction. One without a change takes no revision."""
        if self._changes:
            self.revision += 1
            self._changes = 0
            self._keep_window(self.chronicle.due(self.revision, self.compact_revision))

    def rollback(self) -> None:
        """Undo the open transaction, change by change, newest first."""
        records, revision = self.records, self.revision + 1
        while self._changes:
            self._changes -= 1
            live = revision << 32 | self._changes << 1
            record = records.pending.pop(to_key(live), None) or records.pending.pop(to_key(live | 1))
            key = decode_record_key(record).key
            before = self.key_value(self.index.before(key, live)) or _ABSENT
            self.index.revert(key, before.create_revision, before.version)

    def compact(self, revision: int) -> None:
        """Forget the history before a revision. Raises KvError: already compacted, or in the future."""
        if revision <= self.compact_revision:
            raise refusals.compacted()
        if revision > self.revision:
            raise refusals.future_revision()
        self.compact_revision = revision
        self.chronicle.forget(revision)

    def passes(self, time_ns: int) -> None:
        """The log says that it is so late."""
        self.chronicle.mark(self.revision, time_ns)
        self._keep_window(self.chronicle.aged(time_ns))

    def keep_history(self, revisions_max: int, age_s_max: int) -> None:
        """From now on keep so much."""
        self.chronicle.revisions_max, self.chronicle.age_s_max = revisions_max, age_s_max
        self._keep_window(self.chronicle.due(self.revision, self.compact_revision))

    def _keep_window(self, revision: int) -> None:
        """What is older than the window is forgotten, as if somebody had said so at this place of the log."""
        if revision and revision > self.compact_revision:
            self.compact_revision = revision
            self.chronicle.forget(revision)

    def commit(self) -> None:
        """Write what the transactions left, and sweep on. Raises OSError; what wasn't written waits for the next."""
        if not self.sweeping:
            self.records.flush()
            return
        pending = self.records.pending
        share = _SWEEP_RECORDS + 2 * len(pending)  # more than the batch adds, so the sweep ends
        share_bytes = _SWEEP_BYTES + 2 * sum(map(len, pending.values()))
        self.records.flush(share)
        self._sweep(share, share_bytes)

    # Reading.

    def check_revision(self, revision: int) -> None:
        """Raises KvError if the store can't be read as of a revision (<= 0: the current one)."""
        if revision > self.current:
            raise refusals.future_revision()
        if 0 < revision < self.compact_revision:
            raise refusals.compacted()

    def record(self, stamp: int) -> bytes:
        """The encoded `KeyValue` of a stamp."""
        return self.records.get(stamp)

    def key_value(self, stamp: int) -> KeyValue | None:
        """The version a stamp names; None for one with the deletion bit."""
        return None if stamp & 1 else decode_record(self.records.get(stamp))

    def view(self, revision: int = 0, *, like: View | None = None) -> View:
        """Hold what is committed now for a reader, in this thread or another, until the view is closed.

        ``revision``: only up to there, if it is above 0. ``like``: hold what that view does, which is open.
        """
        newest, compacted = (self.revision, self.compact_revision) if like is None else like.held
        view = View(revision or newest, compacted, self.records, self.index)
        self._views.add(view)
        return view

    def close(self, *, waits: bool = True, keeps: bool = False) -> None:
        """Close the records, as ``Revisions.close``. A view of them becomes unreadable."""
        self.records.close(waits=waits, keeps=keeps)

    # Sweeping.

    @property
    def sweeping(self) -> bool:
        """Whether records that compaction made unreachable may still be on disk, and no view holds them."""
        return self.swept < first_stamp(self._sweepable) or self.records.doomed > 0

    @property
    def _sweepable(self) -> int:
        """The revision up to which the sweep may go: views read as of a compaction that may be older."""
        return min([self.compact_revision, *(view.compact_revision for view in self._views if not view.closed)])

    def _sweep(self, share: int, share_bytes: int) -> None:
        """Look at the next records up to the compacted revision, and doom what their keys no longer need."""
        if self.records.doomed >= share:
            return
        revision = self._sweepable
        for key, record in self.records.scan(self.swept, first_stamp(revision + 1)):
            if share <= 0 or share_bytes <= 0:
                self.swept = from_key(key)
                if share_bytes <= 0:  # then the next are large, too, and where memory is short on the disk
                    self.records.touch_soon(self.swept, first_stamp(revision + 1))
                return
            share -= 1
            share_bytes -= len(record)
            self.records.doom(self.index.prune(decode_record_key(record).key, revision))
        self.swept = max(self.swept, first_stamp(revision))  # its own records are due at the next compaction
