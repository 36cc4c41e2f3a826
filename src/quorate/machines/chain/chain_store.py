"""ChainStore: the blocks of a chain in one LMDB file, with an index of their payments.

    meta      "format" -> 1; "chain" -> id of block 0; "base" -> height; "head" -> height and id of the last block
    main      height -> id of the block
    headers   id -> header 80, payload header 140, payments 4
    bodies    id -> the payments, one after the other
    payments  id of a payment -> height 8, place in the block 4

Heights are 8 bytes, counts 4, all big-endian. Behind each value stands the CRC-32 of key and value.

Blocks are written many at a time, in one transaction that is synced, whose last put is "head". So after a crash the
file has all blocks up to its head, and what it lacks the log has. At open all of it is read and checked: checksums,
that ids are hashes, that each block follows on the one before and has the payments that its header names, that the
index says where they are. What is wrong is named by its block.

Threads: one writes, others read.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import lmdb

from quorate.ledger.block import LedgerBlock, PayloadHeader
from quorate.ledger.chain_proofs import HeaderPair
from quorate.ledger.header import HASH_BYTES, HEADER_BYTES, LedgerHeader, sha256d
from quorate.ledger.transaction import PAYMENT_BYTES
from quorate.parts.crypto.merkle import merkle_root

FORMAT: Final = b"1"
MAP_BYTES: Final = 256 << 20
"""At first; it is doubled when it is full. Address space, not memory."""
TABLES: Final = ("meta", "main", "headers", "bodies", "payments")
CRC_BYTES: Final = 4
PAYLOAD_BYTES: Final = 140
FILE_MODE: Final = 0o600
CURE: Final = "Stop the node, move the file away and start it again: what the log and its snapshot have is made anew"


class StoreDamaged(OSError):
    """The file is not what was written to it. The text names the block, if it is one, and what to do."""


class StoredHead(NamedTuple):
    """The last block that is in the file."""

    height: int
    id: bytes


def decode_payload(data: bytes) -> PayloadHeader:
    """The inverse of ``PayloadHeader.encode``. Raises ValueError."""
    if len(data) != PAYLOAD_BYTES:
        raise ValueError(f"a payload header of {len(data)} bytes, not {PAYLOAD_BYTES}")
    numbers = [int.from_bytes(data[at : at + 8], "big") for at in (0, 124, 132)]
    transactions, state, receipts = (data[at : at + HASH_BYTES] for at in (28, 60, 92))
    return PayloadHeader(numbers[0], data[8:28], transactions, state, receipts, *numbers[1:])


class ChainStore:
    """Heights from ``base`` to ``head.height``. Block 0, which the genesis gives, is not in it."""

    def __init__(self, path: Path, chain: bytes, map_bytes: int = MAP_BYTES) -> None:
        """Make the file, or open it and check all of it. Raises StoreDamaged, OSError."""
        self.path = path
        self._chain = chain
        self._moving = threading.Lock()
        """Held by readers: the map must not move under them."""
        self.base = 1
        self.head = StoredHead(0, chain)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in (path, path.with_name(f"{path.name}-lock")):
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, FILE_MODE))
        try:
            size = max(map_bytes, 2 * path.stat().st_size)
            self._env = lmdb.open(str(path), map_size=size, subdir=False, max_dbs=len(TABLES))
        except lmdb.Error as error:
            raise StoreDamaged(f"{path}: {error}. {CURE}") from error
        try:
            self._fill()
            self._tables = {name: self._env.open_db(name.encode()) for name in TABLES}
            self._find()
        except BaseException as error:
            self._env.close()
            if isinstance(error, lmdb.Error):
                raise StoreDamaged(f"{path}: {error}. {CURE}") from error
            raise

    def close(self) -> None:
        """A second time is no error."""
        self._env.close()

    # --- in ---

    def write(self, blocks: Sequence[LedgerBlock]) -> None:
        """The next ones, in order, in one synced transaction. After an OSError nothing is written."""
        if not blocks:
            return
        while True:
            try:
                self._write(blocks)
                return
            except lmdb.MapFullError:
                with self._moving:
                    self._env.set_mapsize(2 * self._env.info()["map_size"])
            except lmdb.Error as error:
                raise OSError(vars(error).get("code", 0) or 5, f"{self.path}: {error}") from error

    def _write(self, blocks: Sequence[LedgerBlock]) -> None:
        with self._env.begin(write=True) as txn:
            head = self.head
            for block in blocks:
                height, id = block.payload.height, block.id
                assert (height, block.header.parent) == (head.height + 1, head.id)
                count = len(block.transactions).to_bytes(4, "big")
                self._put(txn, "headers", id, block.header.encode() + block.payload.encode() + count)
                self._put(txn, "bodies", id, b"".join(block.transactions))
                for place, raw in enumerate(block.transactions):
                    where = height.to_bytes(8, "big") + place.to_bytes(4, "big")
                    self._put(txn, "payments", sha256d(raw), where)
                self._put(txn, "main", height.to_bytes(8, "big"), id)
                head = StoredHead(height, id)
            # Last: a crash before this leaves the old head, and no block of the new ones.
            self._put(txn, "meta", b"head", head.height.to_bytes(8, "big") + head.id)
        self.head = head

    def begin_after(self, height: int, id: bytes) -> None:
        """Drop everything: the next block is the one after this. Raises OSError."""
        with self._env.begin(write=True) as txn:
            for name in TABLES[1:]:
                txn.drop(self._tables[name], delete=False)
            self._put(txn, "meta", b"base", (height + 1).to_bytes(8, "big"))
            self._put(txn, "meta", b"head", height.to_bytes(8, "big") + id)
        self.base, self.head = height + 1, StoredHead(height, id)

    def _put(self, txn: Any, table: str, key: bytes, value: bytes) -> None:
        crc = zlib.crc32(value, zlib.crc32(key)).to_bytes(CRC_BYTES, "big")
        txn.put(key, value + crc, db=self._tables[table])

    # --- out ---

    def id_at(self, height: int) -> bytes | None:
        """None: it is not here. Raises StoreDamaged, as all of these."""
        with self._moving, self._env.begin() as txn:
            return self._get(txn, "main", height.to_bytes(8, "big"))

    def pair(self, id: bytes) -> HeaderPair | None:
        """A block's header and payload header."""
        with self._moving, self._env.begin() as txn:
            found = self._get(txn, "headers", id)
        return None if found is None else self._pair(id, found)[0]

    def block(self, id: bytes) -> LedgerBlock | None:
        """With its payments."""
        with self._moving, self._env.begin() as txn:
            return self._block(txn, id)

    def place_of(self, payment: bytes) -> tuple[int, int] | None:
        """Height and place of the payment of this id."""
        with self._moving, self._env.begin() as txn:
            found = self._get(txn, "payments", payment)
        return None if found is None else (int.from_bytes(found[:8], "big"), int.from_bytes(found[8:], "big"))

    def last(self, count: int, below: int) -> Iterator[LedgerBlock]:
        """Up to so many blocks that end at the height ``below``, the lowest first."""
        for height in range(max(self.base, below - count + 1), below + 1):
            id = self.id_at(height)
            block = None if id is None else self.block(id)
            if block is None:
                raise self._damaged(height, "is missing")
            yield block

    def _get(self, txn: Any, table: str, key: bytes) -> bytes | None:
        found = txn.get(key, db=self._tables[table])
        return None if found is None else self._checked(table, key, bytes(found))

    def _checked(self, table: str, key: bytes, found: bytes) -> bytes:
        value, crc = found[:-CRC_BYTES], found[-CRC_BYTES:]
        if len(found) < CRC_BYTES or zlib.crc32(value, zlib.crc32(key)) != int.from_bytes(crc, "big"):
            raise StoreDamaged(f"{self.path}: {self._named(table, key)}: its checksum is wrong. {CURE}")
        return value

    def _named(self, table: str, key: bytes) -> str:
        if table == "main":
            return f"block {int.from_bytes(key, 'big')}"
        return f"the entry {key.hex() if table != 'meta' else key!r} of {table}"

    def _damaged(self, height: int, why: str) -> StoreDamaged:
        return StoreDamaged(f"{self.path}: block {height} {why}. {CURE}")

    def _pair(self, id: bytes, found: bytes) -> tuple[HeaderPair, int]:
        try:
            payload = decode_payload(found[HEADER_BYTES : HEADER_BYTES + PAYLOAD_BYTES])
            pair = HeaderPair(LedgerHeader.decode(found[:HEADER_BYTES]), payload)
        except ValueError as error:
            raise StoreDamaged(f"{self.path}: the block {id.hex()}: {error}. {CURE}") from None
        return pair, int.from_bytes(found[HEADER_BYTES + PAYLOAD_BYTES :], "big")

    def _block(self, txn: Any, id: bytes) -> LedgerBlock | None:
        found, body = self._get(txn, "headers", id), self._get(txn, "bodies", id)
        if found is None or body is None:
            return None
        pair, count = self._pair(id, found)
        if len(body) != count * PAYMENT_BYTES:
            raise StoreDamaged(f"{self.path}: the block {id.hex()} has {len(body)} bytes of payments. {CURE}")
        starts = range(0, len(body), PAYMENT_BYTES)
        return LedgerBlock(pair.header, pair.payload, tuple([body[at : at + PAYMENT_BYTES] for at in starts]))

    # --- open ---

    def _fill(self) -> None:
        """A file that was cut off has zeros for what it lacks, which are found to be no pages. Reading beyond its end
        would kill the process (SIGBUS). LMDB may leave the end of a good file unwritten, where it uses no page."""
        info = self._env.info()
        whole = (info["last_pgno"] + 1) * self._env.stat()["psize"]
        if whole > info["map_size"]:
            raise StoreDamaged(f"{self.path}: it says that it has {whole} bytes. {CURE}")
        if self.path.stat().st_size < whole:
            os.truncate(self.path, whole)

    def _find(self) -> None:
        with self._env.begin(write=True) as txn:
            format = self._get(txn, "meta", b"format")
            if format is None:
                if txn.stat(self._tables["main"])["entries"]:
                    raise StoreDamaged(f"{self.path}: it has blocks and no format. {CURE}")
                self._put(txn, "meta", b"format", FORMAT)
                self._put(txn, "meta", b"chain", self._chain)
                return
            if format != FORMAT:
                raise StoreDamaged(f"{self.path}: format {format!r} is not known to this release, {FORMAT!r} is")
            if (chain := self._get(txn, "meta", b"chain")) != self._chain:
                named = "none" if chain is None else chain.hex()
                why = f"of the chain {named}, and its name and [ledger] in the configuration make {self._chain.hex()}"
                raise StoreDamaged(f"{self.path}: it is {why}. Put back what they were when the cluster began")
            if (base := self._get(txn, "meta", b"base")) is not None:
                self.base = int.from_bytes(base, "big")
            if (head := self._get(txn, "meta", b"head")) is not None:
                self.head = StoredHead(int.from_bytes(head[:8], "big"), head[8:])
            self._check(txn)

    def _check(self, txn: Any) -> None:
        """Every block from the base to the head, and that there is nothing else."""
        parent = None if self.base > 1 else self._chain
        payments = 0
        for height in range(self.base, self.head.height + 1):
            try:
                id = self._get(txn, "main", height.to_bytes(8, "big"))
                block = None if id is None else self._block(txn, id)
            except StoreDamaged as error:
                raise self._damaged(height, f"is damaged ({error.args[0]})") from None
            if id is None or block is None:
                raise self._damaged(height, "is missing")
            self._check_block(txn, height, id, parent, block)
            parent = id
            payments += len(block.transactions)
        if parent is not None and self.head.height >= self.base and parent != self.head.id:
            raise self._damaged(self.head.height, "is not the one that the head names")
        blocks = max(0, self.head.height - self.base + 1)
        for name, count in (("main", blocks), ("headers", blocks), ("bodies", blocks), ("payments", payments)):
            if (found := txn.stat(self._tables[name])["entries"]) != count:
                raise StoreDamaged(f"{self.path}: {found} entries of {name}, not {count}. {CURE}")

    def _check_block(self, txn: Any, height: int, id: bytes, parent: bytes | None, block: LedgerBlock) -> None:
        if block.id != id or block.payload.hash != block.header.payload or block.payload.height != height:
            raise self._damaged(height, "has a header that is not its own")
        if parent is not None and block.header.parent != parent:
            raise self._damaged(height, "does not follow on the one before")
        if merkle_root(block.transactions) != block.payload.transactions:
            raise self._damaged(height, "has other payments than its header names")
        for place, raw in enumerate(block.transactions):
            where = height.to_bytes(8, "big") + place.to_bytes(4, "big")
            try:
                is_right = self._get(txn, "payments", sha256d(raw)) == where
            except StoreDamaged:
                is_right = False
            if not is_right:
                raise self._damaged(height, f"has a payment, number {place}, that the index does not have there")
