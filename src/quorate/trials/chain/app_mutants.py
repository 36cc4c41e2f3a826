"""Planted bugs in the App of a chain, and in its store."""

from __future__ import annotations

from collections.abc import Callable

from quorate.kernel import App
from quorate.ledger.chain_jobs import StoreFlushed
from quorate.sim.mutant import Mutant
from quorate.trials.chain.app import CoinApp, CoinStore, FlushedCoins
from quorate.trials.chain.coins import CoinHolding


class TornStore(CoinApp):
    """The head pointer is written before the state."""

    def sync(self) -> StoreFlushed:
        before = self.store.kept
        flushed = super().sync()
        kept = self.store.kept
        self.store.kept = FlushedCoins(kept.head, before.state, before.done, kept.main)
        return flushed


class KeepsCreatedAccounts(CoinApp):
    """Undo leaves what was not there before."""

    def __init__(self, node: int, store: CoinStore) -> None:
        super().__init__(node, store)
        put = self.engine.put

        def sick(account: int, holding: CoinHolding | None) -> None:
            if holding is not None:
                put(account, holding)

        self.engine.put = sick  # type: ignore[method-assign]


class AnswersBeforeTheSync(CoinApp):
    """A flush is reported when it is written."""

    def sync(self) -> StoreFlushed:
        assert self.store.written is not None
        return StoreFlushed(self.store.written.head)


def _sick(kind: type[CoinApp]) -> Callable[[App], App]:
    def make(app: App) -> App:
        assert isinstance(app, CoinApp)
        return kind(app.node, app.store)

    return make


MUTANTS = (
    Mutant("torn-store", "a flush writes the head pointer without the state", app=_sick(TornStore)),
    Mutant("keeps-accounts", "undo leaves accounts that were not there before", app=_sick(KeepsCreatedAccounts)),
    Mutant("unsynced-flush", "a flush is reported before it is synced", app=_sick(AnswersBeforeTheSync)),
)
