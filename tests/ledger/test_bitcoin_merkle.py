"""Bitcoin's Merkle tree: roots of real blocks, mutation found, and no branch that proves what is not there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quorate.ledger import bitcoin_merkle
from quorate.ledger.bitcoin_merkle import Branch, bitcoin_root, branch_of
from quorate.ledger.header import sha256d

from tests.ledger.sealer.bitcoin_headers import (
    ROOT_170,
    ROOT_100000,
    TRANSACTIONS_170,
    TRANSACTIONS_100000,
    hidden,
    shown,
)

LEAVES = [sha256d(b"%d" % i) for i in range(12)]


def test_roots_of_real_blocks() -> None:
    for root, ids in ((ROOT_170, TRANSACTIONS_170), (ROOT_100000, TRANSACTIONS_100000)):
        found = bitcoin_root(list(map(hidden, ids)))
        assert (shown(found.root), found.is_mutated) == (root, False)
    with pytest.raises(ValueError, match="no root"):
        bitcoin_root([])


@pytest.mark.parametrize(
    ("honest", "mutated"),
    [
        ([0, 1, 2], [0, 1, 2, 2]),
        ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 4, 5]),
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 4]),
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 4, 4, 4]),
    ],
)
def test_cve_2012_2459(honest: list[int], mutated: list[int]) -> None:
    good, bad = (bitcoin_root([LEAVES[i] for i in leaves]) for leaves in (honest, mutated))
    assert good.root == bad.root
    assert (good.is_mutated, bad.is_mutated) == (False, True)


@given(st.integers(1, 12))
def test_blocks_of_different_transactions_are_never_suspicious(count: int) -> None:
    assert not bitcoin_root(LEAVES[:count]).is_mutated


def transactions(count: int) -> list[bytes]:
    return [b"transaction %d" % i for i in range(count)]


def claim(txs: list[bytes], index: int) -> tuple[bytes, Branch]:
    """The root of these, and the branch of one."""
    leaves = list(map(sha256d, txs))
    return bitcoin_root(leaves).root, Branch(index, branch_of(leaves, index), txs[0], branch_of(leaves, 0))


@settings(max_examples=40)
@given(st.data())
def test_a_branch_proves_its_transaction_alone(data: st.DataObject) -> None:
    txs = transactions(data.draw(st.integers(1, 9)))
    index = data.draw(st.integers(0, len(txs) - 1))
    root, branch = claim(txs, index)
    assert branch.refusal(root, txs[index]) is None
    assert branch.refusal(root, b"other") == "the branch leads to another root"
    assert branch.refusal(bytes(32), txs[index]) is not None
    other = data.draw(st.integers(0, 2 * len(txs)).filter(lambda each: each != index))
    moved = replace(branch, index=other)
    if moved.refusal(root, txs[index]) is None:  # the repetition of the last one, which is the same transaction
        assert other >= len(txs)
    for at in range(len(branch.hashes)):
        hashes = (*branch.hashes[:at], bytes(32), *branch.hashes[at + 1 :])
        assert replace(branch, hashes=hashes).refusal(root, txs[index]) is not None


def inner_as_leaf() -> tuple[bytes, Branch, bytes]:
    """Two hashes pass for a transaction: the tree is a level less deep."""
    txs = transactions(4)
    leaves = list(map(sha256d, txs))
    pairs = [sha256d(leaves[0] + leaves[1]), sha256d(leaves[2] + leaves[3])]
    false = leaves[2] + leaves[3]
    return bitcoin_root(leaves).root, Branch(1, (pairs[0],), leaves[0] + leaves[1], (pairs[1],)), false


def leaf_as_inner(first: bytes = b"coinbase") -> tuple[bytes, Branch, bytes]:
    """A transaction of 64 bytes, really in a block, is two hashes: one of a payment that nobody made."""
    payment = b"a payment that is in no block"
    trojan = sha256d(payment) + sha256d(b"x")
    leaves = [sha256d(first), sha256d(trojan)]
    return bitcoin_root(leaves).root, Branch(2, (sha256d(b"x"), leaves[0]), first, (leaves[1],)), payment


def index_beyond() -> tuple[bytes, Branch, bytes]:
    """The same leaf under another number."""
    txs = transactions(4)
    root, branch = claim(txs, 1)
    return root, replace(branch, index=1 + 4), txs[1]


def unrelated_first() -> tuple[bytes, Branch, bytes]:
    """To hide how deep the tree is, a first transaction that is in another block."""
    root, branch, payment = leaf_as_inner()
    return root, replace(branch, first=b"other", first_hashes=(bytes(32), bytes(32))), payment


FORGERIES = {
    "inner as leaf": (inner_as_leaf, "64 bytes"),
    "leaf as inner": (leaf_as_inner, "as deep"),
    "index beyond": (index_beyond, "beyond the end"),
    "unrelated first": (unrelated_first, "first transaction leads"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries(name: str) -> None:
    forge, words = FORGERIES[name]
    root, branch, leaf = forge()
    why = branch.refusal(root, leaf)
    assert why is not None
    assert words in why


def test_forgeries_would_work_without_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the size two hashes are a transaction, and without the depth a transaction is two hashes."""
    root, branch, leaf = inner_as_leaf()
    monkeypatch.setattr(bitcoin_merkle, "INNER_BYTES", -1)
    assert branch.refusal(root, leaf) is None
    root, branch, leaf = leaf_as_inner()
    found = sha256d(leaf)
    assert sha256d(branch.first_hashes[0]) != found
    deep = replace(branch, hashes=branch.hashes, first_hashes=branch.first_hashes)
    assert bitcoin_merkle._root(leaf, deep.index, deep.hashes) == root
