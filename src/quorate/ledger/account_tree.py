"""AccountTree: all accounts of one moment under one hash, of which each can be proved, or proved absent.

How it works. A compact sparse Merkle tree. The *key* of an account is the SHA-256 of its address, and its bits, the
highest first, are the way down from the root: 0 is left. A subtree

- without an account has a hash of 32 zero bytes,
- with one account is that account's leaf, at whatever depth: SHA-256 of a zero byte, the key and the account's 16
  bytes,
- with more is a branch: SHA-256 of a one byte and the hashes of both halves.

So the shape follows from the accounts alone, and not from the order in which they came: undoing a change gives the
hash that was there before. An account of n is about log2(n) branches deep, however the addresses were chosen, since
nobody can choose the first bits of many hashes.

A tree never changes. ``changed`` makes another one that shares with it all that is the same, at a cost of O(log n) a
changed account. A block's state is therefore one reference, and a branch of the chain costs what it changed.

Source: D. Haider, "Compact Sparse Merkle Trees" (2018); the leaf that rises is of the Libra white paper (2019), §4.1.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Annotated, Final, TypeAlias

import msgspec

from quorate.ledger.accounts import ACCOUNT_BYTES, NO_ACCOUNT, Account, AccountChange
from quorate.ledger.block import LedgerAddress
from quorate.ledger.header import HASH_BYTES, BlockHash

KEY_BITS: Final = 256
EMPTY: Final = bytes(HASH_BYTES)
"""The hash of no account."""


# Nodes make no cycles, and there may be millions: the collector of cycles, which would visit all of them, is spared.
class _Leaf(msgspec.Struct, frozen=True, eq=False, gc=False):
    key: int
    address: bytes
    account: Account
    hash: bytes


class _Branch(msgspec.Struct, frozen=True, eq=False, gc=False):
    left: _Branch | _Leaf | None
    right: _Branch | _Leaf | None
    hash: bytes


_Node: TypeAlias = _Branch | _Leaf | None


def _leaf(key: int, address: bytes, account: Account) -> _Leaf:
    return _Leaf(key, address, account, leaf_hash_of(key.to_bytes(HASH_BYTES, "big"), account.encode()))


def _branch(left: _Node, right: _Node) -> _Branch:
    one, other = EMPTY if left is None else left.hash, EMPTY if right is None else right.hash
    return _Branch(left, right, sha256(b"\1" + one + other).digest())


def leaf_hash_of(key: bytes, account: bytes) -> bytes:
    """What stands for an account in the tree."""
    return sha256(b"\0" + key + account).digest()


def branch_hash(left: bytes, right: bytes) -> bytes:
    """What stands for two halves."""
    return sha256(b"\1" + left + right).digest()


def tree_key(address: bytes) -> bytes:
    """Where an account is in the tree."""
    return sha256(address).digest()


class AccountProof(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A claim: at this address there is this account; ``encoded`` empty: there is none.

    ``beside`` are the hashes beside the way, the lowest first. Where there is none, ``other_key`` and ``other`` are the
    account that stands alone where the way ends; empty: nothing does.
    """

    address: LedgerAddress
    encoded: Annotated[bytes, msgspec.Meta(max_length=ACCOUNT_BYTES)]
    beside: Annotated[tuple[BlockHash, ...], msgspec.Meta(max_length=KEY_BITS)]
    other_key: Annotated[bytes, msgspec.Meta(max_length=HASH_BYTES)] = b""
    other: Annotated[bytes, msgspec.Meta(max_length=ACCOUNT_BYTES)] = b""

    @property
    def account(self) -> Account:
        """What it claims. Raises ValueError for an account that is none."""
        return Account.decode(self.encoded) if self.encoded else NO_ACCOUNT

    def refusal(self, root: bytes) -> str | None:
        """Why this does not show the claim for the tree of this root; None: it does. Never raises."""
        if len(self.address) != 20 or len(self.beside) > KEY_BITS:
            return "the proof is not one of an account"
        if len(self.encoded) not in (0, ACCOUNT_BYTES) or len(self.other) not in (0, ACCOUNT_BYTES):
            return "an account has 16 bytes"
        if bool(self.other) != bool(self.other_key) or (self.encoded and self.other):
            return "the proof shows two accounts, or a key without one"
        key = tree_key(self.address)
        way = int.from_bytes(key, "big")
        depth = len(self.beside)
        if self.encoded:
            found = leaf_hash_of(key, self.encoded)
        elif self.other:
            if len(self.other_key) != HASH_BYTES or self.other_key == key:
                return "the proof of absence shows no other account"
            if depth and (way ^ int.from_bytes(self.other_key, "big")) >> (KEY_BITS - depth):
                return "the other account is not on the way"
            found = leaf_hash_of(self.other_key, self.other)
        else:
            found = EMPTY
        for height, beside in enumerate(self.beside):
            if len(beside) != HASH_BYTES:
                return f"a hash of {len(beside)} bytes, not {HASH_BYTES}"
            is_right = way >> (KEY_BITS - depth + height) & 1
            found = branch_hash(beside, found) if is_right else branch_hash(found, beside)
        return None if found == root else "the proof leads to another root"


