"""Bitcoin's Merkle tree: roots, branches, and the two ways in which it can be made to lie.

How it works. Leaves are the double hashes of transactions, and an inner node is the double hash of its two children
joined. A level of odd length repeats its last hash.

*Mutation* (CVE-2012-2459): because of that repetition a, b, c and a, b, c, c have one root. A level in which two hashes
that are joined are equal is therefore suspicious. The block with the repeated transactions is refused, but its header
is not condemned: the honest body has the same one.

*Leaves and inner nodes* (CVE-2017-12842): nothing tells one from the other, and an inner node is 64 bytes long. So a
transaction of 64 bytes can pass for two hashes, and two hashes for a transaction. ``Branch.refusal`` takes no leaf of
that size, and no branch that is deeper or less deep than that of the block's first transaction.

Our own trees (``parts/crypto/merkle.py``) have neither weakness. This one is for Bitcoin's headers and vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

import msgspec

from quorate.ledger.header import HASH_BYTES, BlockHash, Uint32, sha256d

INNER_BYTES: Final = 2 * HASH_BYTES
BRANCH_MAX: Final = 32
"""Hashes in a branch: more transactions than an index of 32 bits can tell apart are in no block."""

Hashes = Annotated[tuple[BlockHash, ...], msgspec.Meta(max_length=BRANCH_MAX)]


class BitcoinRoot(NamedTuple):
    """The root, and whether other leaves may have the same one."""

    root: bytes
    is_mutated: bool


def bitcoin_root(leaves: Sequence[bytes]) -> BitcoinRoot:
    """Of hashes, in the order in which they are in the block. Raises ValueError for none: a block has one at least."""
    if not leaves:
        raise ValueError("a block without transactions has no root")
    level, is_mutated = list(leaves), False
    while len(level) > 1:
        # Pairs that are there: the last hash of an odd level is no pair yet.
        is_mutated |= any(level[i] == level[i + 1] for i in range(0, len(level) - 1, 2))
        if len(level) % 2:
            level.append(level[-1])
        level = [sha256d(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return BitcoinRoot(level[0], is_mutated)


def branch_of(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The hashes beside the way from a leaf to the root, the lowest first."""
    branch = []
    level = list(leaves)
    while len(level) > 1:
        if len(level) % 2:
            level.append(level[-1])
        branch.append(level[index ^ 1])
        level = [sha256d(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
        index //= 2
    return tuple(branch)


class Branch(msgspec.Struct, frozen=True, array_like=True, tag="branch", gc=False):
    """A claim: the transaction ``leaf`` is number ``index`` of a block."""

    index: Uint32
    hashes: Hashes
    first: Annotated[bytes, msgspec.Meta(max_length=1 << 20)]
    """The first transaction of the block, which shows how deep its tree is."""
    first_hashes: Hashes

    def refusal(self, root: bytes, leaf: bytes) -> str | None:
        """Why this does not show that the leaf is in the block of this root; None: it does. Never raises."""
        if INNER_BYTES in (len(leaf), len(self.first)):
            return "a transaction of 64 bytes may be two hashes"
        if len(self.hashes) != len(self.first_hashes):
            return "the branch is not as deep as that of the first transaction"
        if self.index >> len(self.hashes):
            return "the index is beyond the end of a tree of this depth"
        if _root(self.first, 0, self.first_hashes) != root:
            return "the first transaction leads to another root"
        if _root(leaf, self.index, self.hashes) != root:
            return "the branch leads to another root"
        return None


def _root(leaf: bytes, index: int, hashes: Sequence[bytes]) -> bytes:
    found = sha256d(leaf)
    for other in hashes:
        found = sha256d(other + found) if index & 1 else sha256d(found + other)
        index >>= 1
    return found
