"""The header of a block of a chain, in Bitcoin's shape: eighty bytes, whose double hash names the block.

A sealer decides what the last two fields mean: under proof of work ``bits`` is the target and ``nonce`` what was mined;
where a log decides the order both are zero. ``payload`` stands where Bitcoin has the root of the transactions. It is
the hash of the ``PayloadHeader`` (``block.py``), which binds transactions, state and receipts, so a proof of any of
them starts from these eighty bytes.

Source: Bitcoin developer reference, "Block Headers".
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Annotated, Final

import msgspec

HEADER_BYTES: Final = 80
HASH_BYTES: Final = 32
NO_PARENT: Final = bytes(HASH_BYTES)
"""What the first block of a chain has for a parent."""

_LAYOUT: Final = struct.Struct("<i32s32sIII")

BlockHash = Annotated[bytes, msgspec.Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
Uint32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]


def sha256d(data: bytes) -> bytes:
    """SHA-256 of the SHA-256: 32 bytes, as computed (explorers of Bitcoin print them reversed)."""
    return sha256(sha256(data).digest()).digest()


class LedgerHeader(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is sealed. Integers are little-endian in its eighty bytes."""

    version: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
    parent: BlockHash
    payload: BlockHash
    time_s: Uint32
    """Seconds since 1970."""
    bits: Uint32 = 0
    nonce: Uint32 = 0

    def encode(self) -> bytes:
        """Its eighty bytes."""
        return _LAYOUT.pack(self.version, self.parent, self.payload, self.time_s, self.bits, self.nonce)

    @property
    def id(self) -> bytes:
        """The double hash of the eighty bytes: 32 bytes. It is computed at each call; a tree keeps it."""
        return sha256d(self.encode())

    @staticmethod
    def decode(data: bytes) -> LedgerHeader:
        """Raises ValueError for other than 80 bytes."""
        if len(data) != HEADER_BYTES:
            raise ValueError(f"header: {len(data)} bytes, not {HEADER_BYTES}")
        return LedgerHeader(*_LAYOUT.unpack(data))
