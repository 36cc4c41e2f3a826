"""Accounts of the native ledger: what one holds, and how its address is made, written and read.

An address is the first twenty bytes of the double SHA-256 of an Ed25519 public key. As text it is a q, the forty hex
digits, and eight more that check them, so that a slip of the finger sends no money to nobody.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from quorate.ledger.block import ADDRESS_BYTES
from quorate.ledger.header import sha256d

PUBLIC_KEY_BYTES: Final = 32
ACCOUNT_BYTES: Final = 16
SUPPLY_MAX: Final = 2**62
"""Of all units that there can be, so that no sum of balances leaves 64 bits."""
_CHECK_BYTES: Final = 4
_TEXT: Final = re.compile("q([0-9a-f]{48})")


class Account(NamedTuple):
    """``nonce``: how many transactions it has sent, and so the number of its next one."""

    nonce: int
    balance: int

    def encode(self) -> bytes:
        """Sixteen bytes: both as 64 bits, big-endian."""
        return (self.nonce << 64 | self.balance).to_bytes(ACCOUNT_BYTES, "big")

    @staticmethod
    def decode(data: bytes) -> Account:
        """Raises ValueError for other than sixteen bytes."""
        if len(data) != ACCOUNT_BYTES:
            raise ValueError(f"an account of {len(data)} bytes, not {ACCOUNT_BYTES}")
        return Account(int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big"))


NO_ACCOUNT: Final = Account(0, 0)
"""What an address has that nobody has paid yet. It is not stored."""


class AccountChange(NamedTuple):
    """What a block did to one account. None: it is not there."""

    address: bytes
    before: Account | None
    after: Account | None

    @property
    def undone(self) -> AccountChange:
        """The change back."""
        return AccountChange(self.address, self.after, self.before)


def address_of_key(public: bytes) -> bytes:
    """The address of this key's owner."""
    return sha256d(public)[:ADDRESS_BYTES]


def address_text(address: bytes) -> str:
    """As people write it: 49 characters."""
    return f"q{address.hex()}{sha256d(address)[:_CHECK_BYTES].hex()}"


def parse_account_address(text: str) -> bytes:
    """Raises ValueError, in words for a person."""
    if not (found := _TEXT.fullmatch(text)):
        raise ValueError(
            f"{text[:60]!r} is no address: a q and 48 hex digits, as `quorate chain wallet show` prints it"
        )
    data = bytes.fromhex(found[1])
    address, check = data[:ADDRESS_BYTES], data[ADDRESS_BYTES:]
    if sha256d(address)[:_CHECK_BYTES] != check:
        raise ValueError(f"{text!r} is no address: its last eight digits do not fit the rest, so one is wrong")
    return address
