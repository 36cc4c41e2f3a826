"""A block of a chain: header, what the header binds, and the transactions as the engine encodes them."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from quorate.ledger.header import BlockHash, LedgerHeader, sha256d

ADDRESS_BYTES: Final = 20
HEIGHT_MAX: Final = 2**63 - 1

LedgerAddress = Annotated[bytes, msgspec.Meta(min_length=ADDRESS_BYTES, max_length=ADDRESS_BYTES)]
Uint64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class PayloadHeader(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the payload's hash binds. Roots are those after this block."""

    height: Uint64
    proposer: LedgerAddress
    """Who gets fees and subsidy."""
    transactions: BlockHash
    """Root of the tree of the transactions' bytes."""
    state: BlockHash
    receipts: BlockHash
    gas_used: Uint64 = 0
    base_fee: Uint64 = 0

    def encode(self) -> bytes:
        """Fixed width, integers big-endian: 8 + 20 + 3 * 32 + 8 + 8 bytes."""
        return b"".join((
            self.height.to_bytes(8, "big"),
            self.proposer,
            self.transactions,
            self.state,
            self.receipts,
            self.gas_used.to_bytes(8, "big"),
            self.base_fee.to_bytes(8, "big"),
        ))  # fmt: skip

    @property
    def hash(self) -> bytes:
        """What stands in the header as ``payload``."""
        return sha256d(self.encode())


class LedgerBlock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Whole, but judged by nobody yet."""

    header: LedgerHeader
    payload: PayloadHeader
    transactions: tuple[bytes, ...]

    @property
    def id(self) -> bytes:
        """The header's."""
        return self.header.id
