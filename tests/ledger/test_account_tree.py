"""The tree of accounts: one hash for one content, and proofs that hold for what is there and for nothing else."""

import random
from hashlib import sha256

import msgspec
import pytest

from quorate.ledger.account_tree import EMPTY, AccountProof, AccountTree, branch_hash, leaf_hash_of, tree_key
from quorate.ledger.accounts import Account, AccountChange, address_text, parse_account_address
from quorate.ledger.native import undone


def address(number: int) -> bytes:
    return sha256(b"%d" % number).digest()[:20]


def tree_of(*numbers: int) -> AccountTree:
    return AccountTree.of({address(number): Account(number, 10 * number) for number in numbers})


def root_by_definition(accounts: dict[bytes, Account]) -> bytes:
    """As the module's text says it, with nothing shared and nothing kept."""

    def below(bit: int, some: list[tuple[int, bytes]]) -> bytes:
        if len(some) < 2:
            return some[0][1] if some else EMPTY
        halves = [[item for item in some if item[0] >> bit & 1 == side] for side in (0, 1)]
        return branch_hash(below(bit - 1, halves[0]), below(bit - 1, halves[1]))

    keys = {tree_key(where): account for where, account in accounts.items()}
    return below(
        255, [(int.from_bytes(key, "big"), leaf_hash_of(key, account.encode())) for key, account in keys.items()]
    )


def test_small_trees_by_hand() -> None:
    assert AccountTree().root == EMPTY
    only = leaf_hash_of(tree_key(address(1)), Account(1, 10).encode())
    assert tree_of(1).root == only
    assert only == sha256(b"\0" + sha256(address(1)).digest() + bytes(7) + b"\1" + bytes(7) + b"\n").digest()


def test_any_changes_give_the_tree_of_what_is_there_and_back() -> None:
    """Against the definition, for forty random batches of additions, changes and removals."""
    rng = random.Random(1)
    accounts: dict[bytes, Account] = {}
    tree = AccountTree()
    for _ in range(40):
        chosen = [address(rng.randrange(60)) for _ in range(rng.randrange(1, 12))]
        changes = []
        for where in dict.fromkeys(chosen):
            after = None if rng.random() < 0.4 else Account(rng.randrange(9), rng.randrange(99))
            changes.append(AccountChange(where, accounts.get(where), after))
        before, before_root = dict(accounts), tree.root
        for where, _, after in changes:
            if after is None:
                accounts.pop(where, None)
            else:
                accounts[where] = after
        after_tree = tree.changed(changes)
        assert after_tree.root == root_by_definition(accounts)
        assert dict(after_tree) == accounts
        assert tree.root == before_root == root_by_definition(before)  # nothing changed in place
        assert undone(after_tree, changes).root == before_root
        tree = after_tree


def test_the_order_of_accounts_does_not_show() -> None:
    numbers = list(range(50))
    random.Random(2).shuffle(numbers)
    grown = AccountTree()
    for number in numbers:
        grown = grown.changed([AccountChange(address(number), None, Account(number, 10 * number))])
    assert grown.root == tree_of(*range(50)).root


def test_each_account_and_each_absence_is_proved() -> None:
    for count in (0, 1, 2, 3, 40):
        tree = tree_of(*range(count))
        for number in range(count + 40):
            proof = tree.proof(address(number))
            assert proof.refusal(tree.root) is None
            assert proof.account == (Account(number, 10 * number) if number < count else Account(0, 0))
            assert len(proof.beside) <= 16


@pytest.mark.parametrize("number", [3, 99])
def test_a_proof_of_anything_else_is_refused(number: int) -> None:
    """Each field changed, one after the other, for an account that is there and for one that is not."""
    tree = tree_of(*range(40))
    proof = tree.proof(address(number))
    other = tree.proof(address(4))
    assert proof.refusal(tree_of(*range(41)).root) == "the proof leads to another root"
    changed = {
        "address": address(98),
        "encoded": Account(0, 1).encode(),
        "beside": (bytes(32), *proof.beside[1:]),
        "other": Account(7, 7).encode(),
        "other_key": tree_key(address(4)),
    }
    for field in ("address", "encoded", "beside", *(("other", "other_key") if number == 99 else ())):
        assert msgspec.structs.replace(proof, **{field: changed[field]}).refusal(tree.root), field
    shorter = msgspec.structs.replace(proof, beside=proof.beside[1:])
    assert shorter.refusal(tree.root)
    # One that is there cannot be proved absent, neither by an empty place nor by a neighbour.
    assert AccountProof(address(3), b"", tree.proof(address(3)).beside).refusal(tree.root)
    itself = AccountProof(address(3), b"", tree.proof(address(3)).beside, tree_key(address(3)), Account(3, 30).encode())
    assert itself.refusal(tree.root) == "the proof of absence shows no other account"
    stranger = AccountProof(address(3), b"", other.beside, tree_key(address(4)), other.encoded)
    assert stranger.refusal(tree.root) is not None


def test_a_proof_of_senseless_lengths_is_refused_and_raises_nothing() -> None:
    tree = tree_of(*range(40))
    good = tree.proof(address(3))
    for bad in (
        msgspec.structs.replace(good, address=b""),
        msgspec.structs.replace(good, encoded=b"x"),
        msgspec.structs.replace(good, beside=(b"",) * 3),
        msgspec.structs.replace(good, beside=(bytes(32),) * 300),
        msgspec.structs.replace(good, encoded=b"", other=Account(1, 1).encode(), other_key=b"x"),
    ):
        assert bad.refusal(tree.root) is not None


def test_addresses_as_text_find_a_slip() -> None:
    text = address_text(address(1))
    assert parse_account_address(text) == address(1)
    for at in range(1, len(text)):
        slip = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
        with pytest.raises(ValueError, match="no address"):
            parse_account_address(slip)
    for wrong in ("", "q", text[1:], text + "0", text.upper(), text + "\n"):
        with pytest.raises(ValueError, match="no address"):
            parse_account_address(wrong)
