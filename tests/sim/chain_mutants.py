"""Planted bugs in the core of Nakamoto and in the App above it, and a miner that lies."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from quorate.kernel import Env
from quorate.ledger.block import LedgerBlock
from quorate.ledger.chain_jobs import BlockBuilt, ExecuteBlock, FlushStore, StoreFlushed
from quorate.ledger.outputs import Extended, Rewound
from quorate.ledger.ruling import OK, Ruling
from quorate.ledger.tree import BlockStatus
from quorate.parts.crypto.merkle import merkle_root
from quorate.protocols.nakamoto.bodies import Bodies
from quorate.protocols.nakamoto.core import Nakamoto
from quorate.protocols.nakamoto.messages import Arrived, GiveBlocks, Headers, Locate, Settled, WantBlocks

from tests.sim.coins import CoinApp, CoinStore, Holding, raw_coin


class OverspendingMiner(Nakamoto):
    """A liar: its blocks have the work, and a payment that nobody can make. It builds on what others made."""

    def __init__(self, env: Env, *args: Any, **which: Any) -> None:
        super().__init__(env, *args, **which)
        self.made: dict[bytes, LedgerBlock] = {}

    def _built(self, built: BlockBuilt) -> None:
        transactions = (*built.transactions, raw_coin(1, 10**6, 2, 10**6))
        payload = replace(built.payload, transactions=merkle_root(transactions))
        super()._built(BlockBuilt(built.parent, payload, transactions))

    def _mined(self, result: Any) -> None:
        assert self.draft is not None
        draft, built = self.draft
        header = self.sealer.sealed(draft, result)
        if header is not None:
            self.made[header.id] = LedgerBlock(header, built.payload, built.transactions)
            self.env.send(self.env.others, Headers((header,)))
        self._build()

    def on_want_blocks(self, sender: int, m: WantBlocks) -> None:
        if bad := tuple(self.made[id] for id in m.ids if id in self.made):
            self.env.send(sender, GiveBlocks(bad))
        super().on_want_blocks(sender, m)


class HeadByWeight(Nakamoto):
    """The head moves to the heaviest block, executed or not."""

    def _advance(self) -> None:
        if not self.is_ready:
            return
        best = self.choice.best(self.tree, self.final)
        if best != self.head:
            for id in self.tree.path(self.head, best)[2]:
                entry = self.tree[id]
                if entry.status is BlockStatus.WHOLE:
                    assert entry.block is not None
                    self.tree.approve(id)
                    self.env.work("execute", ExecuteBlock(id, entry.height, entry.block))
            self._move(best)


class TrustsItsOldHead(Nakamoto):
    """After a restart it begins at the best block of its journal, wherever the store is."""

    def _stood(self, id: bytes) -> None:
        super()._stood(self.choice.best(self.tree))


class RecordsAsTheyCome(Nakamoto):
    """A block is recorded when its body comes, before its parent."""

    def _take_block(self, id: bytes, block: LedgerBlock) -> None:
        self.bodies.got(id)
        self.tree.attach(id, block)
        self.env.note(Arrived(block))
        self._advance()


class AnswersNoLocator(Nakamoto):
    """Nodes that lack something do not get it."""

    def on_locate(self, sender: int, m: Locate) -> None:
        pass


class PrunesBelowTheHead(Nakamoto):
    """The store may stand on a side branch, and that is forgotten."""

    def _flushed(self, id: bytes) -> None:
        self.is_flushing = False
        self.flushed = id
        tree = self.tree
        height = tree[self.head].height - self.config.keep_blocks
        if height > tree[tree.base].height:
            self.bodies.forget(tree.rebase(tree.ancestor(self.head, height).id))


class ForgetsWhatIsFinal(Nakamoto):
    """A promise is not restored."""

    def restore(self, record: Any) -> None:
        if not isinstance(record, Settled):
            super().restore(record)


class FlushesBeforeTheJournal(Nakamoto):
    """The store gets ahead of what is durable."""

    def _flush_if_due(self) -> None:
        behind = len(self.tree.path(self.flushed, self.head)[2])
        if not self.is_flushing and behind >= self.config.flush_blocks:
            self.is_flushing = True
            self.env.work("flush", FlushStore())


class TakesAnyRuling(Nakamoto):
    """Whatever the App says of a block, it is valid."""

    def _executed(self, id: bytes, ruling: Ruling) -> None:
        super()._executed(id, OK)


class RewindsOldestFirst(Nakamoto):
    """And else as it should."""

    def _move(self, to: bytes) -> None:
        fork, undo, do = self.tree.path(self.head, to)
        if len(undo) > 1:
            self.env.deliver(Rewound(fork, tuple(undo[::-1])))
            for id in do:
                entry = self.tree[id]
                assert entry.block is not None
                self.env.deliver(Extended(id, entry.height, entry.block))
            self.head = to
        super()._move(to)


class _AskedOnce(Bodies):
    """For these bodies no time is ever over."""

    def due(self, now: float) -> dict[int, list[bytes]]:
        return super().due(0.0)


class AsksOnce(Nakamoto):
    """If a block does not come, nobody else is asked for it."""

    def __init__(self, env: Env, *args: Any, **which: Any) -> None:
        super().__init__(env, *args, **which)
        self.bodies = _AskedOnce(self.config.retry_s, self.config.bodies_max)


# --- the App ---


class TornStore(CoinApp):
    """The head pointer is written before the state."""

    def flush(self) -> StoreFlushed:
        before = self.store.state, self.store.done
        flushed = super().flush()
        self.store.state, self.store.done = before
        return flushed


class KeepsCreatedAccounts(CoinApp):
    """Undo leaves what was not there before."""

    def __init__(self, node: int, store: CoinStore) -> None:
        super().__init__(node, store)
        put = self.engine.put

        def sick(account: int, holding: Holding | None) -> None:
            if holding is not None:
                put(account, holding)

        self.engine.put = sick  # type: ignore[method-assign]
