"""Pooling: transactions of a chain's app, from when they come until a block has them.

How it works. They wait in a Mempool, checked by the app (``CheckTxs``) when they come and after each block: all that
came in one turn together. The nodes tell each other of those that came to them, and again of those that have waited for
long. After a block those that the next one may have are checked again before it is proposed.

Nothing of it is durable, and what the app says of a transaction rests on blocks that it has kept. So the questions,
the answers and what is told wait for no record: a client that sends one transaction after the other would wait for a
vote or a block to be written each time. Source: CometBFT 0.38, ``mempool/clist_mempool.go``, ``mempool/reactor.go``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quorate.kernel import Env, Key
from quorate.ledger.comet.abci.response_messages import ResponseCheckTx
from quorate.ledger.comet.param_updates import data_bytes_max
from quorate.protocols.tendermint.app_messages import TXS_MAX, CheckTxs, Transactions, TxChecked
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.mempool import CLIENTS, Mempool
from quorate.protocols.tendermint.messages import TendermintConfig
from quorate.protocols.tendermint.named_blocks import BLOCK_BYTES_MAX
from quorate.protocols.tendermint.questions import Questions
from quorate.protocols.tendermint.telling import TELL_BYTES_MAX, tell_txs


class Pooling:
    """``chain`` is the core's, to be read."""

    chain: Chain

    def __init__(self, env: Env, config: TendermintConfig) -> None:
        self._env = env
        self._config = config
        self.mempool = Mempool(config.pending_max, config.pending_bytes_max, len(env.peers))
        self._checks = Questions(env, "check", env.work_now)
        self._fresh: list[tuple[bytes, int | None]] = []  # of this turn, and who brought each
        self._accepted: list[bytes] = []  # by the app, in this turn
        self._rechecks = 0  # how many are under way

    @property
    def bytes_max(self) -> int:
        """Of the transactions of a block, if it has no evidence."""
        chain = self.chain
        return data_bytes_max(chain.params.block, len(chain.state.validators.validators), 0, BLOCK_BYTES_MAX)

    # --- what comes ---

    def submit(self, values: Sequence[bytes]) -> None:
        """Of this node's clients."""
        for tx, why in self._take_in(values, CLIENTS):
            self._env.deliver_now(TxChecked(tx, None, why))

    def hear(self, sender: int, txs: Sequence[bytes]) -> None:
        """Of another node."""
        self._take_in(txs, sender)

    def _take_in(self, txs: Sequence[bytes], source: int | None) -> list[tuple[bytes, str]]:
        """Those that are not checked, and why."""
        refused, bytes_max = [], self.bytes_max
        for tx in txs:
            why = self.mempool.take_in(tx, source, bytes_max)
            if why:
                refused.append((tx, why))
            else:
                self._fresh.append((tx, source))
        return refused

    def settle(self) -> None:
        """At the end of a turn, all that came in it is checked together, and told together."""
        if self._fresh:
            txs, sources = zip(*self._fresh, strict=True)
            self._fresh = []
            self._checks.ask(CheckTxs(txs), (sources, self.mempool.era))
        if self._accepted:
            tell_txs(self._tell, self._accepted)
            self._accepted = []

    # --- blocks ---

    def decided(self, txs: Sequence[bytes], succeeded: Sequence[bool]) -> None:
        """They were in a block."""
        self.mempool.decided(txs, succeeded)

    def applied(self) -> None:
        """The app has kept a block: what waits is checked again."""
        self.mempool.begin_era()
        self._recheck()

    @property
    def is_rechecking(self) -> bool:
        """Whether the app is asked again about some that the next block may have."""
        return self._rechecks > 0

    def first(self, bytes_max: int) -> tuple[bytes, ...]:
        """For a block that has room for so many bytes."""
        config, gas_max = self._config, self.chain.params.block.max_gas
        return self.mempool.first(bytes_max, gas_max, config.batch_count_max, config.batch_bytes_max)

    # --- what the app says ---

    def done(self, key: Key, result: Any) -> bool:
        """Whether this was a question of this part."""
        if not self._checks.is_of(key):
            return False
        asked = self._checks.done(key, result)
        if asked is not None:
            job, (sources, era) = asked
            self._checked(job, sources, era, result)
        return True

    def _checked(
        self, job: CheckTxs, sources: Sequence[int | None], era: int, answers: Sequence[ResponseCheckTx]
    ) -> None:
        """``sources``: who brought each, unless it was here already."""
        gas_max = self.chain.params.block.max_gas
        whys = [self.mempool.checked(tx, answer, gas_max) for tx, answer in zip(job.txs, answers, strict=True)]
        for tx, answer, why, source in zip(job.txs, answers, whys, sources, strict=not job.is_recheck):
            if source is CLIENTS:
                self._env.deliver_now(TxChecked(tx, answer, why))
                if not why:
                    self._accepted.append(tx)
        self._rechecks -= job.is_recheck
        if job.is_recheck or era != self.mempool.era:
            self._recheck()  # others, for those that were refused; and these, if a block came meanwhile

    def _recheck(self) -> None:
        txs = self.mempool.recheck(self._config.batch_count_max, self._config.batch_bytes_max)
        if txs:
            self._rechecks += 1
            self._checks.ask(CheckTxs(txs, is_recheck=True), ((), self.mempool.era))

    # --- what is told ---

    def _tell(self, message: Transactions) -> None:
        self._env.send_now(self._env.others, message)

    def beat(self) -> None:
        """Time goes by: ask again what the app was too busy for, and tell again of what waits for long."""
        self._checks.beat()
        blocks = self.mempool.blocks(self._config.batch_count_max, self._config.batch_bytes_max)
        tell_txs(self._tell, self.mempool.overdue(TELL_BYTES_MAX, TXS_MAX, blocks))
