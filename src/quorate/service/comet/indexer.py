"""ChainIndexer: finds transactions and blocks again by what the app said of them. One SQLite file in the node's folder.

How it works. A row has a tag, a value, a height, and all places where the app said so there with ``index``: in which
events of which transactions, or of the block itself. Many transactions of a block say the same, so a row for each would
be most of what a node does. A search takes the places of each condition and intersects them, so that conditions on one
event hold together, as in CometBFT 0.38. Conditions on ``tx.height`` and ``block.height`` bound all others. A condition
with ``tx.hash`` decides alone.

A height is one transaction of the file, and one that is there already is left as it is: the node hands in again what
may be missing after a crash (``highest``), and the file can be removed and made anew. That is what happens to one of an
earlier format.

A search is hostile: SQLite counts its steps, and one that takes too many is refused.

Departures from CometBFT's index: ranges compare numbers exactly, and all of them hold, where there the last on a tag
counts. What an app calls ``tx.hash`` or ``tx.height`` is not found, where there the whole block is not. The same
transaction in two blocks is found in both, each with its own result; ``find_tx`` gives the last one.

Source: CometBFT 0.38, ``state/txindex/kv/kv.go``, ``state/indexer/block/kv/kv.go`` for what is found, and its answers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from quorate.ledger.comet.blocks import tx_hash
from quorate.ledger.comet.results import EVENTS_MAX, EXEC_TX_RESULT
from quorate.ledger.comet.rpc.chain_events import BLOCK_HEIGHT_TAG, TX_HASH_TAG, TX_HEIGHT_TAG, decided_txs
from quorate.ledger.comet.rpc.queries import (
    BoundKind,
    Comparison,
    EventQuery,
    QueryCondition,
    compare,
    whole_number,
)
from quorate.ledger.comet.rpc.routes import PAGE_BYTES_MAX, TOO_LARGE
from quorate.ledger.comet.rpc.shown_events import shown_events
from quorate.ledger.comet.rpc.view import DecidedHeight, IndexedTx, RPCRefusal, SearchPage
from quorate.service.comet.file_thread import FileThread

INDEX_FILE: Final = "index.sqlite"
STEPS_MAX: Final = 20_000_000
"""Of SQLite's machine for one search: a second or two."""
STEPS_BETWEEN_LOOKS: Final = 10_000
HEIGHT_MAX: Final = (1 << 63) - 1
FORMAT: Final = 2
"""Of the file: 1 had a row for each place."""
OF_BLOCK: Final = 0
OF_TX: Final = 1
"""Whose events they are."""
_SCHEMA: Final = f"""
CREATE TABLE heights (height INTEGER PRIMARY KEY, first INTEGER NOT NULL, count INTEGER NOT NULL) STRICT;
CREATE TABLE txs (
    id INTEGER PRIMARY KEY, block INTEGER NOT NULL, hash BLOB NOT NULL, tx BLOB NOT NULL, result BLOB NOT NULL
) STRICT;
CREATE INDEX txs_by_hash ON txs (hash);
CREATE TABLE attributes (
    tag TEXT NOT NULL, said TEXT NOT NULL, kind INTEGER NOT NULL, height INTEGER NOT NULL, places TEXT NOT NULL,
    PRIMARY KEY (tag, said, kind, height)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = {FORMAT};
"""
# A transaction's id is its height's first one and its number in the block. A place is a JSON number: the transaction's
# number in the block (of the block itself: 0), times EVENTS_MAX, and the event's number.

_to_json: Final = msgspec.json.encode


class _Selection(NamedTuple):
    """A part of an SQL query, with its parameters."""

    sql: str
    values: tuple[Any, ...]


