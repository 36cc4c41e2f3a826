"""How nodes lie about transactions, where an ABCI app stands behind the chain."""

from __future__ import annotations

from collections.abc import Iterable

from quorate.kernel import Send
from quorate.protocols.tendermint.app_messages import TXS_MAX, Transactions
from quorate.protocols.tendermint.evidence_liars import Slandering
from quorate.protocols.tendermint.liars import Backdating, Forging, Hurrying, MakesUpRequests, Splitting, TellsFew
from quorate.sim.adversary.liar import Liar, Means


class Flooding(Liar):
    """Says that transactions wait at it which no client brought: some that the app refuses, and some that it takes."""

    name = "flooding"
    summary = "tells the others of transactions that it made up, many at a time"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._made = 0

    def tell(self, send: Send) -> Iterable[Send]:
        """Its message, and made-up transactions after it."""
        yield send
        means = self.means
        if means.chance(0.1):
            means.count(self.name)
            some = 1 + int(means.rng.random() * min(TXS_MAX, 32))
            txs = tuple([self._make() for _ in range(some)])
            yield Send(means.some(means.others), send.path, Transactions(txs))

    def _make(self) -> bytes:
        self._made += 1
        if self.means.chance(0.5):
            return b"%d is nothing" % self._made
        return b"liar%d=%d" % (self.means.node, self._made)


APP_LIARS = (MakesUpRequests, Forging, Backdating, Splitting, TellsFew, Hurrying, Flooding, Slandering)
"""Those of Tendermint that need no requests, and this module's own."""
