"""The key-value state machine: encoded commands in, encoded results out, over a `KvStore`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from quorate.machines.kv import refusals, snapshot, txn
from quorate.machines.kv.commands import (
    Compact,
    CompactResult,
    DeleteRange,
    DeleteRangeResult,
    Digest,
    DigestResult,
    Error,
    Events,
    EventsResult,
    Put,
    PutResult,
    Range,
    Txn,
    decode_command,
    decode_query,
    encode,
)
from quorate.machines.kv.refusals import KvError
from quorate.machines.kv.revisions import MAP_BYTES, remove_table
from quorate.machines.kv.store import KvStore
from quorate.machines.state_machine import StateMachine


class KvMachine(StateMachine):
    """etcd's key-value model as a replicated state machine.

    `directory` holds working storage only: its `kv-*.lmdb` files are replaced at every start and mean nothing
    without the snapshot and the log. Outside of begin() and commit() each command commits itself.
    """

    def __init__(self, directory: Path, map_bytes: int = MAP_BYTES) -> None:
        """Start empty. Raises OSError if the directory can't be made or written."""
        directory.mkdir(parents=True, exist_ok=True)
        for stale in directory.glob("kv-*.lmdb"):
            remove_table(stale)
        self._directory = directory
        self._map_bytes = map_bytes
        self._numbers = itertools.count()
        self._in_batch = False
        self.store = KvStore(self._fresh_path(), map_bytes)
        self._commands: dict[type[Any], Callable[[Any], Any]] = {
            Put: self._put,
            DeleteRange: self._delete,
            Txn: self._txn,
            Compact: self._compact,
        }
        self._queries: dict[type[Any], Callable[[Any], Any]] = {
            Range: self._range,
            Txn: self._read_txn,
            Events: self._events,
            Digest: self._digest,
        }

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
        except KvError as error:
            result = Error(error.code, error.message)
        if not self._in_batch:
            self.store.commit()
        return encode(result)

    def query(self, query: bytes) -> bytes:
        try:
            decoded = decode_query(query)
            return encode(self._queries[type(decoded)](decoded))
        except KvError as error:
            return encode(Error(error.code, error.message))

    def snapshot(self) -> snapshot.SnapshotWriter:
        self.store.records.flush()
        return snapshot.SnapshotWriter(self.store.view())

    def restore(self, file: BinaryIO) -> Callable[[], None]:
        """As `StateMachine.restore`. A store that is loaded but never adopted keeps its file until the next start."""
        store = snapshot.load_store(file, self._fresh_path(), self._map_bytes)

        def adopt() -> None:
            old, self.store = self.store, store
            self._in_batch = False
            old.close()

        return adopt

    def close(self) -> None:
        self.store.close()

    def _fresh_path(self) -> Path:
        return self._directory / f"kv-{next(self._numbers)}.lmdb"

    # Commands.

    def _put(self, command: Put) -> PutResult:
        txn.check_put(command)
        result = txn.run_put(self.store, command)
        self.store.end_transaction()
        return result

    def _delete(self, command: DeleteRange) -> DeleteRangeResult:
        txn.check_range(command)
        result = txn.run_delete(self.store, command)
        self.store.end_transaction()
        return result

    def _txn(self, command: Txn) -> txn.RawTxnResult:
        txn.check_txn(command)
        result = txn.run_txn(self.store, command)
        self.store.end_transaction()
        return result

    def _compact(self, command: Compact) -> CompactResult:
        self.store.compact(command.revision)
        return CompactResult(self.store.revision)

    # Queries.

    def _range(self, query: Range) -> txn.RawRangeResult:
        txn.check_range(query)
        return txn.run_range(self.store, query)

    def _read_txn(self, query: Txn) -> txn.RawTxnResult:
        txn.check_txn(query)
        if not txn.writes_nothing(query):
            raise refusals.query_writes()
        return txn.run_txn(self.store, query)

    def _events(self, query: Events) -> EventsResult:
        events, next_revision = self.store.events(query.from_revision, query.limit, query.prev_kv)
        return EventsResult(self.store.revision, events, next_revision)

    def _digest(self, _: Digest) -> DigestResult:
        return DigestResult(self.store.revision, self.store.compact_revision, self.store.digest())
