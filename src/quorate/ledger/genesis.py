"""Genesis: what all nodes of a chain must have alike, as the chain's first block.

    MAGIC | name: length 1, UTF-8 | time 4 | collector 20 | subsidy 8 | fee minimum 8 | time step 4
    | accounts: count 4, each address 20, amount 8, in the order of addresses

Its encoding is the one leaf of the transactions of block 0. So the id of that block, which every payment names, stands
for all rules and all first balances.
"""

from __future__ import annotations

import functools
from typing import Annotated, Final

import msgspec

from quorate.ledger.account_tree import AccountTree
from quorate.ledger.accounts import SUPPLY_MAX, Account
from quorate.ledger.block import LedgerAddress, LedgerBlock, PayloadHeader
from quorate.ledger.header import NO_PARENT, LedgerHeader, Uint32
from quorate.parts.crypto.merkle import EMPTY_ROOT, merkle_root

MAGIC: Final = b"quorate ledger 1\0"
BLOCK_VERSION: Final = 1
NAME_BYTES_MAX: Final = 128
ACCOUNTS_MAX: Final = 10_000
SUBSIDY_MAX: Final = 2**40
TIME_STEP_S_MAX: Final = 2**32 - 1

Amount = Annotated[int, msgspec.Meta(ge=0, le=SUPPLY_MAX)]


class Genesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Checked when it is made: raises ValueError."""

    name: str
    time_s: Uint32
    collector: LedgerAddress
    """Who gets fees and subsidies where nobody proposes, as the order is a log's."""
    accounts: tuple[tuple[LedgerAddress, Amount], ...]
    """In the order of addresses."""
    subsidy: Annotated[int, msgspec.Meta(ge=0, le=SUBSIDY_MAX)] = 0
    """New units with each block, until there are SUPPLY_MAX."""
    fee_min: Amount = 0
    time_step_s_max: Uint32 = TIME_STEP_S_MAX
    """How far a block's time may be ahead of its parent's, where clients say what time it is and may lie."""

    def __post_init__(self) -> None:
        size_bytes = len(self.name.encode(errors="replace"))
        if not 0 < size_bytes <= NAME_BYTES_MAX or not self.name.isprintable():
            raise ValueError(f"the name of a chain has 1 to {NAME_BYTES_MAX} bytes, all printable")
        if len(self.accounts) > ACCOUNTS_MAX:
            raise ValueError(f"{len(self.accounts)} first accounts, at most {ACCOUNTS_MAX}")
        addresses = [address for address, _ in self.accounts]
        if addresses != sorted(set(addresses)):
            raise ValueError("first accounts are in the order of addresses, each once")
        if any(amount < 1 for _, amount in self.accounts):
            raise ValueError("a first account has at least 1")
        if self.supply > SUPPLY_MAX:
            raise ValueError(f"the first accounts have {self.supply} units, at most {SUPPLY_MAX}")
        if not 1 <= self.time_step_s_max <= TIME_STEP_S_MAX:
            raise ValueError("the time step is at least 1 s")

    @property
    def supply(self) -> int:
        """What there is at the beginning."""
        return sum(amount for _, amount in self.accounts)

    def encode(self) -> bytes:
        """As the module says."""
        name = self.name.encode()
        parts = [
            MAGIC,
            bytes((len(name),)),
            name,
            self.time_s.to_bytes(4, "big"),
            self.collector,
            self.subsidy.to_bytes(8, "big"),
            self.fee_min.to_bytes(8, "big"),
            self.time_step_s_max.to_bytes(4, "big"),
            len(self.accounts).to_bytes(4, "big"),
        ]
        parts += [address + amount.to_bytes(8, "big") for address, amount in self.accounts]
        return b"".join(parts)

    @functools.cached_property
    def state(self) -> AccountTree:
        """The first accounts."""
        return AccountTree.of({address: Account(0, amount) for address, amount in self.accounts})

    @functools.cached_property
    def block(self) -> LedgerBlock:
        """Block 0. It has no transactions to execute: what its root of them stands for is the encoding."""
        payload = PayloadHeader(0, self.collector, merkle_root([self.encode()]), self.state.root, EMPTY_ROOT)
        return LedgerBlock(LedgerHeader(BLOCK_VERSION, NO_PARENT, payload.hash, self.time_s), payload, ())

    @functools.cached_property
    def id(self) -> bytes:
        """That of block 0."""
        return self.block.id
