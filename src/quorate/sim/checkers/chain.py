"""Whether chains do as they say: heads move along parents, what is final stays, and final chains agree."""

from __future__ import annotations

from typing import Any

from quorate.parts.log.chain import Extended, Finalised, Rewound
from quorate.sim.checkers.base import Checker, Violation

PROPERTY = "one final chain"


class ChainAgreement(Checker):
    """Follows the outputs of each honest node. ``genesis`` is the id at height 0, where every chain begins.

    A node that starts again hands its chain up anew, from whatever its App had kept; so its head may be anywhere on
    what it had, but never below what it called final.
    """

    def __init__(self, genesis: bytes) -> None:
        self._genesis = genesis
        self._chains: dict[int, list[bytes]] = {}
        self._final: dict[int, int] = {}
        self.agreed: list[bytes] = [genesis]
        """The final chain, by height."""
        self.rewinds = 0
        self.deepest = 0

    def output(self, node: int, value: Any) -> None:
        """One output of a node."""
        chain = self._chains.setdefault(node, [self._genesis])
        if isinstance(value, Extended):
            self._extend(node, chain, value)
        elif isinstance(value, Rewound):
            self._rewind(node, chain, value)
        elif isinstance(value, Finalised):
            self._finalise(node, chain, value)

    def head(self, node: int) -> bytes:
        """Where a node's chain ends."""
        return self._chains.get(node, [self._genesis])[-1]

    def _extend(self, node: int, chain: list[bytes], value: Extended) -> None:
        if 0 < value.height < len(chain) and chain[value.height] == value.id:
            return  # handed up again after a restart
        if value.parent != chain[-1] or value.height != len(chain):
            raise Violation(PROPERTY, f"node {node} extends its chain at {value.height} by a block of another parent")
        chain.append(value.id)

    def _rewind(self, node: int, chain: list[bytes], value: Rewound) -> None:
        if value.to not in chain:
            raise Violation(PROPERTY, f"node {node} rewinds to a block that is not on its chain")
        height = chain.index(value.to)
        if tuple(reversed(chain[height + 1 :])) != value.ids:
            raise Violation(PROPERTY, f"node {node} rewinds to {height}, and names other blocks than those above it")
        if height < self._final.get(node, 0):
            raise Violation(PROPERTY, f"node {node} rewinds to {height}, below what it called final")
        self.rewinds += 1
        self.deepest = max(self.deepest, len(chain) - 1 - height)
        del chain[height + 1 :]

    def _finalise(self, node: int, chain: list[bytes], value: Finalised) -> None:
        if value.height >= len(chain) or chain[value.height] != value.id:
            raise Violation(PROPERTY, f"node {node} calls a block final that is not on its chain at {value.height}")
        self._final[node] = max(self._final.get(node, 0), value.height)
        for height in range(1, value.height + 1):
            if height == len(self.agreed):
                self.agreed.append(chain[height])
            elif self.agreed[height] != chain[height]:
                raise Violation(PROPERTY, f"node {node} calls another block final at {height} than others did")
