"""ForkChoice: what every fork choice answers.

A tie is for what was seen first, never for the lower hash: a rule that miners can grind towards changes what a selfish
miner gains (Eyal and Sirer 2014, section 4: first seen is the rule whose gamma they discuss).
"""

from __future__ import annotations

from typing import Protocol as Interface

from quorate.ledger.tree import BlockTree


class ForkChoice(Interface):
    """A function of the tree. The head follows ``best_valid``; what is executed next lies on the way to ``best``.

    ``floor`` is a valid block that is final: it or a descendant is the answer. None: the base.
    """

    def best(self, tree: BlockTree, floor: bytes | None = None) -> bytes:
        """The id of the best whole block that is not known to be invalid."""

    def best_valid(self, tree: BlockTree, floor: bytes | None = None) -> bytes:
        """The id of the best block among those that were executed: no other is ever a head."""
