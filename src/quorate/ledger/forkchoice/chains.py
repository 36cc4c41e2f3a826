"""Longest chain and most work: the fork choices that compare chains, whatever else is in the tree.

Sources: Nakamoto 2008, section 4 ("the longest chain ... has the greatest proof-of-work effort invested in it"); most
work is how Bitcoin means it, since targets differ. With one target for all blocks they are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from quorate.ledger.tree import BlockTree, TreeEntry

Rank: TypeAlias = Callable[[TreeEntry], tuple[int, int]]


class _ChainChoice:
    """The end with the highest rank."""

    @staticmethod
    def rank(entry: TreeEntry) -> tuple[int, int]:
        """No two blocks have the same: the order of what was seen differs."""
        raise NotImplementedError

    def prefers(self, a: TreeEntry, b: TreeEntry) -> bool:
        """Whether one is better than another: a strict order of all whole blocks."""
        return self.rank(a) > self.rank(b)

    def best(self, tree: BlockTree) -> bytes:
        """The best tip: a block outranks its ancestors."""
        return _best(map(tree.entries.__getitem__, tree.tips), self.rank)

    def best_valid(self, tree: BlockTree) -> bytes:
        """The best of the last valid blocks on the ways to the tips."""
        return _best(tree.fronts(), self.rank)


class LongestChain(_ChainChoice):
    """The most blocks, then first seen."""

    @staticmethod
    def rank(entry: TreeEntry) -> tuple[int, int]:
        """Height, and the earlier the better."""
        return entry.height, -entry.order


class MostWork(_ChainChoice):
    """The most weight from the first block on, then first seen."""

    @staticmethod
    def rank(entry: TreeEntry) -> tuple[int, int]:
        """Weight, and the earlier the better."""
        return entry.weight, -entry.order


def _best(entries: Iterable[TreeEntry], rank: Rank) -> bytes:
    return max(entries, key=rank).id
