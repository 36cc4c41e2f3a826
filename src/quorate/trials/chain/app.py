"""CoinApp: the ledger of coins above a core that owns a tree of blocks, and the disk that it stands on.

``CoinStore`` outlives the process. A flush is one transaction, which is written and then synced: after a crash between
the two either all of it is there or nothing. What is above that is in the App's memory alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, ClassVar, Final

import msgspec

from quorate.kernel import ROOT, App, Path, Requester, Rng
from quorate.kernel.app import Steps
from quorate.ledger.chain_jobs import (
    BlockBuilt,
    BlockExecuted,
    BlocksFetched,
    BuildBlock,
    ExecuteBlock,
    FetchBlocks,
    FlushStore,
    Stood,
    StoreFlushed,
    WhereStands,
)
from quorate.ledger.outputs import Extended, Finalised, Offered, Rewound
from quorate.ledger.ruling import OK, POINTS_OF_A_BAN, Ruling
from quorate.protocols.nakamoto.chain_equipment import GENESIS, proposer_of
from quorate.sim.checkers.base import Violation
from quorate.trials.chain.coins import CoinEngine, CoinHolding, CoinPlace, ExecutedCoins, decoded, first_state

SYNC_STEPS: Final = 10
"""Between a write and the end of its sync, so that crashes come between the two."""
POOL_BYTES_MAX: Final = 1 << 15
HEAD: Final = "the head moves as a chain does"
EXECUTED: Final = "the head moves to executed blocks alone"
ONCE: Final = "each payment once on a chain"
FINALITY: Final = "what is final is never rewound"


class FlushedCoins(msgspec.Struct, frozen=True):
    """What one flush writes."""

    head: bytes
    state: Mapping[int, CoinHolding]
    done: Mapping[bytes, ExecutedCoins]
    main: Sequence[bytes]


class CoinStore:
    """One node's disk, as far as its App goes."""

    def __init__(self) -> None:
        self.kept = FlushedCoins(GENESIS.id, first_state(), {}, (GENESIS.id,))
        self.written: FlushedCoins | None = None
        """What was not synced yet."""
        self.flushes = self.lost = 0

    def write(self, flushed: FlushedCoins) -> None:
        """It may be there after a crash."""
        self.written = flushed

    def sync(self) -> None:
        """What was written last will be."""
        assert self.written is not None
        self.kept, self.written = self.written, None
        self.flushes += 1

    def crashed(self, rng: Rng) -> None:
        """The process is gone. What was not synced is there as a whole or not at all."""
        if self.written is not None:
            if rng.random() < 0.5:
                self.kept = self.written
            else:
                self.lost += 1
            self.written = None


