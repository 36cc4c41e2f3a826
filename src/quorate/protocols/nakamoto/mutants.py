"""Planted bugs in the core of Nakamoto."""

from __future__ import annotations

from typing import Any

from quorate.kernel import Env
from quorate.ledger.block import LedgerBlock
from quorate.ledger.chain_jobs import ExecuteBlock, FlushStore
from quorate.ledger.outputs import Extended, Rewound
from quorate.ledger.ruling import OK, Ruling
from quorate.ledger.tree import BlockStatus
from quorate.protocols.nakamoto.bodies import Bodies
from quorate.protocols.nakamoto.core import Nakamoto
from quorate.protocols.nakamoto.messages import Arrived, Headers, Locate, Settled
from quorate.sim.mutant import Mutant


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


class HearsNobody(Nakamoto):
    """Makes a chain of its own."""

    def on_headers(self, sender: int, m: Headers) -> None:
        pass


MUTANTS = (
    Mutant("head-by-weight", "the head moves to the heaviest block, executed or not", core=HeadByWeight),
    Mutant("trusts-old-head", "a restart begins at the head of the journal, not at the store's", core=TrustsItsOldHead),
    Mutant("records-as-they-come", "a block is recorded before its parent is whole", core=RecordsAsTheyCome),
    Mutant("answers-no-locator", "nodes that lack blocks are not told which", core=AnswersNoLocator),
    Mutant("asks-once", "a block that does not come is asked for no more", core=AsksOnce),
    Mutant("flush-before-journal", "a flush does not wait for the records of its blocks", core=FlushesBeforeTheJournal),
    Mutant("hears-nobody", "headers of others are ignored", core=HearsNobody),
    Mutant("prunes-below-head", "the tree forgets the branch that the store stands on", core=PrunesBelowTheHead),
    Mutant("rewinds-oldest-first", "the blocks of a rewind are in the wrong order", core=RewindsOldestFirst),
    Mutant("forgets-final", "a restart forgets what is final", core=ForgetsWhatIsFinal),
)
