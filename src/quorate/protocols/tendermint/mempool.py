"""Mempool: transactions that wait for a block: what may wait, in which order, and for how long it is remembered.

A transaction comes from this node's clients or from another node. It is looked at once, by the digest: what is here, is
being checked, or was in a block lately, is not taken in again. Then the app checks it (CheckTx). After a block the app
must check it again before it may be in another one. What the app refuses is forgotten, since it may accept it later.

Departure: CometBFT has all that wait checked again after each block. Here those that the next block may have are, and
the others when it is their turn, so that a block's work does not grow with what waits.

Limits. Those that wait and those that are being checked take room together, in counts and in bytes. Another node gets a
share of it, so that one that lies cannot keep clients of this node out.

Source: CometBFT 0.38, ``mempool/clist_mempool.go``, ``mempool/cache.go``; ``spec/mempool``.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

from quorate.ledger.comet.abci.answer_checks import tx_bytes_in_block
from quorate.ledger.comet.abci.response_messages import ResponseCheckTx
from quorate.protocols.tendermint.app_messages import TX_BYTES_MAX

CACHE_MAX: Final = 10_000
"""cache_size: digests of transactions that were in a block."""
IN_CACHE: Final = "tx already exists in cache"
"""As CometBFT says it (ErrTxInCache)."""
FULL: Final = "mempool is full"
EMPTY: Final = "a transaction of no bytes"
CLIENTS: Final = None
"""The source that is no other node."""
BEATS_OF_CLIENTS: Final = 2
"""After so many, for each block that what waits fills, the node whose client brought a transaction tells it again."""
BEATS_OF_OTHERS: Final = 16
"""And the others, in its place: each of them proposes it at its own turn anyway."""


class WaitingTx(msgspec.Struct, gc=False):
    """A transaction, and from whom it came."""

    tx: bytes
    source: int | None
    era: int
    """After so many blocks the app was asked about it last."""
    told_at: int
    """It is told again after so many beats, for each block that what waits fills."""
    gas: int | None = None
    """How much it wants; None: the app has not said yet whether it may wait."""
    is_accepted: bool = False
    """By the app, once at least."""
    beats: int = 0
    """How many beats it has waited."""


class Mempool:
    """``bytes`` and the number of all that is here, checked or not, are within the limits."""

    def __init__(self, count_max: int, bytes_max: int, sources: int, cache_max: int = CACHE_MAX) -> None:
        """``sources``: how many nodes there are."""
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._sources = max(1, sources)
        self._cache_max = cache_max
        self._here: dict[bytes, WaitingTx] = {}  # by digest, in the order in which they came
        self._past: dict[bytes, None] = {}  # digests of those that were in a block, the oldest first
        self._held: dict[int | None, tuple[int, int]] = {}  # count and bytes by source
        self.era = 0
        """How many blocks were applied in this life of the node."""
        self._ready = 0  # how many may be in a block
        self.bytes = 0

    def __len__(self) -> int:
        """How many may be in a block."""
        return self._ready

    def blocks(self, count_max: int, wanted_bytes: int) -> int:
        """How many blocks of so many transactions and bytes those that are here fill; one at least."""
        return 1 + max(len(self._here) // count_max, self.bytes // wanted_bytes)

    @property
    def txs(self) -> tuple[bytes, ...]:
        """Those that the app has accepted, in order."""
        return tuple([waiting.tx for waiting in self._here.values() if waiting.is_accepted])

    def take_in(self, tx: bytes, source: int | None, bytes_max: int) -> str:
        """Why it is not to be checked; empty: it is, and has its room. ``bytes_max``: of a block's transactions."""
        size, digest = len(tx), sha256(tx).digest()
        if not size:
            return EMPTY
        if size > TX_BYTES_MAX:
            return f"a transaction of {size} bytes, at most {TX_BYTES_MAX}"
        if tx_bytes_in_block(tx) > bytes_max:
            return f"a transaction of {size} bytes, and blocks have room for {bytes_max}"
        if digest in self._here or digest in self._past:
            return IN_CACHE
        count, held = self._held.get(source, (0, 0))
        parts = 1 if source is CLIENTS else self._sources
        if len(self._here) >= self._count_max or self.bytes + size > self._bytes_max:
            return f"{FULL}: {len(self._here)} transactions of {self.bytes} bytes"
        if count >= max(1, self._count_max // parts) or (count and held + size > self._bytes_max // parts):
            return f"{FULL}: {count} transactions of one node"
        self._here[digest] = WaitingTx(tx, source, self.era, BEATS_OF_CLIENTS if source is CLIENTS else BEATS_OF_OTHERS)
        self._hold(source, 1, size)
        return ""

    def checked(self, tx: bytes, answer: ResponseCheckTx, gas_max: int) -> str:
        """The app's answer for one that is here: why it may not wait; empty: it may. ``gas_max``: of a block, or -1."""
        digest = sha256(tx).digest()
        waiting = self._here.get(digest)
        if waiting is None:
            return "it was in a block meanwhile"
        why = ""
        if answer.code:
            why = f"the app refused it with code {answer.code}"
        elif 0 <= gas_max < answer.gas_wanted:  # PostCheckMaxGas
            why = f"it wants {answer.gas_wanted} gas, and blocks have {gas_max}"
        if why:
            self._let_go(digest)
        else:
            self._ready += waiting.gas is None and waiting.era == self.era
            waiting.gas, waiting.is_accepted = answer.gas_wanted, True
        return why

    def begin_era(self) -> None:
        """A block was applied: what waits is in none before the app has checked it again."""
        self.era += 1
        self._ready = 0

    def recheck(self, count_max: int, wanted_bytes: int) -> tuple[bytes, ...]:
        """Those that are to be checked again now: enough for a block, with those that may be in one already."""
        found: list[bytes] = []
        count = size = 0
        for waiting in self._here.values():
            if count >= count_max or size > wanted_bytes:
                break
            is_of_now = waiting.era == self.era
            if is_of_now or waiting.gas is not None:  # else the app is being asked, and is asked again afterwards
                count, size = count + 1, size + len(waiting.tx)
            if not is_of_now and waiting.gas is not None:
                waiting.era, waiting.gas = self.era, None
                found.append(waiting.tx)
        return tuple(found)

    def decided(self, txs: Sequence[bytes], succeeded: Sequence[bool]) -> None:
        """They were in a block. One that failed there may come again (CListMempool.Update)."""
        for tx, is_good in zip(txs, succeeded, strict=True):
            digest = sha256(tx).digest()
            self._let_go(digest)
            self._past.pop(digest, None)
            if is_good:
                self._past[digest] = None
        while len(self._past) > self._cache_max:
            del self._past[next(iter(self._past))]

    def first(self, bytes_max: int, gas_max: int, count_max: int, wanted_bytes: int) -> tuple[bytes, ...]:
        """For a block: at most so many bytes there and so much gas (-1: any); one at least, if it fits, and then no
        more than ``wanted_bytes``. One that does not fit is left for later, and does not hold up the others."""
        taken: list[bytes] = []
        size = gas = 0
        for waiting in self._here.values():
            if waiting.gas is None or waiting.era != self.era:
                continue
            its = tx_bytes_in_block(waiting.tx)
            if len(taken) >= count_max or (taken and size + its > wanted_bytes):
                break
            if size + its > bytes_max or 0 <= gas_max < gas + waiting.gas:
                continue
            size, gas = size + its, gas + waiting.gas
            taken.append(waiting.tx)
        return tuple(taken)

    def overdue(self, bytes_max: int, count_max: int, blocks: int) -> tuple[bytes, ...]:
        """At each beat: the oldest of those that have waited for long, for the others to be told of once more.

        And again after four times as long. What is told is seldom lost, so one that waits behind more than a block has
        (``blocks``: how many those that wait fill, one at least) has so many times the time.
        """
        found: list[bytes] = []
        for waiting in self._here.values():
            if not waiting.is_accepted:
                continue
            waiting.beats += 1
            if waiting.beats < waiting.told_at * blocks or len(found) >= count_max:
                continue
            if not found or bytes_max >= len(waiting.tx):
                bytes_max -= len(waiting.tx)
                waiting.told_at = 4 * waiting.beats
                found.append(waiting.tx)
        return tuple(found)

    def _let_go(self, digest: bytes) -> None:
        waiting = self._here.pop(digest, None)
        if waiting is not None:
            self._ready -= waiting.gas is not None and waiting.era == self.era
            self._hold(waiting.source, -1, -len(waiting.tx))

    def _hold(self, source: int | None, count: int, size: int) -> None:
        before = self._held.get(source, (0, 0))
        self._held[source] = (before[0] + count, before[1] + size)
        self.bytes += size
