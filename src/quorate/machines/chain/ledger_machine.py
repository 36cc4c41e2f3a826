"""LedgerMachine: a ledger as a state machine. One command is one batch of payments and makes one block.

How it works. The log decides the order of batches; nobody proposes a block. Each node *derives* it from the batch: the
payments that apply, in the batch's order, after which come the roots and the header. A batch of which nothing applies
makes no block. Since a block is made of one command, its edges are the same on every node, however the log hands its
entries over.

A block's time is the batch's, as the node that took it had it, but at least a second after the parent's; where clients
say the time and may lie, at most ``time_step_s_max`` seconds.

What is durable is the log and its snapshot (``chain_snapshot.py``); state is in memory. The store (``chain_store.py``)
keeps blocks for queries. New blocks wait in memory until a thread writes some at once: the state machine hands it
a list that does not change any more. After a crash the store may lack the last blocks, which the log then brings again,
or be ahead of the snapshot: then the blocks that are derived again must be those in the store, or the node ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final

from quorate.kernel.app import AppEnded
from quorate.ledger.account_tree import AccountTree
from quorate.ledger.block import LedgerBlock
from quorate.ledger.chain_proofs import HeaderPair, InclusionProof, StateProof
from quorate.ledger.engine import BlockEnv, ExecutedBlock
from quorate.ledger.genesis import BLOCK_VERSION, Genesis
from quorate.ledger.header import HASH_BYTES, LedgerHeader
from quorate.ledger.native import NativeEngine
from quorate.ledger.ruling import Ruling
from quorate.ledger.transaction import Payment
from quorate.machines.chain import chain_messages as messages
from quorate.machines.chain.chain_snapshot import BLOCKS, LoadedChain, read_chain, write_chain
from quorate.machines.chain.chain_store import ChainStore
from quorate.machines.state_machine import StateMachine
from quorate.parts.crypto.merkle import merkle_proofs

FLUSH_BLOCKS: Final = 64
FLUSH_BYTES: Final = 16 << 20
FLUSH_S: Final = 2.0
WAITING_BLOCKS_MAX: Final = 16 * FLUSH_BLOCKS
"""Blocks that the disk is behind before it is waited for."""
FILE_NAME: Final = "chain.lmdb"


class LedgerMachine(StateMachine):
    """``directory``: of the store. ``in_thread`` False: it is written at once, as a simulation needs it."""

    kind: ClassVar[str] = "ledger"
    is_audited: ClassVar[bool] = True
    stamps: ClassVar[bool] = True

    def __init__(self, directory: Path, genesis: Genesis, in_thread: bool = True) -> None:
        """It has no file, and can do nothing, until it is opened."""
        self.genesis = genesis
        self.engine = NativeEngine(genesis)
        self.head = genesis.block
        self.head_id = genesis.id
        self.store: ChainStore
        self._path = directory / FILE_NAME
        self._waiting: list[LedgerBlock] = []
        """Blocks that are not in the store, the lowest first."""
        self._by_id: dict[bytes, LedgerBlock] = {}
        """Those."""
        self._placed: dict[bytes, tuple[int, int]] = {}
        """Their payments: height and place."""
        self._waiting_bytes = 0
        self._flushed_at_s = 0.0
        self._thread = ThreadPoolExecutor(1, "quorate-chain") if in_thread else None
        self._flushing: Future[None] | None = None
        self._flushing_count = 0
        self._is_open = False

    def open(self) -> None:
        """Check what the store has. Raises OSError; StoreDamaged for a file that is not as it was written."""
        self.store = ChainStore(self._path, self.genesis.id)
        self._is_open = True
        self._flushed_at_s = time.monotonic()

    @property
    def height(self) -> int:
        """Of the head."""
        return self.head.payload.height

    @property
    def state(self) -> AccountTree:
        """After the head."""
        return self.engine.at(self.head_id)

    # --- commands ---

    def stamp(self, command: bytes, wall_ns: int) -> bytes:
        """With the time of the node that takes it."""
        return messages.stamp_batch(command, min(wall_ns // 1_000_000_000, 2**32 - 1))

    def refuses(self, command: bytes) -> bytes | None:
        """Of what is no batch."""
        try:
            messages.check_batch(command)
        except ValueError as error:
            return messages.encode_chain(messages.ChainError(str(error)))
        return None

    def apply(self, command: bytes) -> bytes:
        """As the base says. Raises AppEnded where the store has another block than the log makes."""
        try:
            time_s, raws = messages.decode_batch(command)
        except ValueError as error:
            return messages.encode_chain(messages.ChainError(str(error)))
        found = [self.engine.decode(raw) for raw in raws]
        payments = [payment for payment in found if isinstance(payment, Payment)]
        env = BlockEnv(self.height + 1, self._time(time_s), self.genesis.collector)
        executed = self.engine.execute(self.head_id, env, payments, strict=False)
        assert isinstance(executed, ExecutedBlock)  # only a strict one is refused
        skipped = self._skipped(found, executed)
        if not executed.included:
            return messages.encode_chain(messages.Batched(0, b"", skipped))
        self._extend(executed, env)
        return messages.encode_chain(messages.Batched(self.height, self.head_id, skipped))

    def _skipped(
        self, found: Sequence[Payment | Ruling], executed: ExecutedBlock[Payment]
    ) -> tuple[tuple[int, str], ...]:
        """By place in the batch. One that stands there twice is in the block once."""
        included = {payment.id for payment in executed.included}
        whys = {payment.id: why for payment, why in executed.skipped}
        skipped = []
        for place, payment in enumerate(found):
            if isinstance(payment, Ruling):
                skipped.append((place, payment.why))
            elif payment.id in included:
                included.remove(payment.id)
            else:
                where = self._place_of(payment.id)
                # Of older blocks not every node has the index, and all must answer alike.
                is_known = where is not None and where[0] > self.height - BLOCKS
                skipped.append((place, f"block {where[0]} has it already" if is_known and where else whys[payment.id]))
        return tuple(skipped)

    def _time(self, claimed_s: int) -> int:
        parent_s = self.head.header.time_s
        return min(max(claimed_s, parent_s + 1), parent_s + self.genesis.time_step_s_max, 2**32 - 1)

    def _extend(self, executed: ExecutedBlock[Payment], env: BlockEnv) -> None:
        header = LedgerHeader(BLOCK_VERSION, self.head_id, executed.payload.hash, env.time_s)
        raws = tuple([payment.raw for payment in executed.included])
        block = LedgerBlock(header, executed.payload, raws)
        id = header.id
        self.engine.keep(id, self.head_id, executed)
        self.engine.adopt(id)
        self.engine.forget([self.head_id])
        self.head, self.head_id = block, id
        if env.height <= self.store.head.height:
            if (stored := self.store.id_at(env.height)) not in (None, id):
                assert stored is not None
                raise AppEnded(
                    f"the log makes block {env.height} {id.hex()}, and {self.store.path} has {stored.hex()}: they are "
                    "not of one history. If the log is right, move that file away"
                )
            return
        self._waiting.append(block)
        self._by_id[id] = block
        for place, payment in enumerate(executed.included):
            self._placed[payment.id] = (env.height, place)
        self._waiting_bytes += sum(map(len, raws))

    # --- the store ---

    def commit(self) -> None:
        """Have blocks written if they are many, large or old. Raises OSError where the disk takes none."""
        is_due = len(self._waiting) >= FLUSH_BLOCKS or self._waiting_bytes >= FLUSH_BYTES
        if self._waiting and (is_due or time.monotonic() - self._flushed_at_s >= FLUSH_S):
            self.flush(waits=len(self._waiting) >= WAITING_BLOCKS_MAX)

    def flush(self, waits: bool) -> None:
        """Begin to write what waits, or, with ``waits``, write it. Raises OSError, also of an earlier write."""
        if self._flushing is not None and (waits or self._flushing.done()):
            self._end_flush()
        if self._flushing is None and self._waiting:
            blocks = tuple(self._waiting)
            self._flushed_at_s = time.monotonic()
            self._flushing_count = len(blocks)
            if self._thread is None:
                self._flushing = Future()
                self.store.write(blocks)
                self._flushing.set_result(None)
            else:
                self._flushing = self._thread.submit(self.store.write, blocks)
            if waits or self._thread is None:
                self._end_flush()

    def _end_flush(self) -> None:
        flushing, self._flushing = self._flushing, None
        assert flushing is not None
        flushing.result()  # after an error all of them wait on
        done, self._waiting = self._waiting[: self._flushing_count], self._waiting[self._flushing_count :]
        for block in done:
            del self._by_id[block.id]
            self._waiting_bytes -= sum(map(len, block.transactions))
        height = done[-1].payload.height
        self._placed = {id: where for id, where in self._placed.items() if where[0] > height}

    def _place_of(self, payment: bytes) -> tuple[int, int] | None:
        """In the chain as it is at the head: the store may be ahead of it while the log is applied again."""
        where = self._placed.get(payment) or self.store.place_of(payment)
        return None if where is None or where[0] > self.height else where

    # --- queries ---

    def query(self, query: bytes) -> bytes:
        try:
            asked = messages.decode_chain_query(query)
        except messages.CHAIN_ERRORS:
            answer: Any = messages.ChainError("this is no question to a ledger: this cluster keeps one")
        else:
            answer = self._answer(asked)
        return messages.encode_chain(answer)

    def _answer(self, asked: messages.ChainQuery) -> messages.ChainAnswer:
        match asked:
            case messages.AskHead():
                supply = self.engine.supply(self.head_id)
                return messages.Head(self._pair(self.head), self.genesis.id, self.genesis.fee_min, supply)
            case messages.AskAccount(address):
                proof = StateProof(self._pair(self.head), self.state.proof(address))
                return messages.AccountAt(self.head_id, proof)
            case messages.AskBlock(height, id):
                return self._answer_block(height, id)
            case messages.AskPayment(id):
                return self._answer_payment(id)

    def _answer_block(self, height: int, id: bytes) -> messages.ChainAnswer:
        named = f"block {id.hex() or height}"
        block = self._block(id) if id else self._block_at(height)
        if block is None or block.payload.height > self.height:
            kept = f"{named} is not here: there are 0 and {self.store.base} to {self.height}"
            return messages.ChainError(kept, is_missing=True)
        return messages.Whole(block.id, self._pair(block), block.transactions)

    def _answer_payment(self, id: bytes) -> messages.ChainAnswer:
        where = self._place_of(id)
        block = None if where is None else self._block_at(where[0])
        if where is None or block is None:
            return messages.ChainError(f"no block has the payment {id.hex()}", is_missing=True)
        proof = merkle_proofs(block.transactions)[1][where[1]]
        raw = block.transactions[where[1]]
        shown = InclusionProof(self._pair(block), raw, proof.total, proof.index, proof.aunts)
        return messages.PaymentAt(block.id, shown)

    def _pair(self, block: LedgerBlock) -> HeaderPair:
        return HeaderPair(block.header, block.payload)

    def _block(self, id: bytes) -> LedgerBlock | None:
        if id == self.genesis.id:
            return self.genesis.block
        if len(id) != HASH_BYTES:
            return None
        return self._by_id.get(id) or self.store.block(id)

    def _block_at(self, height: int) -> LedgerBlock | None:
        if not height:
            return self.genesis.block
        if self._waiting and height >= (first := self._waiting[0].payload.height):
            return self._waiting[height - first] if height - first < len(self._waiting) else None
        id = self.store.id_at(height)
        return None if id is None else self.store.block(id)

    def digests(self) -> dict[str, bytes]:
        """The id of the head stands for all of the chain."""
        return {"chain": self.head_id}

    # --- snapshots ---

    def snapshot(self) -> Callable[[BinaryIO], None]:
        """The store has all of it before the snapshot is: the log may be cut then."""
        self.flush(waits=True)
        height, state, chain, store = self.height, self.state, self.genesis.id, self.store

        def write(file: BinaryIO) -> None:
            write_chain(file, chain, state, tuple(store.last(BLOCKS, height)))

        return write

    def restore(self, file: BinaryIO) -> Callable[[], None]:
        """As the base says. A store that has the last block of the snapshot stays as it is."""
        loaded = read_chain(file, self.genesis)

        def adopt() -> None:
            self._adopt(loaded)

        return adopt

    def _adopt(self, loaded: LoadedChain) -> None:
        self.flush(waits=True)
        blocks: Sequence[LedgerBlock] = loaded.blocks
        if blocks:
            last = blocks[-1]
            height, id = last.payload.height, last.id
            if height > self.store.head.height or self.store.id_at(height) != id:
                new = [block for block in blocks if block.payload.height > self.store.head.height]
                if not (new and new[0].header.parent == self.store.head.id):
                    first = blocks[0]
                    self.store.begin_after(first.payload.height - 1, first.header.parent)
                    new = [*blocks]
                self.store.write(new)
        else:
            last, height, id = self.genesis.block, 0, self.genesis.id
        self.engine.begin_at(id, height, loaded.state)
        self.head, self.head_id = last, id

    def close(self) -> None:
        """Write what waits."""
        if self._is_open:
            try:
                self.flush(waits=True)
            finally:
                if self._thread is not None:
                    self._thread.shutdown()
                self.store.close()
                self._is_open = False
