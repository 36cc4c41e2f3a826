"""Merkle trees: equal to the recursion of RFC 6962 for every size, and no proof of anything else holds."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from quorate.parts.crypto.merkle import EMPTY_ROOT, MerkleProof, merkle_proofs, merkle_root

leaves_of_trees = st.lists(st.binary(max_size=40), min_size=1, max_size=70, unique=True)


def hash_of(*pieces: bytes) -> bytes:
    return sha256(b"".join(pieces)).digest()


def split(size: int) -> int:
    """The largest power of two that is smaller, by counting."""
    half = 1
    while half * 2 < size:
        half *= 2
    return half


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word by word."""
    if not leaves:
        return hash_of()
    if len(leaves) == 1:
        return hash_of(b"\0", leaves[0])
    k = split(len(leaves))
    return hash_of(b"\1", naive_root(leaves[:k]), naive_root(leaves[k:]))


def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1, word by word."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def test_root_and_proofs_are_those_of_the_rfc() -> None:
    for size in range(1, 66):
        leaves = [b"leaf %d" % i for i in range(size)]
        root, proofs = merkle_proofs(leaves)
        assert root == merkle_root(leaves) == naive_root(leaves)
        assert [proof.aunts for proof in proofs] == [tuple(naive_path(i, leaves)) for i in range(size)]
        assert [(proof.total, proof.index) for proof in proofs] == [(size, i) for i in range(size)]
        assert [proof.refusal(root, leaf) for proof, leaf in zip(proofs, leaves, strict=True)] == [None] * size


def test_no_leaves_and_known_vectors() -> None:
    assert merkle_root([]) == EMPTY_ROOT == merkle_proofs([])[0]
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert merkle_root([b""]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


@given(leaves_of_trees, st.data())
def test_a_proof_shows_one_leaf_at_one_place(leaves: list[bytes], data: st.DataObject) -> None:
    root, proofs = merkle_proofs(leaves)
    i = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(st.binary(max_size=40).filter(lambda leaf: leaf != leaves[i]))
    assert proofs[i].refusal(root, leaves[i]) is None
    assert proofs[i].refusal(root, other) == "the proof is of another leaf"
    j = data.draw(st.integers(0, len(leaves) + 2).filter(lambda j: j != i))
    assert replace(proofs[i], index=j).refusal(root, leaves[i]) is not None


@given(leaves_of_trees, st.data())
def test_one_flipped_bit_is_noticed(leaves: list[bytes], data: st.DataObject) -> None:
    root, proofs = merkle_proofs(leaves)
    proof = data.draw(st.sampled_from(proofs))
    hashes = [root, proof.leaf_hash, *proof.aunts]
    which = data.draw(st.integers(0, len(hashes) - 1))
    bit = data.draw(st.integers(0, 255))
    hashes[which] = (int.from_bytes(hashes[which], "big") ^ 1 << bit).to_bytes(32, "big")
    broken = replace(proof, leaf_hash=hashes[1], aunts=tuple(hashes[2:]))
    assert broken.refusal(hashes[0], leaves[proof.index]) is not None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"total": -1}, "negative"),
        ({"index": -1}, "negative"),
        ({"index": 5}, "does not fit"),
        ({"total": 0}, "does not fit"),
        ({"total": 1 << 62}, "does not fit"),
        ({"leaf_hash": b"short"}, "a leaf hash of 5 bytes"),
        ({"aunts": (b"x" * 31,)}, "an aunt of 31 bytes"),
        ({"aunts": (bytes(32),) * 101}, "101 aunts, at most 100"),
        ({"aunts": (bytes(32),) * 4}, "does not fit"),
        ({"aunts": ()}, "does not fit"),
    ],
)
def test_what_is_no_proof_is_refused_in_words(changes: dict[str, object], says: str) -> None:
    root, proofs = merkle_proofs([b"a", b"b", b"c", b"d", b"e"])
    assert says in str(replace(proofs[1], **changes).refusal(root, b"b"))


def test_an_inner_node_is_not_a_leaf() -> None:
    """Second preimages: the two halves of a node, given as one leaf, lead nowhere."""
    left, right = (sha256(b"\0" + leaf).digest() for leaf in (b"a", b"b"))
    root = merkle_root([b"a", b"b"])
    assert merkle_root([left + right]) != root
    forged = MerkleProof(1, 0, root, ())
    assert forged.refusal(root, left + right) == "the proof is of another leaf"