class ChainIndexer:
    """The index of one chain. All of its work is done in a thread of its own, in order."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / INDEX_FILE
        self._thread = FileThread("index", self.path)
        self._file: sqlite3.Connection | None = None
        self._steps_left = 0

    async def open(self) -> None:
        """Make the file or find it. Raises sqlite3.Error, OSError."""
        await self._thread.run(self._open)

    async def close(self) -> None:
        """After what was handed in. A second time is no error. Raises WorkLeft if that takes too long."""
        await self._thread.end(self._close)

    async def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await self._thread.run(file.close)

    async def highest(self) -> int:
        """The highest height that is indexed; 0: none."""
        return await self._thread.run(lambda: self._rows("SELECT coalesce(max(height), 0) FROM heights", ())[0][0])

    async def add(self, decided: DecidedHeight) -> None:
        """Index a height, if it is not. Raises sqlite3.Error."""
        await self._thread.run(lambda: self._add(decided))

    async def find_tx(self, tx_hash: bytes) -> IndexedTx | None:
        """The last transaction of this hash."""
        sql = "SELECT height, id - first, tx, result FROM txs JOIN heights ON height = block WHERE hash = ?"
        sql += " ORDER BY id DESC LIMIT 1"
        rows = await self._thread.run(lambda: self._rows(sql, (tx_hash,)))
        return _indexed(rows[0]) if rows else None

    async def search_txs(self, query: EventQuery, *, descending: bool, skip: int, count: int) -> SearchPage:
        """By height and place. Raises RPCRefusal for a search that costs too much, and a hash that is none."""
        named = next((c for c in query.conditions if c.tag == TX_HASH_TAG), None)
        if named is not None:
            found = await self.find_tx(_hash(named))
            return SearchPage(0) if found is None else SearchPage(1, txs=[] if skip else [found])
        everything = "SELECT height, (id - first) AS number FROM heights JOIN txs ON id >= first AND id < first + count"
        places = f"SELECT DISTINCT height, place / {EVENTS_MAX} AS number FROM"
        chosen = _chosen(query, TX_HEIGHT_TAG, OF_TX, everything, places)
        order = "DESC" if descending else "ASC"
        total, rows = await self._thread.run(
            lambda: self._search(
                f"SELECT count(*) FROM ({chosen.sql})",
                f"SELECT found.height, number, tx, result FROM ({chosen.sql}) AS found JOIN heights USING (height)"
                f" JOIN txs ON id = first + number ORDER BY id {order} LIMIT ? OFFSET ?",
                chosen.values,
                (count, skip),
            )
        )
        return SearchPage(total, txs=[_indexed(row) for row in rows])

    async def search_blocks(self, query: EventQuery, *, descending: bool, skip: int, count: int) -> SearchPage:
        """By height. Raises RPCRefusal for a search that costs too much."""
        everything = "SELECT height FROM heights"
        chosen = _chosen(query, BLOCK_HEIGHT_TAG, OF_BLOCK, everything, "SELECT DISTINCT height FROM")
        order = "DESC" if descending else "ASC"
        total, rows = await self._thread.run(
            lambda: self._search(
                f"SELECT count(*) FROM ({chosen.sql})",
                f"SELECT height FROM ({chosen.sql}) ORDER BY height {order} LIMIT ? OFFSET ?",
                chosen.values,
                (count, skip),
            )
        )
        return SearchPage(total, heights=[row[0] for row in rows])

    def _open(self) -> None:
        file = self._connected()
        if (found := file.execute("PRAGMA user_version").fetchone()[0]) != FORMAT:
            if found or file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                file.close()
                self.path.unlink()
                file = self._connected()
            file.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        file.create_function("bounded", 3, _bounded, deterministic=True)
        self._file = file

    def _connected(self) -> sqlite3.Connection:
        file = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = NORMAL")  # a crash may lose the last heights, which are handed in again
        return file

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        assert self._file is not None, "open() comes first"
        return self._file.execute(sql, values).fetchall()

    def _search(self, count: str, page: str, values: tuple[Any, ...], window: tuple[int, int]) -> tuple[int, list[Any]]:
        assert self._file is not None, "open() comes first"
        self._steps_left = STEPS_MAX
        self._file.set_progress_handler(self._is_too_long, STEPS_BETWEEN_LOOKS)
        try:
            total: int = self._rows(count, values)[0][0]
            return total, self._page(page, (*values, *window)) if total > window[1] else []
        except sqlite3.OperationalError as error:
            if self._steps_left > 0:
                raise
            raise RPCRefusal("the query takes too long: bound its height, or name more of what is wanted") from error
        finally:
            self._file.set_progress_handler(None, 0)

    def _page(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """Rows, one by one until they are too large together."""
        assert self._file is not None, "open() comes first"
        rows, size = [], 0
        for row in self._file.execute(sql, values):
            size += sum(len(part) for part in row if isinstance(part, bytes))
            if size > PAGE_BYTES_MAX:
                raise RPCRefusal(TOO_LARGE)
            rows.append(row)
        return rows

    def _is_too_long(self) -> bool:
        self._steps_left -= STEPS_BETWEEN_LOOKS
        return self._steps_left <= 0

    def _add(self, decided: DecidedHeight) -> None:
        assert self._file is not None, "open() comes first"
        height, txs = decided.block.header.height, decided_txs(decided)
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            first: int = self._rows("SELECT coalesce(max(id), 0) + 1 FROM txs", ())[0][0]
            new = self._file.execute("INSERT OR IGNORE INTO heights VALUES (?, ?, ?)", (height, first, len(txs)))
            if new.rowcount == 0:
                return
            self._file.executemany(
                "INSERT INTO txs VALUES (?, ?, ?, ?, ?)",
                (
                    (first + its.index, height, tx_hash(its.tx), its.tx, EXEC_TX_RESULT.encode(its.result))
                    for its in txs
                ),
            )
            for kind, events in ((OF_BLOCK, [decided.results.events]), (OF_TX, [its.result.events for its in txs])):
                self._file.executemany("INSERT INTO attributes VALUES (?, ?, ?, ?, ?)", _rows_of(kind, height, events))


def _rows_of(kind: int, height: int, events: Sequence[Iterable[bytes]]) -> Iterator[tuple[Any, ...]]:
    """What was said with ``index``, each once, in the order of the table: that is how it is written fastest."""
    places: dict[tuple[str, str], list[int]] = {}
    for number, its in enumerate(events):
        for place, event in enumerate(shown_events(its), number * EVENTS_MAX):
            for attribute in event.attributes if event.type else ():
                if attribute.index and attribute.key:
                    places.setdefault((f"{event.type}.{attribute.key}", attribute.value), []).append(place)
    return ((*said, kind, height, _to_json(places[said]).decode()) for said in sorted(places))


def _chosen(query: EventQuery, height_tag: str, kind: int, everything: str, found: str) -> _Selection:
    """Where all conditions hold: of ``found`` (heights and places), or, with none but on heights, of ``everything``."""
    height = _height_filter([c for c in query.conditions if c.tag == height_tag])
    others = [c for c in query.conditions if c.tag != height_tag]
    if not others:
        return _Selection(f"{everything} WHERE {height.sql}", height.values)
    parts = [_attributes(condition) for condition in others]
    sql = " INTERSECT ".join(
        "SELECT height, each.value AS place FROM attributes, json_each(places) AS each"
        f" WHERE kind = {kind} AND {part.sql} AND {height.sql}"
        for part in parts
    )
    return _Selection(f"{found} ({sql})", tuple(value for part in parts for value in (*part.values, *height.values)))


def _height_filter(conditions: Iterable[QueryCondition]) -> _Selection:
    """The heights as numbers where that is possible, so that few rows are read."""
    parts = ["height >= 0"]
    values: list[Any] = []
    for condition in conditions:
        number = whole_number(condition.argument) if condition.kind is BoundKind.NUMBER else None
        if number is not None and number.denominator == 1 and number <= HEIGHT_MAX:
            parts.append(f"height {condition.comparison.value} ?")
            values.append(int(number))
        else:
            part = _test("CAST(height AS TEXT)", condition)
            parts.append(part.sql)
            values += part.values
    return _Selection(" AND ".join(parts), tuple(values))


def _attributes(condition: QueryCondition) -> _Selection:
    part = _test("said", condition)
    return _Selection(f"tag = ? AND {part.sql}", (condition.tag, *part.values))


def _test(column: str, condition: QueryCondition) -> _Selection:
    """A condition on a column of text. Equality is that of the text, also with numbers."""
    match condition.comparison:
        case Comparison.EXISTS:
            return _Selection("TRUE", ())
        case Comparison.CONTAINS:
            return _Selection(f"instr({column}, ?) > 0", (condition.argument,))
        case Comparison.EQUAL:
            return _Selection(f"{column} = ?", (condition.argument,))
    if condition.kind is not BoundKind.NUMBER:
        return _Selection("FALSE", ())  # as in CometBFT, whose index has no times
    return _Selection(f"bounded({column}, ?, ?)", (condition.comparison.value, condition.argument))


def _bounded(value: str, comparison: str, bound: str) -> bool:
    """Whether the whole text is a number within the bound."""
    found, limit = whole_number(value.strip()), whole_number(bound)
    return found is not None and limit is not None and compare(found, Comparison(comparison), limit)


def _hash(condition: QueryCondition) -> bytes:
    try:
        return bytes.fromhex(condition.argument)
    except ValueError as error:
        raise RPCRefusal(f"error during searching for a hash in the query: {error}") from None


def _indexed(row: tuple[int, int, bytes, bytes]) -> IndexedTx:
    height, place, tx, result = row
    return IndexedTx(height, place, tx, EXEC_TX_RESULT.decode(result))
