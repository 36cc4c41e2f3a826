"""What names a block: the hash of its header, and the root of the parts that it travels in."""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.ledger.comet.proto import UINT32, BytesKind, Field, MessageKind, MessageType

HASH_BYTES: Final = 32
ADDRESS_BYTES: Final = 20
HASH: Final = BytesKind(HASH_BYTES, is_hex=True)
ADDRESS: Final = BytesKind(ADDRESS_BYTES, is_hex=True)


class PartSetHeader(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How many parts, and the root of the tree of them."""

    total: int = 0
    hash: bytes = b""

    def check(self) -> None:
        """Raises ValueError for a hash of the wrong size."""
        check_hash("hash of parts", self.hash)


class BlockID(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A block; nil, if all is empty."""

    hash: bytes = b""
    part_set_header: PartSetHeader = PartSetHeader()

    @property
    def is_nil(self) -> bool:
        """Whether it names no block."""
        return self == NIL

    @property
    def is_complete(self) -> bool:
        """Whether nothing of it is missing."""
        parts = self.part_set_header
        return len(self.hash) == len(parts.hash) == HASH_BYTES and parts.total > 0

    def check(self) -> None:
        """Raises ValueError for a hash of the wrong size."""
        check_hash("hash of a block", self.hash)


NIL: Final = BlockID()

PART_SET_HEADER: Final = MessageType(
    PartSetHeader, Field(1, "total", UINT32), Field(2, "hash", HASH), check=PartSetHeader.check
)
BLOCK_ID: Final = MessageType(
    BlockID,
    Field(1, "hash", HASH),
    Field(2, "part_set_header", MessageKind(PART_SET_HEADER), always=True),
    check=BlockID.check,
)


def check_hash(what: str, data: bytes) -> None:
    """Raises ValueError unless it is empty or a SHA-256."""
    if data and len(data) != HASH_BYTES:
        raise ValueError(f"{what}: {len(data)} bytes, not {HASH_BYTES}")


def check_address(what: str, data: bytes) -> None:
    """Raises ValueError unless it has 20 bytes."""
    if len(data) != ADDRESS_BYTES:
        raise ValueError(f"{what}: an address of {len(data)} bytes, not {ADDRESS_BYTES}")
