"""Blocks travel in parts of 65,536 bytes, each with the proof that it belongs to the block that is voted for.

Source: CometBFT 0.38, ``spec/core/data_structures.md`` (Part), ``types/part_set.go``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.ledger.comet.block_ids import HASH_BYTES, BlockID, PartSetHeader
from quorate.ledger.comet.blocks import BLOCK, Block
from quorate.ledger.comet.params import BLOCK_BYTES_MAX
from quorate.ledger.comet.proto import INT64, UINT32, BytesKind, Field, MessageKind, MessageType
from quorate.parts.crypto.merkle import AUNTS_MAX, MerkleProof, merkle_proofs, merkle_root

PART_BYTES: Final = 65_536
PARTS_MAX: Final = BLOCK_BYTES_MAX // PART_BYTES + 1


class BlockPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One part (Part). All but the last have 65,536 bytes."""

    index: int = 0
    bytes: bytes = b""
    proof: MerkleProof = MerkleProof()

    def check(self) -> None:
        """Raises ValueError for a part that is none, whatever the block."""
        if self.index != self.proof.index:
            raise ValueError(f"part {self.index}: the proof is of part {self.proof.index}")
        if self.index < self.proof.total - 1 and len(self.bytes) != PART_BYTES:
            raise ValueError(f"part {self.index} of {self.proof.total}: {len(self.bytes)} bytes, not {PART_BYTES}")


MERKLE_PROOF: Final = MessageType(
    MerkleProof,
    Field(1, "total", INT64),
    Field(2, "index", INT64),
    Field(3, "leaf_hash", BytesKind(HASH_BYTES)),
    Field(4, "aunts", BytesKind(HASH_BYTES), count_max=AUNTS_MAX),
    check=MerkleProof.check,
)
PART: Final = MessageType(
    BlockPart,
    Field(1, "index", UINT32),
    Field(2, "bytes", BytesKind(PART_BYTES)),
    Field(3, "proof", MessageKind(MERKLE_PROOF), always=True),
    check=BlockPart.check,
)


def split(data: bytes) -> tuple[PartSetHeader, list[BlockPart]]:
    """The parts of an encoded block, and what names them all."""
    pieces = _pieces(data)
    root, proofs = merkle_proofs(pieces)
    parts = [BlockPart(i, piece, proof) for i, (piece, proof) in enumerate(zip(pieces, proofs, strict=True))]
    return PartSetHeader(len(parts), root), parts


def parts_of(data: bytes) -> PartSetHeader:
    """What names the parts of an encoded block."""
    pieces = _pieces(data)
    return PartSetHeader(len(pieces), merkle_root(pieces))


def _pieces(data: bytes) -> list[bytes]:
    return [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]


def block_id_of(block: Block) -> BlockID:
    """What names a block."""
    return BlockID(block.header.hash(), parts_of(BLOCK.encode(block)))


class PartSet:
    """The parts of one block as they come, in any order, from anybody."""

    def __init__(self, header: PartSetHeader, bytes_max: int = BLOCK_BYTES_MAX) -> None:
        """Raises ValueError for no parts, and for more than a block of ``bytes_max`` has."""
        parts_max = (bytes_max - 1) // PART_BYTES + 1
        if not 0 < header.total <= parts_max:
            raise ValueError(f"a block of {header.total} parts, at least 1 and at most {parts_max}")
        self.header = header
        self.bytes_max = bytes_max
        self._pieces: dict[int, bytes] = {}

    def add(self, part: BlockPart) -> bool:
        """Whether the part is new. Raises ValueError for one that is not of this block."""
        if part.proof.total != self.header.total or part.index != part.proof.index:
            raise ValueError(f"part {part.index}: the proof is of another set of parts")
        refusal = part.proof.refusal(self.header.hash, part.bytes)
        if refusal:
            raise ValueError(f"part {part.index}: {refusal}")
        if part.index in self._pieces:
            return False
        self._pieces[part.index] = part.bytes
        return True

    def missing(self) -> list[int]:
        """The parts that have not come."""
        return [index for index in range(self.header.total) if index not in self._pieces]

    def joined(self) -> bytes | None:
        """The encoded block, once all parts are there; None before."""
        if len(self._pieces) < self.header.total:
            return None
        return b"".join(self._pieces[index] for index in range(self.header.total))
