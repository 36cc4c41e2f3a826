"""Ghost: from the base up, always into the heaviest subtree. Blocks off the chain count for what they branch from.

How it works. The weight of a subtree is that of all whole blocks in it, which is summed from the leaves down in one
pass over the tree; a block that is invalid counts for nothing. So an attacker must outweigh all that honest miners did
since, and not only their longest chain (Sompolinsky and Zohar 2015, section 3, algorithm 1). It needs the blocks off
the chain to be passed on as well.

``best_valid`` goes by the same subtrees and steps into executed blocks alone.
"""

from __future__ import annotations

from quorate.ledger.tree import BlockStatus, BlockTree, TreeEntry


class Ghost:
    """The greedy heaviest observed subtree; ties are for the child that was seen first."""

    def best(self, tree: BlockTree, floor: bytes | None = None) -> bytes:
        """Where the way up ends."""
        return _climb(tree, floor, executed=False)

    def best_valid(self, tree: BlockTree, floor: bytes | None = None) -> bytes:
        """Where the way up ends among executed blocks."""
        return _climb(tree, floor, executed=True)


def subtree_weights(tree: BlockTree) -> dict[bytes, int]:
    """By id, the weight of the whole blocks from this one up. The base's own is left out: all have it."""
    weights: dict[bytes, int] = {}
    highest_first = sorted(tree.entries.values(), key=_height, reverse=True)
    for entry in highest_first:
        if entry.is_whole and entry.id != tree.base:
            weight = weights[entry.id] = weights.get(entry.id, 0) + entry.own_weight
            weights[entry.parent] = weights.get(entry.parent, 0) + weight
    return weights


def _climb(tree: BlockTree, floor: bytes | None, *, executed: bool) -> bytes:
    weights = subtree_weights(tree)
    entry = tree.entries[tree.base if floor is None else floor]
    while True:
        children = [tree.entries[child] for child in entry.children]
        open_to = [c for c in children if (c.status is BlockStatus.VALID if executed else c.is_whole)]
        if not open_to:
            return entry.id
        entry = max(open_to, key=lambda child: (weights[child.id], -child.order))


def _height(entry: TreeEntry) -> int:
    return entry.height
