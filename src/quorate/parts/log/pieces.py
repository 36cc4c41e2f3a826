"""Pieces of a snapshot, each of which can be proved against one digest: a Merkle tree over pieces of one size.

Whoever knows the root (from nodes of which one is correct, say) can tell of every single piece whether it is right,
whoever sent it and in whichever order they come. Nothing that is wrong is ever stored, and who sent it is known by its
first false byte.

The hashes are those of RFC 6962 §2.1: leaves and inner nodes are told apart by a prefix, and a node without a sibling
moves up as it is. The shape follows from the number of pieces, so a proof is just the siblings from the leaf upwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

HASH_BYTES: Final = 32
PIECES_MAX: Final = 1 << 40
"""Of one file."""

Hash: TypeAlias = Annotated[bytes, Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
PieceProof: TypeAlias = Annotated[tuple[Hash, ...], Meta(max_length=PIECES_MAX.bit_length())]
"""The siblings on the way from a piece to the root."""


def leaf_of(data: bytes) -> bytes:
    """The hash of one piece."""
    return sha256(b"\0" + data).digest()


def count_of(size_bytes: int, piece_bytes: int) -> int:
    """How many pieces a file of this size has. An empty one has a piece without bytes."""
    return max(1, -(-size_bytes // piece_bytes))


def length_at(offset: int, size_bytes: int, piece_bytes: int) -> int | None:
    """How many bytes the piece has that begins at ``offset``; None where none begins."""
    if offset % piece_bytes or not 0 <= offset < max(1, size_bytes):
        return None
    return min(piece_bytes, size_bytes - offset)


class PieceTree:
    """The tree over a file's pieces, whose hashes are ``leaves``; there is at least one."""

    __slots__ = ("_levels",)

    def __init__(self, leaves: Sequence[bytes]) -> None:
        assert leaves
        self._levels: list[list[bytes]] = [list(leaves)]
        while len(below := self._levels[-1]) > 1:
            level = [_inner(left, right) for left, right in list(pairwise(below))[::2]]
            if len(below) % 2:
                level.append(below[-1])
            self._levels.append(level)

    @property
    def root(self) -> bytes:
        """What proves every piece."""
        return self._levels[-1][0]

    def leaf(self, number: int) -> bytes:
        """The hash of a piece, counted from 0."""
        return self._levels[0][number]

    def proof(self, number: int) -> tuple[bytes, ...]:
        """That this piece, counted from 0, is in the file."""
        proof: list[bytes] = []
        for level in self._levels[:-1]:
            sibling = number ^ 1
            if sibling < len(level):
                proof.append(level[sibling])
            number //= 2
        return tuple(proof)


def tree_of(data: bytes, piece_bytes: int) -> PieceTree:
    """Of a file that is in memory."""
    offsets = range(0, max(1, len(data)), piece_bytes)
    return PieceTree([leaf_of(data[offset : offset + piece_bytes]) for offset in offsets])


def is_proven(root: bytes, count: int, number: int, data: bytes, proof: Sequence[bytes]) -> bool:
    """Whether this is piece ``number``, counted from 0, of the file with that root and so many pieces."""
    found, siblings = leaf_of(data), iter(proof)
    while count > 1:
        if number ^ 1 < count:
            sibling = next(siblings, None)
            if sibling is None:
                return False
            found = _inner(sibling, found) if number % 2 else _inner(found, sibling)
        number, count = number // 2, (count + 1) // 2
    return next(siblings, None) is None and found == root


def _inner(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()
