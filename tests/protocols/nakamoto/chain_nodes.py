"""One node of Nakamoto, stepped by a test that plays its App, its miner and its peers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quorate.kernel import Done, Host, Input, Received, Record, Turn
from quorate.ledger.block import LedgerBlock, PayloadHeader
from quorate.ledger.chain_jobs import BlockBuilt, BlockExecuted, BuildBlock, ExecuteBlock, Stood
from quorate.ledger.header import LedgerHeader, sha256d
from quorate.ledger.ruling import OK, POINTS_OF_A_BAN, Ruling
from quorate.ledger.sealer.proof_of_work import Mined
from quorate.parts.crypto.merkle import merkle_root
from quorate.protocols.nakamoto.core import Nakamoto
from quorate.protocols.nakamoto.messages import GiveBlocks, Headers, NakamotoConfig
from quorate.sim.chance import streams

from tests.ledger.mining import GENESIS, mined, next_header

BAD = Ruling("bad", "it spends what is not there", POINTS_OF_A_BAN, poisons=True)
WALL_NS = (GENESIS.time_s + 100_000) * 10**9


def payload_of(height: int, transactions: Sequence[bytes]) -> PayloadHeader:
    return PayloadHeader(height, bytes(20), merkle_root(transactions), bytes(32), bytes(32))


def next_block(parent: LedgerHeader, height: int, *transactions: bytes) -> LedgerBlock:
    """A child with work."""
    payload = payload_of(height, transactions)
    return LedgerBlock(next_header(parent, payload.hash), payload, transactions)


def line(parent: LedgerHeader, height: int, count: int, name: bytes = b"main") -> list[LedgerBlock]:
    """So many blocks, the first of this height."""
    blocks: list[LedgerBlock] = []
    for i in range(count):
        blocks.append(next_block(blocks[-1].header if blocks else parent, height + i, name))
    return blocks


class ChainNode:
    """``jobs`` are those that were asked for and not answered, by key."""

    def __init__(
        self, records: Sequence[Any] = (), *, stands: bytes = GENESIS.id, ready: bool = True, **config: Any
    ) -> None:
        settings = NakamotoConfig(genesis=GENESIS, **{"flush_blocks": 100, **config})
        self.now = 100.0
        self.wall_ns = WALL_NS
        self.jobs: dict[Any, Any] = {}
        self.records: list[Any] = list(records)
        self.host = Host(lambda env: Nakamoto(env, settings), 1, (1, 2, 3), streams(0))
        for record in records:
            self.host.restore(Record((), record))
        self.started = self._seen(self.host.start(self.now, self.wall_ns))
        if ready:
            self.began = self.done("stand", Stood(stands))

    @property
    def core(self) -> Nakamoto:
        core = self.host.root
        assert isinstance(core, Nakamoto)
        return core

    def _seen(self, turn: Turn) -> Turn:
        for job in turn.jobs:
            if job.work is None:
                self.jobs.pop(job.key, None)
            else:
                self.jobs[job.key] = job.work
        self.records += [record.value for record in turn.records]
        return turn

    def step(self, *inputs: Input) -> Turn:
        return self._seen(self.host.step(inputs, self.now, self.wall_ns))

    def on(self, sender: int, *messages: Any) -> Turn:
        return self.step(*[Received(sender, message) for message in messages])

    def done(self, key: Any, result: Any) -> Turn:
        self.jobs.pop(key, None)
        return self.step(Done(key, result))

    # --- what the App and the miner do ---

    def execute(self, ruling: Ruling = OK) -> Turn:
        """The block that it asks about."""
        job = self.jobs["execute"]
        assert isinstance(job, ExecuteBlock)
        return self.done("execute", BlockExecuted(job.id, ruling))

    def execute_all(self) -> list[Turn]:
        turns = []
        while "execute" in self.jobs:
            turns.append(self.execute())
        return turns

    def give(self, sender: int, *blocks: LedgerBlock) -> Turn:
        """Headers, and then the bodies."""
        self.on(sender, Headers(tuple(block.header for block in blocks)))
        return self.on(sender, GiveBlocks(blocks))

    def mine(self, *transactions: bytes) -> Turn:
        """It builds a block with these, and finds its nonce."""
        [key] = [each for each in self.jobs if each[0] == "build"]
        job = self.jobs[key]
        assert isinstance(job, BuildBlock)
        self.done(key, BlockBuilt(job.parent, payload_of(job.height, transactions), transactions))
        [key] = [each for each in self.jobs if each[0] == "mine"]
        found = mined(self.jobs[key].draft)
        return self.done(key, Mined(found.nonce, found.time_s))


def wrong_body(block: LedgerBlock) -> LedgerBlock:
    """The same header with other transactions."""
    return LedgerBlock(block.header, block.payload, (*block.transactions, b"more"))


def unrelated(number: int) -> bytes:
    return sha256d(b"%d" % number)
