"""NamedBlock: the value of a height: a block, the bytes that it travels in, and its name, which is what votes say.

A name is CometBFT's BlockID in 68 bytes: the hash of the header, the root of the parts, and their number. The rules
know values by their names alone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from quorate.ledger.comet.block_ids import HASH_BYTES, BlockID, PartSetHeader
from quorate.ledger.comet.blocks import BLOCK, Block
from quorate.ledger.comet.part_sets import parts_of
from quorate.parts.bounds import MESSAGE_BYTES_MAX

BLOCK_BYTES_MAX: Final = MESSAGE_BYTES_MAX + (4 << 20)
"""Of an encoded block: the largest batch that a config allows, one request more, evidence and a commit."""
NAME_BYTES: Final = 2 * HASH_BYTES + 4


class NamedBlock(msgspec.Struct, frozen=True, gc=False):
    """``data`` is the one encoding of the block, and ``name`` follows from it."""

    name: bytes
    data: bytes
    block: Block

    @property
    def id(self) -> BlockID:
        """The name, as blocks and commits have it."""
        return id_of(self.name)


def name_of_id(block_id: BlockID) -> bytes:
    """The name of a block that is not nil."""
    parts = block_id.part_set_header
    return block_id.hash + parts.hash + parts.total.to_bytes(4, "big")


def id_of(name: bytes) -> BlockID:
    """What the name stands for. It is not complete, if the name says that there are no parts."""
    parts = PartSetHeader(int.from_bytes(name[2 * HASH_BYTES :], "big"), name[HASH_BYTES : 2 * HASH_BYTES])
    return BlockID(name[:HASH_BYTES], parts)


def name_block(block: Block, data: bytes | None = None) -> NamedBlock:
    """The block with its name; ``data``: its encoding, if that is known."""
    data = BLOCK.encode(block) if data is None else data
    return NamedBlock(name_of_id(BlockID(block.header.hash(), parts_of(data))), data, block)


def check_parts(data: bytes, block_id: BlockID) -> None:
    """Raises ValueError unless these are the bytes of the block of this name, as far as their hash says."""
    if parts_of(data) != block_id.part_set_header:
        raise ValueError("block: its bytes are others than those of its name")


@lru_cache(maxsize=1)  # a proposal and a decision bring the same bytes; in the simulator, to each node
def decode_block(data: bytes) -> NamedBlock:
    """What ``name_block`` made, in order by itself. Raises ValueError for anything else."""
    block = BLOCK.decode_exact(data)
    return name_block(block, data)
