"""The Merkle tree of RFC 6962, section 2.1, over SHA-256: roots, proofs that a leaf is in it, and their check.

How it works. A leaf is hashed after a zero byte and an inner node after a one, so that neither passes for the other.
The left half of n leaves is the largest power of two below n. Of no leaves the root is the hash of nothing.

A proof holds the hashes beside the way from the leaf to the root (*aunts*), the lowest first. It shows the place of the
leaf and how many there are too, but only to who knows the root. CometBFT keeps proofs as this does (its
``crypto/merkle``).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

HASH_BYTES: Final = 32
AUNTS_MAX: Final = 100
"""As CometBFT has it; 62 are enough for every tree whose size fits 63 bits."""
EMPTY_ROOT: Final = sha256(b"").digest()


class MerkleProof(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A claim: leaf ``index`` of ``total`` has this hash, and these are the hashes beside its way to the root."""

    total: int = 0
    index: int = 0
    leaf_hash: bytes = b""
    aunts: tuple[bytes, ...] = ()

    def check(self) -> None:
        """Raises ValueError for what is not a proof of anything, whatever the root."""
        if self.total < 0 or self.index < 0:
            raise ValueError("a proof: its total or its index is negative")
        if len(self.leaf_hash) != HASH_BYTES:
            raise ValueError(f"a proof: a leaf hash of {len(self.leaf_hash)} bytes, not {HASH_BYTES}")
        if len(self.aunts) > AUNTS_MAX:
            raise ValueError(f"a proof: {len(self.aunts)} aunts, at most {AUNTS_MAX}")
        for aunt in self.aunts:
            if len(aunt) != HASH_BYTES:
                raise ValueError(f"a proof: an aunt of {len(aunt)} bytes, not {HASH_BYTES}")

    def refusal(self, root: bytes, leaf: bytes) -> str | None:
        """Why this does not show that the leaf is in the tree of this root; None: it does. Never raises."""
        try:
            self.check()
        except ValueError as error:
            return str(error)
        if self.leaf_hash != leaf_hash(leaf):
            return "the proof is of another leaf"
        found = self.root()
        if found is None:
            return "the proof does not fit its index and total"
        return None if found == root else "the proof leads to another root"

    def root(self) -> bytes | None:
        """The root that the proof leads to; None, if it has not as many aunts as its place in the tree asks for."""
        if not 0 <= self.index < self.total:
            return None
        is_left = []  # for each inner node, from the root down: whether the leaf is in its left half
        first, size = 0, self.total
        while size > 1:
            left = _left_half(size)
            is_left.append(self.index < first + left)
            first, size = (first, left) if is_left[-1] else (first + left, size - left)
        if len(is_left) != len(self.aunts):
            return None
        found = self.leaf_hash
        for aunt, below_left in zip(self.aunts, reversed(is_left), strict=True):
            found = inner_hash(found, aunt) if below_left else inner_hash(aunt, found)
        return found


def leaf_hash(leaf: bytes) -> bytes:
    """What stands for a leaf in the tree."""
    return sha256(b"\0" + leaf).digest()


def inner_hash(left: bytes, right: bytes) -> bytes:
    """What stands for two subtrees."""
    return sha256(b"\1" + left + right).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root of the tree of these leaves."""
    level = list(map(leaf_hash, leaves))
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        level = _above(level)
    return level[0]


def merkle_proofs(leaves: Sequence[bytes]) -> tuple[bytes, list[MerkleProof]]:
    """The root, and a proof for each leaf."""
    hashes = list(map(leaf_hash, leaves))
    aunts: list[list[bytes]] = [[] for _ in leaves]
    level = hashes
    width = 1  # leaves below a node of this level; the last node may have fewer
    while len(level) > 1:
        for i in range(len(leaves)):
            sibling = i // width ^ 1
            if sibling < len(level):  # else the node goes up as it is, without a sister
                aunts[i].append(level[sibling])
        level = _above(level)
        width *= 2
    root = level[0] if level else EMPTY_ROOT
    proofs = [MerkleProof(len(hashes), i, hashes[i], tuple(aunts[i])) for i in range(len(hashes))]
    return root, proofs


def _above(level: list[bytes]) -> list[bytes]:
    """The level above: pairs; the last one of an odd number goes up as it is, which keeps left halves powers of two."""
    above = [inner_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        above.append(level[-1])
    return above


def _left_half(size: int) -> int:
    """The largest power of two below the size, which is at least two."""
    return 1 << (size - 1).bit_length() - 1
