"""The key-value state machine: encoded commands in, encoded results out, over a `KvStore`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, Self

import msgspec

from quorate.kernel import StateMark
from quorate.kernel.app import Steps
from quorate.machines.kv import marks, refusals, snapshot, txn
from quorate.machines.kv.commands import (
    AskHistory,
    Compact,
    CompactResult,
    DeleteRange,
    Digest,
    DigestResult,
    Error,
    Events,
    EventsResult,
    HistoryResult,
    KeepHistory,
    PlanRollback,
    Put,
    PutResult,
    Range,
    Rollback,
    RollbackPlan,
    RollbackResult,
    Txn,
    decode_command,
    decode_query,
    encode,
)
from quorate.machines.kv.costs import Costs
from quorate.machines.kv.reading import Counts, RawRangeResult, digesting, finish, getting, ranging, reading_events
from quorate.machines.kv.refusals import KvError
from quorate.machines.kv.revisions import FOLDER_MODE, KEPT, MAP_BYTES, SUFFIX, WORKING, lock_of, remove_table
from quorate.machines.kv.rollback import planning, rolling_back, rolling_back_at_once
from quorate.machines.kv.store import KvStore
from quorate.machines.kv.table_reader import Head, heads
from quorate.machines.state_machine import StateMachine

_NUMBERS: Final = itertools.count()
"""Of files, each of one store in this process: a thread may still remove an old one when its directory has a new."""
_ASKED_EVERY: Final = 4096
_TXN_TAG: Final = b"\x04"
"""The second byte of an encoded Txn. Likewise below."""
_ROLLBACK_TAG: Final = b"\x08"


SHOWN_MAX: Final = 64
"""Rollbacks in one answer."""


class KvMachine(StateMachine):
    """etcd's key-value model as a replicated state machine.

    `directory` holds one file of the store. As `kv-*.lmdb` it is working storage, removed at the next start; when it is
    marked it becomes `store-*.lmdb`, and a start has it as it was at the mark that the journal names (ADR 0042).
    Outside of begin() and commit() each command commits itself.
    """

    kind: ClassVar[str] = "kv"
    stamps: ClassVar[bool] = True
    stages: ClassVar[bool] = True
    keeps_time: ClassVar[bool] = True

    def __init__(self, directory: Path, map_bytes: int = MAP_BYTES, read: marks.TableReader = heads) -> None:
        """It has no files, and can do nothing, until it is opened. ``read``: how a table is read at a start."""
        self._directory = directory
        self._read_table = read
        self._map_bytes = map_bytes
        self._in_batch = self._is_open = False
        self.store: KvStore
        self._aside: set[KvStore] = set()
        """Those of snapshots that were loaded, or of marks, and are not the state yet."""
        self._counts = Counts()
        self._commands: dict[type[Any], Callable[[Any], Any]] = {
            Put: self._put,
            DeleteRange: self._delete,
            Txn: self._txn,
            Compact: self._compact,
            Rollback: self._roll_back,
            KeepHistory: self._keep_history,
        }
        self._queries: dict[type[Any], Callable[[Any, Costs], Generator[None, None, Any]]] = {
            Range: self._range,
            Txn: self._read_txn,
            Events: self._events,
            Digest: self._digest,
            PlanRollback: self._plan,
            AskHistory: self._history,
        }

    @classmethod
    def opened(cls, directory: Path, map_bytes: int = MAP_BYTES) -> Self:
        """One that is open, where nobody else can be in that directory. Raises OSError."""
        machine = cls(directory, map_bytes)
        machine.open()
        return machine

    def open(self) -> None:
        """Start empty. Raises OSError if the directory can't be made or written."""
        self._close_aside()  # a mark was looked at before
        self._directory.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with suppress(PermissionError):  # another user's, who has let this one in
            self._directory.chmod(FOLDER_MODE)
        # A process that was killed may have left a table's lock file alone.
        for stale in self._directory.glob(f"{WORKING}*{SUFFIX}*"):
            stale.unlink(missing_ok=True)
        self.store = KvStore(self._fresh_path(), self._map_bytes)
        self._is_open = True

    def begin(self) -> None:
        self._in_batch = True

    def commit(self) -> None:
        """Write the batch in one LMDB transaction. After an OSError the batch still waits: commit() may be retried."""
        self.store.commit()
        self._in_batch = False

    def apply(self, command: bytes) -> bytes:
        try:
            decoded = decode_command(command)
            result = self._commands[type(decoded)](decoded)
            self.store.end_transaction()
        except KvError as error:
            self.store.rollback()
            result = Error(error.code, error.message)
        if not self._in_batch:
            self.store.commit()
        return encode(result)

    def staged(self, command: bytes) -> Steps | None:
        """Of a rollback, whose keys may be many."""
        return self._rolling_back(command) if command[1:2] == _ROLLBACK_TAG else None

    def _rolling_back(self, command: bytes) -> Steps:
        try:
            decoded = decode_command(command)
            if not isinstance(decoded, Rollback):
                raise refusals.malformed()
            result = yield from rolling_back(self.store, decoded)
        except KvError as error:
            return encode(Error(error.code, error.message))
        return encode(result)

    def stamp(self, command: bytes, wall_ns: int) -> bytes:
        """Of a rollback: when it was asked for."""
        if command[1:2] == _ROLLBACK_TAG:
            with suppress(KvError):
                decoded = decode_command(command)
                if isinstance(decoded, Rollback):
                    return encode(msgspec.structs.replace(decoded, time_ns=wall_ns))
        return command

    def passes(self, wall_ns: int) -> None:
        self.store.passes(wall_ns)

    def refuses(self, command: bytes) -> bytes | None:
        """Of a transaction too large or too deep. What any other command costs is known when it is applied."""
        if command[1:2] != _TXN_TAG:
            return None
        try:
            decoded = decode_command(command)
            if isinstance(decoded, Txn):
                txn.check_txn(decoded)
        except KvError as error:
            return encode(Error(error.code, error.message))
        return None

    def query(self, query: bytes) -> bytes:
        return finish(self.query_steps(query))

    def query_steps(self, query: bytes) -> Generator[None, None, bytes]:
        try:
            decoded = decode_query(query)
            if type(decoded) is Range and not decoded.range_end:
                txn.check_range(decoded)
                self.store.check_revision(decoded.revision)
                return encode(getting(self.store, decoded, self.store.current))
            steps = self._queries[type(decoded)](decoded, Costs(is_command=False))
            try:
                next(steps)
            except StopIteration as end:  # most are answered at once
                return encode(end.value)
            view = self.store.view()
            try:
                yield
                return encode((yield from steps))
            finally:
                view.close()
        except KvError as error:
            return encode(Error(error.code, error.message))

    def history(self) -> tuple[int, int]:
        return self.store.revision, max(self.store.compact_revision, 0)

    def snapshot(self) -> snapshot.SnapshotWriter:
        self.store.records.flush()
        return snapshot.SnapshotWriter(self.store.view(), self.store.chronicle.annals)

    def snapshot_at(self, revision: int) -> Callable[[BinaryIO], None]:
        """Likewise of the state as it was at a revision, with the history before it. Raises KvError."""
        self.store.check_revision(revision)
        self.store.records.flush()
        return snapshot.SnapshotWriter(self.store.view(revision), self.store.chronicle.cut(revision).annals)

    def restore(self, file: BinaryIO) -> Callable[[], None]:
        """As `StateMachine.restore`. A store that is loaded and never adopted keeps its file until `close`."""
        store = snapshot.load_store(file, self._fresh_path(), self._map_bytes)
        self._aside.add(store)
        return lambda: self._adopt(store)

    def mark(self) -> StateMark:
        """As the base says; the first one of a table gives it the name under which a start finds it."""
        records = self.store.records
        records.flush()
        if not records.is_kept:
            records.keep(self._path_of(KEPT))
            self._remove_kept_but(records.path)
        return marks.KvMark(self.store)

    def reopen(self, file: BinaryIO) -> Callable[[], StateMark]:
        """As `StateMachine.reopen`. It is for a start: the state must not be in that table now."""
        found = marks.read_mark(file)
        for unused in [store for store in self._aside if store.records.path.name == found.table]:
            unused.close(keeps=True)
            self._aside.remove(unused)
        store, mark = marks.reopen_store(found, self._directory, self._map_bytes, partial(self._heads, file))
        self._aside.add(store)

        def adopt() -> StateMark:
            self._adopt(store)
            return mark

        return adopt

    def _heads(self, file: BinaryIO, path: Path) -> Iterator[Head]:
        """Of a table, until nobody wants the mark any more: reading the file raises then."""
        for place, head in enumerate(self._read_table(path)):
            if not place % _ASKED_EVERY:
                file.read(0)
            yield head

    def _adopt(self, store: KvStore) -> None:
        self._aside.remove(store)
        old, self.store = self.store, store
        self._counts = Counts()
        self._in_batch = False
        old.close(waits=False)
        self._remove_kept_but(store.records.path)

    def _remove_kept_but(self, path: Path) -> None:
        """The tables of states that were replaced; the journal names no mark in them any more."""
        for other in self._directory.glob(f"{KEPT}*{SUFFIX}"):
            if other != path and other != self.store.records.path:
                remove_table(other, lock_of(other))

    def close(self) -> None:
        """As the base says. A table that was marked stays."""
        if self._is_open:
            self.store.close(keeps=True)
        self._close_aside()

    def _close_aside(self) -> None:
        for store in self._aside:
            store.close(keeps=True)
        self._aside.clear()

    def _fresh_path(self) -> Path:
        return self._path_of(WORKING)

    def _path_of(self, kind: str) -> Path:
        """A name that no table here has, kept ones of earlier processes among them."""
        while True:
            path = self._directory / f"{kind}{next(_NUMBERS)}{SUFFIX}"
            if not path.exists():
                return path

    # Commands. `apply` ends their transactions.

    def _put(self, command: Put) -> PutResult:
        txn.check_put(command)
        if command.prev_kv:
            return txn.run_put(self.store, command, Costs(is_command=True))
        self.store.put(command.key, command.value, command.lease)
        return PutResult(self.store.current)

    def _delete(self, command: DeleteRange) -> txn.RawDeleteResult:
        txn.check_range(command)
        return txn.run_delete(self.store, command, Costs(is_command=True))

    def _txn(self, command: Txn) -> txn.RawTxnResult:
        txn.check_txn(command)
        return finish(txn.run_txn(self.store, self._counts, command, Costs(is_command=True)))

    def _compact(self, command: Compact) -> CompactResult:
        self.store.compact(command.revision)
        return CompactResult(self.store.revision)

    def _roll_back(self, command: Rollback) -> RollbackResult:
        return rolling_back_at_once(self.store, command)

    def _keep_history(self, command: KeepHistory) -> CompactResult:
        self.store.keep_history(command.revisions_max, command.age_s_max)
        return CompactResult(self.store.revision)

    # Queries.

    def _plan(self, query: PlanRollback, _: Costs) -> Generator[None, None, RollbackPlan]:
        return planning(self.store, query)

    def _history(self, query: AskHistory, _: Costs) -> Generator[None, None, HistoryResult]:
        store, chronicle = self.store, self.store.chronicle
        at = chronicle.at(query.time_ns or 1 << 62)
        return HistoryResult(
            *(store.revision, store.compact_revision, chronicle.revisions_max, chronicle.age_s_max, at),
            chronicle.rollbacks[-SHOWN_MAX:],
        )
        yield

    def _range(self, query: Range, costs: Costs) -> Generator[None, None, RawRangeResult]:
        txn.check_range(query)
        self.store.check_revision(query.revision)
        return ranging(self.store, self._counts, query, costs, self.store.current)

    def _read_txn(self, query: Txn, costs: Costs) -> Generator[None, None, txn.RawTxnResult]:
        txn.check_txn(query)
        if not txn.writes_nothing(query):
            raise refusals.query_writes()
        return txn.run_txn(self.store, self._counts, query, costs)

    def _events(self, query: Events, costs: Costs) -> Generator[None, None, EventsResult]:
        return reading_events(self.store, query.from_revision, query.limit, query.prev_kv, costs)

    def _digest(self, _: Digest, costs: Costs) -> Generator[None, None, DigestResult]:
        revision, compact_revision = self.store.revision, self.store.compact_revision
        return DigestResult(revision, compact_revision, (yield from digesting(self.store, costs)))