class CoinApp(App):
    """``main`` has the ids of the main chain by height. It raises Violation for a core that misleads it."""

    works: ClassVar[tuple[type, ...]] = (WhereStands, ExecuteBlock, BuildBlock, FlushStore, FetchBlocks)

    def __init__(self, node: int, store: CoinStore) -> None:
        self.node = node
        self.proposer = proposer_of(node)
        self.store = store
        kept = store.kept
        self.engine = CoinEngine()
        self.engine.done.update(kept.done)
        self.engine.state, self.engine.at = dict(kept.state), kept.head
        self.main = list(kept.main)
        self.head = kept.head
        self.final = 0
        """A height."""
        self.pool: dict[CoinPlace, bytes] = {}
        """Payments that no block of the chain has: one of each place, the first that came."""
        self.pool_bytes = 0
        self.settled: dict[CoinPlace, tuple[int, bytes]] = {}
        """Those that the chain has, with their heights."""
        for height, id in enumerate(self.main):
            self._settle(id, height)
        self.counts = {"executed": 0, "refused": 0, "rewinds": 0, "deepest": 0}

    def transactions(self, id: bytes) -> Sequence[bytes]:
        """Of a block that was executed here."""
        block = self.engine.done[id].block
        return () if block is None else block.transactions

    # --- the head ---

    def output(self, value: Any, path: Path = ROOT) -> None:
        """What the core says of the head, and what peers passed on."""
        if isinstance(value, Rewound):
            self.rewind(value)
        elif isinstance(value, Extended):
            self.extend(value)
        elif isinstance(value, Finalised):
            if self.main[value.height] != value.id or value.height <= self.final:
                raise Violation(FINALITY, f"node {self.node}: {value.height} is not on its chain, or was final before")
            self.final = value.height
        elif isinstance(value, Offered):
            self.offer(value.transactions)

    def extend(self, value: Extended) -> None:
        """By a block that was executed here."""
        if value.block.header.parent != self.head or value.height != len(self.main):
            raise Violation(HEAD, f"node {self.node} extends what is not its head, at height {value.height}")
        if value.id not in self.engine.done:
            raise Violation(EXECUTED, f"node {self.node} moves its head to a block of height {value.height}")
        self.head = value.id
        self.main.append(value.id)
        self._settle(value.id, value.height)

    def _settle(self, id: bytes, height: int) -> None:
        for raw in self.transactions(id):
            place = _place(raw)
            if place in self.settled:
                raise Violation(
                    ONCE, f"node {self.node}: payment {place} is in blocks {self.settled[place][0]}, {height}"
                )
            self.settled[place] = height, raw
            self._unpool(place)

    def rewind(self, value: Rewound) -> None:
        """Back to an ancestor. The payments wait again, so that no wallet has to send them once more."""
        count = len(value.ids)
        if not count or list(value.ids) != self.main[-count:][::-1]:
            raise Violation(HEAD, f"node {self.node} rewinds what is not the end of its chain")
        if len(self.main) - count <= self.final:
            raise Violation(FINALITY, f"node {self.node} rewinds to below {self.final}, which it called final")
        self.counts["rewinds"] += 1
        self.counts["deepest"] = max(self.counts["deepest"], count)
        for id in value.ids:
            for raw in self.transactions(id):
                place = _place(raw)
                del self.settled[place]
                self._unpool(place)
                self._pool(place, raw)
        del self.main[-count:]
        self.head = value.to
        if self.main[-1] != value.to:
            raise Violation(HEAD, f"node {self.node} rewinds to a block that is not there")

    # --- jobs ---

    def work(self, job: Any) -> Steps:
        """One step, but for a flush, which is written first and synced some time later."""
        yield
        if isinstance(job, WhereStands):
            return Stood(self.head)
        if isinstance(job, ExecuteBlock):
            return self.execute(job)
        if isinstance(job, BuildBlock):
            return self.build(job)
        if isinstance(job, FetchBlocks):
            return self.fetch(job)
        assert isinstance(job, FlushStore)
        self.write()
        for _ in range(SYNC_STEPS):
            yield
        return self.sync()

    def execute(self, job: ExecuteBlock) -> BlockExecuted:
        """Aside: the head stays where it is."""
        why = self.engine.execute(job.id, job.block)
        self.counts["refused" if why else "executed"] += 1
        return BlockExecuted(job.id, Ruling("bad", why, POINTS_OF_A_BAN, poisons=True) if why else OK)

    def build(self, job: BuildBlock) -> BlockBuilt:
        """Of all that waits and applies, each sender's in order."""
        self.engine.go(job.parent)
        raws = [self.pool[place] for place in sorted(self.pool)]
        found = self.engine.run(raws, self.proposer, strict=False)
        assert not isinstance(found, str)
        diff, included = found
        return BlockBuilt(job.parent, self.engine.payload(job.parent, diff, included, self.proposer), tuple(included))

    def write(self) -> None:
        """All up to the head."""
        self.engine.go(self.head)
        engine = self.engine
        self.store.write(FlushedCoins(self.head, dict(engine.state), dict(engine.done), tuple(self.main)))

    def sync(self) -> StoreFlushed:
        """What was written is durable now, wherever the head has gone meanwhile."""
        self.store.sync()
        return StoreFlushed(self.store.kept.head)

    def fetch(self, job: FetchBlocks) -> BlocksFetched:
        """What the core has forgotten, from the store."""
        done = self.engine.done
        blocks = tuple(found for id in job.ids if id in done and (found := done[id].block) is not None)
        heights = [done[id].height for id in job.locator if id in done and self.is_main(id)]
        if not heights:
            return BlocksFetched(job.peer, (), False, blocks)
        after = self.main[max(heights) + 1 :]
        headers = [found.header for id in after[: job.count] if (found := done[id].block) is not None]
        return BlocksFetched(job.peer, tuple(headers), len(after) > job.count, blocks)

    def is_main(self, id: bytes) -> bool:
        """Whether a block is on the main chain."""
        height = self.engine.done[id].height
        return height < len(self.main) and self.main[height] == id

    # --- payments ---

    def request(self, client: Requester, request: bytes) -> None:
        """A wallet brings a payment."""
        self.offer((request,))

    def offer(self, raws: Sequence[bytes]) -> None:
        """Keep what is new and sealed, and pass it on."""
        new = []
        for raw in raws:
            coin = decoded(raw)
            if coin is not None and coin.place not in self.pool and coin.place not in self.settled:
                if self._pool(coin.place, raw):
                    new.append(raw)
        if new:
            self.port.submit(new)

    def _pool(self, place: CoinPlace, raw: bytes) -> bool:
        if self.pool_bytes + len(raw) > POOL_BYTES_MAX:
            return False
        self.pool[place] = raw
        self.pool_bytes += len(raw)
        return True

    def _unpool(self, place: CoinPlace) -> None:
        raw = self.pool.pop(place, None)
        if raw is not None:
            self.pool_bytes -= len(raw)

    def supply(self) -> int:
        """How many coins there are at the head."""
        self.engine.go(self.head)
        return sum(balance for balance, _ in self.engine.state.values())

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        """Never asked for."""
        raise NotImplementedError("the store is the snapshot")

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        """Never asked for."""
        raise NotImplementedError("the store is the snapshot")


def _place(raw: bytes) -> CoinPlace:
    coin = decoded(raw)
    assert coin is not None, "an executed block has a payment that is none"
    return coin.place
