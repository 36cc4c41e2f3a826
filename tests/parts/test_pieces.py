"""Pieces of a file and their Merkle tree: every piece is proven by its own proof, and by nothing else."""

import pytest

from quorate.parts.log.pieces import PieceTree, count_of, is_proven, leaf_of, length_at, tree_of

PIECE_BYTES = 4


def pieces_of(data: bytes) -> list[bytes]:
    return [data[at : at + PIECE_BYTES] for at in range(0, max(1, len(data)), PIECE_BYTES)]


@pytest.mark.parametrize("size", range(67))
def test_each_piece_is_proven_at_its_own_place_alone(size: int) -> None:
    data = bytes(range(size))
    tree, pieces = tree_of(data, PIECE_BYTES), pieces_of(data)
    count = count_of(size, PIECE_BYTES)
    assert count == len(pieces)
    for number, piece in enumerate(pieces):
        proof = tree.proof(number)
        assert tree.leaf(number) == leaf_of(piece)
        assert length_at(number * PIECE_BYTES, size, PIECE_BYTES) == len(piece)
        for place in range(count):
            assert is_proven(tree.root, count, place, piece, proof) == (place == number)
        assert not is_proven(tree.root, count, number, piece + b"x", proof)
        assert not is_proven(tree.root, count, number, piece[:-1] if piece else b"y", proof)
        assert not is_proven(tree.root, count, number, piece, (*proof, bytes(32)))
        assert not proof or not is_proven(tree.root, count, number, piece, proof[:-1])


def test_no_piece_begins_between_two_or_after_the_last() -> None:
    assert [length_at(offset, 9, 4) for offset in (0, 4, 8, 2, 9, 12, -4)] == [4, 4, 1, None, None, None, None]
    assert (length_at(0, 0, 4), length_at(4, 0, 4)) == (0, None)


def test_an_inner_node_is_no_piece() -> None:
    """RFC 6962 §2.1: leaves and inner nodes are hashed apart."""
    left, right = leaf_of(b"left"), leaf_of(b"right")
    root = PieceTree([left, right]).root
    assert leaf_of(left + right) != root
    assert not is_proven(root, 1, 0, left + right, ())


def test_the_root_of_three_is_that_of_rfc_6962() -> None:
    """The hash of one leaf moves up; that of two is hashed with the prefix 1."""
    from hashlib import sha256

    a, b, c = (sha256(b"\0" + piece).digest() for piece in (b"aaaa", b"bbbb", b"c"))
    pair = sha256(b"\1" + a + b).digest()
    assert tree_of(b"aaaabbbbc", 4).root == sha256(b"\1" + pair + c).digest()