class AccountTree:
    """Looks like a mapping that does not change."""

    __slots__ = ("_root", "root")

    def __init__(self, root: _Node = None) -> None:
        """Without arguments: no account."""
        self._root = root
        self.root = EMPTY if root is None else root.hash

    @classmethod
    def of(cls, accounts: Mapping[bytes, Account]) -> AccountTree:
        """By address."""
        return cls().changed(AccountChange(address, None, account) for address, account in accounts.items())

    def get(self, address: bytes) -> Account | None:
        """None: it is not there."""
        key = int.from_bytes(sha256(address).digest(), "big")
        node, bit = self._root, KEY_BITS - 1
        while type(node) is _Branch:
            node = node.right if key >> bit & 1 else node.left
            bit -= 1
        assert not isinstance(node, _Branch)
        return node.account if node is not None and node.key == key else None

    def __iter__(self) -> Iterator[tuple[bytes, Account]]:
        """Address and account, in the order of keys."""
        waiting: list[_Node] = [self._root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, _Branch):
                waiting += (node.right, node.left)
            elif node is not None:
                yield node.address, node.account

    def changed(self, changes: Iterable[AccountChange]) -> AccountTree:
        """The tree after them; one change an address at most."""
        leaves: dict[int, _Leaf | None] = {}
        for address, _, after in changes:
            key = int.from_bytes(sha256(address).digest(), "big")
            leaves[key] = None if after is None else _leaf(key, address, after)
        keys = sorted(leaves)
        wanted = [leaves[key] for key in keys]
        return AccountTree(_changed(self._root, KEY_BITS - 1, keys, wanted, 0, len(keys)))

    def proof(self, address: bytes) -> AccountProof:
        """That the account is as it is here, or that there is none."""
        key = int.from_bytes(sha256(address).digest(), "big")
        node, bit, beside = self._root, KEY_BITS - 1, list[bytes]()
        while isinstance(node, _Branch):
            node, other = (node.right, node.left) if key >> bit & 1 else (node.left, node.right)
            beside.append(EMPTY if other is None else other.hash)
            bit -= 1
        hashes = tuple(reversed(beside))
        if node is None:
            return AccountProof(address, b"", hashes)
        if node.key == key:
            return AccountProof(address, node.account.encode(), hashes)
        return AccountProof(address, b"", hashes, node.key.to_bytes(HASH_BYTES, "big"), node.account.encode())


def _changed(node: _Node, bit: int, keys: list[int], wanted: list[_Leaf | None], low: int, high: int) -> _Node:
    """The subtree whose keys this bit tells apart, after the changes from ``low`` to ``high`` of those wanted."""
    if low == high:
        return node
    if not isinstance(node, _Branch):
        return _built(bit, _with(node, keys, wanted, low, high))
    if high - low == 1:
        return _changed_alone(node, bit, keys, wanted, low)
    at = bisect_left(keys, (keys[low] >> bit | 1) << bit, low, high)
    left = _changed(node.left, bit - 1, keys, wanted, low, at)
    return _joined(left, _changed(node.right, bit - 1, keys, wanted, at, high))


def _changed_alone(node: _Node, bit: int, keys: list[int], wanted: list[_Leaf | None], at: int) -> _Node:
    """The same for one change: most of the way down belongs to one alone."""
    key, way = keys[at], list[_Branch]()
    while isinstance(node, _Branch):
        way.append(node)
        node = node.right if key >> bit & 1 else node.left
        bit -= 1
    node = _built(bit, _with(node, keys, wanted, at, at + 1))
    while way:
        above = way.pop()
        bit += 1
        node = _joined(above.left, node) if key >> bit & 1 else _joined(node, above.right)
    return node


def _with(leaf: _Leaf | None, keys: list[int], wanted: list[_Leaf | None], low: int, high: int) -> list[_Leaf]:
    """What is there in the end of a subtree that had one account or none."""
    leaves = [item for item in wanted[low:high] if item is not None]
    if leaf is not None:
        at = bisect_left(keys, leaf.key, low, high)
        if at == high or keys[at] != leaf.key:
            leaves.append(leaf)
            leaves.sort(key=_leaf_key)
    return leaves


def _leaf_key(leaf: _Leaf) -> int:
    return leaf.key


def _built(bit: int, leaves: list[_Leaf]) -> _Node:
    if len(leaves) < 2:
        return leaves[0] if leaves else None
    at = bisect_left(leaves, ((leaves[0].key >> bit | 1) << bit), key=_leaf_key)
    return _branch(_built(bit - 1, leaves[:at]), _built(bit - 1, leaves[at:]))


def _joined(left: _Node, right: _Node) -> _Node:
    """A lone account rises."""
    if left is None and not isinstance(right, _Branch):
        return right
    if right is None and not isinstance(left, _Branch):
        return left
    return _branch(left, right)
