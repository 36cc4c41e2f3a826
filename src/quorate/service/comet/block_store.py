"""BlockStore: the blocks that a node's app has kept, with all that is asked of them: one SQLite file in its folder.

The core's journal is the truth. What is not here after a crash comes once more when the node starts, and what is here
already is left as it is. So nothing waits for this file, and one that is lost or damaged can be removed.

Its methods wait for the disk: call them in one thread, always the same, but for ``open``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

import msgspec

from quorate.ledger.comet.abci.response_messages import RESPONSE, ResponseFinalizeBlock
from quorate.ledger.comet.blocks import BLOCK, Block
from quorate.ledger.comet.commits import COMMIT, Commit
from quorate.ledger.comet.param_updates import ChainParams
from quorate.ledger.comet.params import CONSENSUS_PARAMS, ConsensusParams
from quorate.ledger.comet.validators import VALIDATOR_SET, CometValidatorSet
from quorate.runtime.errors import StorageError

FILE_NAME: Final = "blocks.sqlite"
CURE: Final = "Stop the node, remove the file, and start it again: it is made anew from the node's journal"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS blocks (
    height INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    block BLOB NOT NULL,
    seen_commit BLOB NOT NULL,
    answer BLOB NOT NULL,
    validators BLOB NOT NULL REFERENCES shared (digest),
    params BLOB NOT NULL REFERENCES shared (digest)
) STRICT;
CREATE INDEX IF NOT EXISTS by_hash ON blocks (hash);
CREATE TABLE IF NOT EXISTS shared (digest BLOB PRIMARY KEY, data BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""


class BlockStoreFailed(StorageError):
    """The file cannot be read or written, or is of another chain."""


class AppliedBlock(Protocol):
    """A block that the app has kept, as ``BlockApplied`` says it. ``answer`` may be made when it is asked for."""

    @property
    def height(self) -> int: ...

    @property
    def block(self) -> bytes: ...

    @property
    def commit(self) -> bytes: ...

    @property
    def answer(self) -> bytes: ...

    @property
    def validators(self) -> CometValidatorSet: ...

    @property
    def params(self) -> ChainParams: ...

    @property
    def retain_height(self) -> int: ...


class StoredBlock(msgspec.Struct, frozen=True):
    """A block, the commit that this node has of it, what the app said of it, who voted on it, and the parameters."""

    block: Block
    size_bytes: int
    seen_commit: Commit
    answer: ResponseFinalizeBlock
    validators: CometValidatorSet
    params: ConsensusParams


class BlockStore:
    """Heights from ``base`` to ``height``, without a gap; both are 0 where there are none."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self.base = 0
        self.height = 0
        self._is_open = False

    def open(self) -> None:
        """Make the file or find it. Raises BlockStoreFailed."""
        try:
            # Whoever uses it sees to it that this is one thread at a time.
            self._file = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")  # a crash may lose the last blocks, which come again
            self._is_open = True
            self._file.executescript(_SCHEMA)
            self._measure()
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """A second time is no error, nor is it before ``open``."""
        if self._is_open:
            self._file.close()
        self._is_open = False

    def add(self, blocks: Sequence[AppliedBlock]) -> None:
        """The next ones, of which some may be here. Raises BlockStoreFailed."""
        try:
            with self._file:  # one transaction
                self._file.execute("BEGIN")
                for applied in blocks:
                    self._add(applied)
        except sqlite3.Error as error:
            raise self._failed(error) from None
        finally:
            self._measure()

    def _add(self, applied: AppliedBlock) -> None:
        height = applied.height
        if height < self.height:
            return
        if height == self.height:
            (known,) = self._file.execute("SELECT hash FROM blocks WHERE height = ?", (height,)).fetchone()
            if known != BLOCK.decode(applied.block).header.hash():
                raise BlockStoreFailed(f"{self.path}: its block {height} is not the one of this node's chain. {CURE}")
            return
        if self.height and height != self.height + 1:
            raise BlockStoreFailed(f"{self.path}: it ends at height {self.height}, and {height} comes next. {CURE}")
        digest = COMMIT.decode(applied.commit).block_id.hash  # the block's; to decode all of that takes much longer
        row = (
            *(height, digest, applied.block, applied.commit, applied.answer),
            *(self._share(VALIDATOR_SET.encode(applied.validators)), self._share(_params_bytes(applied))),
        )
        self._file.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self.height = height
        self.base = self.base or height

    def begin_after(self, height: int) -> None:
        """The next block is the one after this height. What is here goes, if there would be a gap.

        Raises BlockStoreFailed.
        """
        if self.height >= height:
            return
        try:
            with self._file:
                self._file.execute("BEGIN")
                self._file.execute("DELETE FROM blocks")
                self._file.execute("DELETE FROM shared")
            self._measure()
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def _share(self, data: bytes) -> bytes:
        """Most heights have the same."""
        digest = sha256(data).digest()
        self._file.execute("INSERT OR IGNORE INTO shared VALUES (?, ?)", (digest, data))
        return digest

    def prune(self, retain_height: int) -> int:
        """Remove what is below, but never the last block; how many were removed. Raises BlockStoreFailed."""
        try:
            below = min(retain_height, self.height)
            with self._file:
                self._file.execute("BEGIN")
                removed = self._file.execute("DELETE FROM blocks WHERE height < ?", (below,)).rowcount
                if removed:
                    self._file.execute(
                        "DELETE FROM shared WHERE digest NOT IN (SELECT validators FROM blocks)"
                        " AND digest NOT IN (SELECT params FROM blocks)"
                    )
            self._measure()
            return removed
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def get(self, height: int) -> StoredBlock | None:
        """None: it is not here. Raises BlockStoreFailed."""
        query = (
            "SELECT block, seen_commit, answer, v.data, p.data FROM blocks"
            " JOIN shared v ON v.digest = validators JOIN shared p ON p.digest = params WHERE height = ?"
        )
        try:
            row = self._file.execute(query, (height,)).fetchone()
            return None if row is None else _decoded(*row)
        except (sqlite3.Error, ValueError) as error:
            raise self._failed(error) from None

    def height_of(self, digest: bytes) -> int | None:
        """Of the block with this hash; None: it is not here. Raises BlockStoreFailed."""
        try:
            row = self._file.execute("SELECT height FROM blocks WHERE hash = ?", (digest,)).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from None
        return None if row is None else int(row[0])

    def _measure(self) -> None:
        base, height = self._file.execute("SELECT MIN(height), MAX(height) FROM blocks").fetchone()
        self.base, self.height = base or 0, height or 0

    def _failed(self, error: Exception) -> BlockStoreFailed:
        return BlockStoreFailed(f"{self.path}: {error}. {CURE}")


def _params_bytes(applied: AppliedBlock) -> bytes:
    return CONSENSUS_PARAMS.encode(applied.params.whole())


def stored_of(applied: AppliedBlock) -> StoredBlock:
    """The same of a block that was just applied."""
    return _stored(applied.block, applied.commit, applied.answer, applied.validators, applied.params.whole())


def _decoded(block: bytes, commit: bytes, answer: bytes, validators: bytes, params: bytes) -> StoredBlock:
    return _stored(block, commit, answer, VALIDATOR_SET.decode(validators), CONSENSUS_PARAMS.decode(params))


def _stored(
    block: bytes, commit: bytes, answer: bytes, validators: CometValidatorSet, params: ConsensusParams
) -> StoredBlock:
    said = RESPONSE.decode(answer)
    if not isinstance(said, ResponseFinalizeBlock):
        raise ValueError(f"a {type(said).__name__} in place of an answer to FinalizeBlock")
    return StoredBlock(BLOCK.decode(block), len(block), COMMIT.decode(commit), said, validators, params)
