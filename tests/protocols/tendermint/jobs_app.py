"""JobsApp: a small chain's app that is asked by jobs and may take its time, as an ABCI app does (``driven_app.py``).

Each question is a job for the App of the kernel above (``App.work``), which does them in order; what it returns is the
answer. A job that failed, as where the app is away for a while, is asked again at the next beat. The jobs leave when
what was recorded before is durable, so an app never hears of a decision that a crash takes back.

Transactions are any bytes. They wait in the order in which they came; what they mean, and which of them go into a
block, is for the app.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, TypeAlias

import msgspec

from quorate.kernel import Env, Key
from quorate.ledger.comet.commits import Commit
from quorate.parts.log.replicated import Busy
from quorate.protocols.tendermint.chain_app import ChainApp, Committed, Draft, Finalized, Prepared, Processed
from quorate.protocols.tendermint.messages import TendermintConfig
from quorate.protocols.tendermint.named_blocks import NamedBlock
from quorate.protocols.tendermint.questions import Questions

NO_ROOM: Final = "too many transactions wait"


class PrepareBlock(msgspec.Struct, frozen=True):
    """What is to be in the block? Result: a tuple of transactions, of at most ``draft.bytes_max`` together."""

    draft: Draft
    txs: tuple[bytes, ...]
    """Those that wait, as many as fit."""


class ProcessBlock(msgspec.Struct, frozen=True):
    """May this block be? Result: whether it may; equal at all nodes."""

    block: NamedBlock


class FinalizeBlock(msgspec.Struct, frozen=True):
    """The block is decided: what comes of it? Result: Finalized; equal at all nodes."""

    block: NamedBlock
    commit: Commit


class CommitBlock(msgspec.Struct, frozen=True):
    """Keep what came of the block of this height. Result: anything."""

    height: int


BlockJob: TypeAlias = PrepareBlock | ProcessBlock | FinalizeBlock | CommitBlock
BLOCK_JOBS: Final = (PrepareBlock, ProcessBlock, FinalizeBlock, CommitBlock)


class JobsApp(ChainApp):
    """The pool of transactions, and the questions under way."""

    def __init__(self, env: Env, config: TendermintConfig) -> None:
        super().__init__(env, config)
        self.pool: dict[bytes, bytes] = {}
        """By digest, in the order in which they came."""
        self._pool_bytes = 0
        self._questions = Questions(env)

    @property
    def has_something(self) -> bool:
        return bool(self.pool)

    def hear(self, sender: int, txs: Sequence[bytes]) -> None:
        self.submit(txs)

    def submit(self, values: Sequence[bytes]) -> None:
        refused = []
        for value in values:
            digest = sha256(value).digest()
            if digest in self.pool:
                continue
            config = self.config
            if len(self.pool) >= config.pending_max or self._pool_bytes + len(value) > config.pending_bytes_max:
                refused.append(value)
            else:
                self.pool[digest] = value
                self._pool_bytes += len(value)
        if refused:
            self.env.deliver(Busy(tuple(refused), NO_ROOM))

    # --- questions ---

    def prepare(self, draft: Draft) -> None:
        self._questions.ask(PrepareBlock(draft, self._first(min(draft.bytes_max, self.config.batch_bytes_max))))

    def process(self, block: NamedBlock) -> None:
        self._questions.ask(ProcessBlock(block))

    def finalize(self, block: NamedBlock, commit: Commit) -> None:
        """Questions about blocks that were not decided are not asked again."""
        self._questions.forget_failed()
        for tx in block.block.data.txs:
            self._pool_bytes -= len(self.pool.pop(sha256(tx).digest(), b""))
        self._questions.ask(FinalizeBlock(block, commit))

    def commit(self, height: int, said: Finalized) -> None:
        self._questions.ask(CommitBlock(height))

    def _first(self, bytes_max: int) -> tuple[bytes, ...]:
        """One at least."""
        taken: list[bytes] = []
        size = 0
        for tx in self.pool.values():
            size += len(tx)
            if taken and (size > bytes_max or len(taken) >= self.config.batch_count_max):
                break
            taken.append(tx)
        return tuple(taken)

    # --- answers ---

    def done(self, key: Key, result: Any) -> None:
        asked = self._questions.done(key, result)
        if asked is None:
            return
        job: BlockJob = asked[0]
        if isinstance(job, PrepareBlock):
            self.answer(Prepared(job.draft.height, job.draft.round, result))
        elif isinstance(job, ProcessBlock):
            self.answer(Processed(job.block.name, result))
        elif isinstance(job, FinalizeBlock):
            self.index += len(job.block.block.data.txs)
            self.answer(result)
        else:
            self.answer(Committed(job.height))

    def beat(self) -> None:
        self._questions.beat()
