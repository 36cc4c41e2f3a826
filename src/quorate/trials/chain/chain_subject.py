"""ChainSubject: nodes of one chain, the ledger of coins above each, wallets that pay, and miners in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from quorate.kernel import App, Rng
from quorate.ledger.sealer.proof_of_work import Mine
from quorate.parts.crypto.keys import Scheme
from quorate.sim.checkers.base import Checker
from quorate.sim.workload import Results, Subject, Workload
from quorate.trials.chain.app import CoinApp, CoinStore
from quorate.trials.chain.common_past import CommonPast
from quorate.trials.chain.ledger_checks import LedgerChecks
from quorate.trials.chain.mining import INTERVAL_S, Miners
from quorate.trials.chain.payments import PAY_EVERY_S, Payments

COUNTED: Final = ("executed", "refused", "rewinds")


class ChainSubject(Subject):
    """One run's. ``stores`` outlive crashes, and ``apps`` are the newest of each node."""

    def __init__(
        self,
        nodes: int,
        interval_s: float = INTERVAL_S,
        pay_every_s: float = PAY_EVERY_S,
        app: Callable[[int, CoinStore], CoinApp] = CoinApp,
    ) -> None:
        self._app = app
        self._pay_every_s = pay_every_s
        self.miners = Miners(nodes, interval_s)
        self.past = CommonPast(self.miners)
        self.stores = [CoinStore() for _ in range(nodes)]
        self.doers = {Mine: self.miners.mine}

    def app(self, node: int, rng: Rng) -> App:
        """With what its store has."""
        return self._app(node, self.stores[node])

    def crashed(self, node: int, rng: Rng) -> None:
        """The store loses what it has not synced, or does not."""
        self.stores[node].crashed(rng)

    def workload(self, world: Any) -> Workload:
        """Wallets."""
        self.miners.now = lambda: world.now
        return Payments(world, self._pay_every_s)

    def checkers(self, protocol: Sequence[Checker], scheme: Scheme | None) -> list[Checker]:
        """Those of the core, and those of the ledger and of the chain as a whole."""
        return [*protocol, LedgerChecks(), self.past]

    def converged(self, world: Any) -> bool:
        """Whether all are up and have one head."""
        return is_settled(world.honest)

    def missing(self, world: Any) -> str:
        """What differs."""
        down = [node.id for node in world.honest if not node.up]
        heads = len({node.app.head for node in world.honest})
        return f"there are {heads} heads" + (f", and nodes {down} are down" if down else "")

    def results(self, world: Any) -> Results:
        """How the chain grew, and how often it was rewound."""
        apps = [node.app for node in world.honest if isinstance(node.app, CoinApp)]
        height = max((len(app.main) - 1 for app in apps), default=0)
        counts = {name: sum(app.counts[name] for app in apps) for name in COUNTED}
        counts |= {
            "blocks mined": len(self.miners.found_at),
            "blocks on the chain": height,
            "windows judged": self.past.windows,
            "flushes": sum(store.flushes for store in self.stores),
            "flushes lost": sum(store.lost for store in self.stores),
            **world.workload.counts,
        }
        return Results(committed=height, counts=counts, data=[app.head for app in apps])


def is_settled(nodes: Sequence[Any]) -> bool:
    """Whether all are up and have one head, their Apps too: outputs may still wait for the disk."""
    if not all(node.up for node in nodes):
        return False
    return len({head for node in nodes for head in (node.app.head, node.host.root.head)}) == 1
