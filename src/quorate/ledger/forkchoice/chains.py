"""Longest chain and most work: the fork choices that compare chains, whatever else is in the tree.

Sources: Nakamoto 2008, section 4 ("the longest chain ... has the greatest proof-of-work effort invested in it"); most
work is how Bitcoin means it, since targets differ. With one target for all blocks they are the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from quorate.ledger.tree import BlockTree, TreeEntry


class _ChainChoice:
    """The end with the highest rank."""

    @staticmethod
    def rank(entry: TreeEntry) -> tuple[int, int]:
        """No two blocks have the same: the order of what was seen differs."""
        raise NotImplementedError

    def prefers(self, a: TreeEntry, b: TreeEntry) -> bool:
        """Whether one is better than another: a strict order of all whole blocks."""
        return self.rank(a) > self.rank(b)

    def best(self, tree: BlockTree, floor: bytes | None = None) -> bytes:
        """The best tip: a block outranks its ancestors."""
        return self._best(tree, map(tree.entries.__getitem__, tree.tips), floor)

    def best_valid(self, tree: BlockTree, floor: bytes | None = None) -> bytes:
        """The best of the last valid blocks on the ways to the tips."""
        return self._best(tree, tree.fronts(), floor)

    def _best(self, tree: BlockTree, entries: Iterable[TreeEntry], floor: bytes | None) -> bytes:
        if floor is not None and floor != tree.base:
            entries = [entry for entry in entries if tree.is_ancestor(floor, entry.id)]
        return max(entries, key=self.rank).id


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
