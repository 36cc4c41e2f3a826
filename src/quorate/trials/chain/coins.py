"""Coins: a small ledger under a core that owns a tree of blocks. Accounts are numbers.

A coin moves an amount from one account to another, has its sender's next number, and a seal that the sender alone can
make, so that nodes which lie can repeat it and not invent it. A block pays a subsidy to its proposer. The engine keeps
for each block what it changed, so the state is undone and done again, and never executed twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quorate.ledger.block import LedgerBlock, PayloadHeader
from quorate.ledger.header import NO_PARENT, sha256d
from quorate.parts.crypto.merkle import merkle_root
from quorate.protocols.nakamoto.chain_equipment import GENESIS

ACCOUNTS, FUND, SUBSIDY = 32, 1000, 50
BLOCK_COINS_MAX: Final = 50
PROPOSER: Final = 1 << 20
"""What is added to a node's number: the account that its blocks pay."""

SEAL_BYTES: Final = 8
CoinPlace = tuple[int, int]
"""Sender and number."""
CoinNumber = Annotated[int, Meta(ge=0, lt=2**40)]


class Coin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One transaction."""

    sender: CoinNumber
    number: CoinNumber
    to: CoinNumber
    amount: CoinNumber
    seal: Annotated[bytes, Meta(min_length=SEAL_BYTES, max_length=SEAL_BYTES)] = bytes(SEAL_BYTES)

    @property
    def place(self) -> CoinPlace:
        """Of which there is one on a chain."""
        return self.sender, self.number


CoinHolding = tuple[int, int]
"""Balance and next number."""
Diff = dict[int, tuple[CoinHolding | None, CoinHolding]]
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Coin).decode


def sealed(sender: int, number: int, to: int, amount: int) -> bytes:
    """The bytes of a payment as its sender's wallet makes them. Nobody else in a run calls this."""
    bare = Coin(sender, number, to, amount)
    return _encode(msgspec.structs.replace(bare, seal=_seal_of(bare)))


def _seal_of(bare: Coin) -> bytes:
    return blake2b(_encode(bare), key=b"wallet %d" % bare.sender, digest_size=SEAL_BYTES).digest()


@lru_cache(maxsize=1 << 14)
def decoded(raw: bytes) -> Coin | None:
    """The payment of these bytes, if its sender sealed it. Each node of a run sees the same ones."""
    try:
        coin = _decode(raw)
    except msgspec.MsgspecError:
        return None
    bare = msgspec.structs.replace(coin, seal=bytes(SEAL_BYTES))
    return coin if coin.seal == _seal_of(bare) and _encode(coin) == raw else None


def first_state() -> dict[int, CoinHolding]:
    """All accounts have as much."""
    return dict.fromkeys(range(ACCOUNTS), (FUND, 0))


def supply_at(height: int) -> int:
    """How many coins there are after so many blocks."""
    return ACCOUNTS * FUND + SUBSIDY * height


class ExecutedCoins(msgspec.Struct, frozen=True):
    """What the engine knows of a block that it executed."""

    parent: bytes
    height: int
    diff: Diff
    root: bytes
    block: LedgerBlock | None


class CoinEngine:
    """The state at ``at``. ``done`` has what was executed, by id."""

    def __init__(self) -> None:
        self.state = first_state()
        self.at = GENESIS.id
        self.done: dict[bytes, ExecutedCoins] = {GENESIS.id: ExecutedCoins(NO_PARENT, 0, {}, bytes(32), None)}

    def go(self, to: bytes) -> None:
        """Undo down to the fork, and do again from there."""
        undo, do = [], []
        a, b = self.at, to
        while a != b:
            if self.done[b].height >= self.done[a].height:
                do.append(b)
                b = self.done[b].parent
            else:
                undo.append(a)
                a = self.done[a].parent
        for id in undo:
            for account, (before, _) in self.done[id].diff.items():
                self.put(account, before)
        for id in reversed(do):
            for account, (_, after) in self.done[id].diff.items():
                self.put(account, after)
        self.at = to

    def put(self, account: int, holding: CoinHolding | None) -> None:
        """None: it did not exist."""
        if holding is None:
            del self.state[account]
        else:
            self.state[account] = holding

    def run(self, raws: Sequence[bytes], proposer: bytes, *, strict: bool) -> tuple[Diff, list[bytes]] | str:
        """At the present state. Strict: what does not apply is an error, else it is left out."""
        diff: Diff = {}
        included: list[bytes] = []

        def holding(account: int) -> CoinHolding:
            return diff[account][1] if account in diff else self.state.get(account, (0, 0))

        def change(account: int, balance: int, number: int) -> None:
            before = diff[account][0] if account in diff else self.state.get(account)
            diff[account] = (before, (balance, number))

        for raw in raws:
            coin = decoded(raw)
            if coin is not None:
                balance, number = holding(coin.sender)
                if coin.number == number and 0 < coin.amount <= balance and len(included) < BLOCK_COINS_MAX:
                    change(coin.sender, balance - coin.amount, number + 1)
                    balance, number = holding(coin.to)
                    change(coin.to, balance + coin.amount, number)
                    included.append(raw)
                    continue
            if strict:
                return f"{coin} does not apply"
        account = PROPOSER + int.from_bytes(proposer, "big")
        balance, number = holding(account)
        change(account, balance + SUBSIDY, number)
        return diff, included

    def payload(self, parent: bytes, diff: Diff, included: Sequence[bytes], proposer: bytes) -> PayloadHeader:
        """What the header of such a block binds."""
        before = self.done[parent]
        state = sha256d(before.root + _encode(sorted((account, after) for account, (_, after) in diff.items())))
        return PayloadHeader(before.height + 1, proposer, merkle_root(included), state, bytes(32))

    def execute(self, id: bytes, block: LedgerBlock) -> str:
        """Empty if the block is right."""
        parent = block.header.parent
        self.go(parent)
        found = self.run(block.transactions, block.payload.proposer, strict=True)
        if isinstance(found, str):
            return found
        diff, included = found
        payload = self.payload(parent, diff, included, block.payload.proposer)
        if payload != block.payload:
            return "its payload is another"
        self.done[id] = ExecutedCoins(parent, payload.height, diff, payload.state, block)
        return ""
