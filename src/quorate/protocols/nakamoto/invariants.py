"""What must never be in nodes of Nakamoto: a final block that is replaced, a broken tree, memory without bounds."""

from __future__ import annotations

from typing import Any, Final

from quorate.kernel import Core
from quorate.ledger.outputs import Extended, Finalised
from quorate.ledger.tree_faults import tree_faults
from quorate.protocols.nakamoto.bodies import WANTED_MAX
from quorate.protocols.nakamoto.core import Nakamoto
from quorate.sim.checkers.base import Checker, Violation

FINALITY: Final = "finality"
TREE: Final = "the tree of blocks is one"
BOUNDED: Final = "what peers can fill is bounded"
LOOK_EVERY: Final = 32
"""Steps of a node between two looks at its tree; more where the tree is large, for as much longer does a look take."""


class NakamotoInvariants(Checker):
    """What a node called final it never goes below, in none of its lives; and all nodes have one such chain."""

    def __init__(self) -> None:
        self.final: dict[int, bytes] = {}
        """By height, of all nodes."""
        self._heights: dict[int, int] = {}
        self._steps: dict[int, int] = {}
        """Until it is looked at."""

    def output(self, node: int, value: Any) -> None:
        """What is final stays so."""
        if isinstance(value, Finalised):
            known = self.final.setdefault(value.height, value.id)
            if known != value.id:
                raise Violation(FINALITY, f"node {node} finalises another block at height {value.height}")
            if value.height < self._heights.get(node, 0):
                raise Violation(FINALITY, f"node {node} finalises {value.height} after {self._heights[node]}")
            self._heights[node] = value.height
        elif isinstance(value, Extended):
            known = self.final.get(value.height, value.id)
            if known != value.id and value.height <= self._heights.get(node, 0):
                raise Violation(FINALITY, f"node {node} replaces the final block at height {value.height}")

    def stepped(self, node: int, core: Core) -> None:
        """Its tree, and its sizes."""
        left = self._steps[node] = self._steps.get(node, 0) - 1
        if left > 0:
            return
        assert isinstance(core, Nakamoto)
        self._steps[node] = LOOK_EVERY + 4 * len(core.tree)
        faults = tree_faults(core.tree)
        if faults:
            raise Violation(TREE, f"node {node}: {faults[0]}")
        self._check_sizes(node, core)

    def _check_sizes(self, node: int, core: Nakamoto) -> None:
        tree = core.tree
        if core.orphans.size_bytes > core.orphans.bytes_max:
            raise Violation(BOUNDED, f"node {node} keeps {core.orphans.size_bytes} bytes of orphans")
        if len(core.bodies) > min(WANTED_MAX, len(tree)):
            raise Violation(BOUNDED, f"node {node} wants {len(core.bodies)} blocks of {len(tree)}")
        if len(core.givers) > len(tree):
            raise Violation(BOUNDED, f"node {node} remembers who gave {len(core.givers)} blocks of {len(tree)}")
