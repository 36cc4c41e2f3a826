"""Payments: wallets that pay, spend twice, replace what waits, and send again what no block has.

A payment is answered when it is ``DEPTH`` blocks deep at the node that its wallet asks. That is likely to last, and not
certain: another one of the same sender and number may take its place after a rewind, which is counted. When all is
healed every payment must come into the chain of every node; of two that spend the same, one of them.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from quorate.sim.workload import Workload
from quorate.trials.chain.coins import ACCOUNTS, CoinPlace, sealed

PAY_EVERY_S: Final = 1.0
LOOK_EVERY_S: Final = 1.5
"""How often wallets look after their payments, and send again."""
DEPTH: Final = 3
TWICE: Final = 0.15
"""How many payments are spent twice at the same time, at two nodes."""
REPLACED: Final = 0.15
"""How many are replaced some time later by another one."""
REPLACE_S: Final = 2.0


class Payments(Workload):
    """``sent`` has by place all that was sent of it: two where somebody spent twice."""

    def __init__(self, world: Any, every_s: float = PAY_EVERY_S) -> None:
        super().__init__()
        self._world = world
        self._every_s = every_s
        self._rng = Random(f"{world.seed}/payments")
        self._numbers = [0] * ACCOUNTS
        self.sent: dict[CoinPlace, list[bytes]] = {}
        self._open: dict[CoinPlace, None] = {}
        """Those that nobody has seen deep enough."""
        self._answered: dict[CoinPlace, bytes] = {}
        self._is_over = False
        self._hushed_until = 0.0
        self.counts = {"payments rewound": 0, "payments sent again": 0, "spent twice": 0, "replaced": 0}

    @property
    def are_idle(self) -> bool:
        """Whether every honest node has every payment in its chain."""
        return self._is_over and not self.missing()

    def start(self) -> None:
        """As the base says."""
        self._world.after(self._rng.expovariate(1.0 / self._every_s), self._pay)
        self._world.after(LOOK_EVERY_S, self._look)

    def finish(self) -> None:
        """As the base says; wallets go on looking after what they sent."""
        self._is_over = True

    def hush(self, until_s: float) -> None:
        """As the base says."""
        self._hushed_until = until_s

    def missing(self) -> str:
        """Of which payments nothing is in the chain of some node."""
        for node in self._world.honest:
            settled = node.app.settled
            absent = [place for place in self.sent if place not in settled]
            if absent:
                return (
                    f"{len(absent)} payments are not in the chain of node {node.id}, of sender and number {absent[0]}"
                )
        return ""

    # --- wallets ---

    def _pay(self) -> None:
        if self._is_over:
            return
        if self._world.now >= self._hushed_until:
            self._new()
        self._world.after(self._rng.expovariate(1.0 / self._every_s), self._pay)

    def _new(self) -> None:
        rng = self._rng
        sender = rng.randrange(ACCOUNTS)
        place = sender, self._numbers[sender]
        self._numbers[sender] += 1
        self.operations += 1
        self._open[place] = None
        self._send(place, self._made(place))
        draw = rng.random()
        if draw < TWICE:
            self.counts["spent twice"] += 1
            self._send(place, self._made(place))
        elif draw < TWICE + REPLACED:
            self.counts["replaced"] += 1
            self._world.after(rng.random() * REPLACE_S, lambda: self._send(place, self._made(place)))

    def _made(self, place: CoinPlace) -> bytes:
        raw = sealed(*place, self._rng.randrange(ACCOUNTS), 1 + self._rng.randrange(5))
        self.sent.setdefault(place, []).append(raw)
        return raw

    def _send(self, place: CoinPlace, raw: bytes) -> None:
        node = self._some_node()
        if node is not None:
            node.request(None, raw)

    def _some_node(self) -> Any:
        up = [node for node in self._world.nodes if node.up and not node.paused]
        return up[self._rng.randrange(len(up))] if up else None

    def _look(self) -> None:
        """At the chain of one node, another one each time."""
        self._world.after(LOOK_EVERY_S, self._look)
        honest = [node for node in self._world.honest if node.up]
        if not honest:
            return
        app = honest[self._rng.randrange(len(honest))].app
        top, settled = len(app.main), app.settled
        for place in list(self._open):
            found = settled.get(place)
            if found is None:
                self.counts["payments sent again"] += 1
                self._send(place, self.sent[place][0])
            elif top - found[0] >= DEPTH:
                del self._open[place]
                self.answered += 1
                self._answered[place] = found[1]
        for place in [place for place, raw in self._answered.items() if settled.get(place, (0, raw))[1] != raw]:
            self.counts["payments rewound"] += 1  # another one of the same sender and number took its place
            del self._answered[place]
        if self._is_over:
            self._bring_back()

    def _bring_back(self) -> None:
        """After a deep rewind what was answered may be in no chain any more."""
        absent = {place for node in self._world.honest for place in self.sent if place not in node.app.settled}
        for place in sorted(absent - self._open.keys()):
            self._open[place] = None
