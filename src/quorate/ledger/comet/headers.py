"""The header of a block, and its hash: the Merkle root of its fourteen fields, so that each can be proved alone.

Source: CometBFT 0.38, ``spec/core/data_structures.md`` (Header) and ``Header.Hash`` in ``types/block.go``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.ledger.comet.block_ids import ADDRESS, BLOCK_ID, HASH, BlockID, check_address, check_hash
from quorate.ledger.comet.proto import INT64, UINT64, BytesKind, Field, MessageKind, MessageType, TextKind
from quorate.ledger.comet.times import TIMESTAMP, ZERO_TIME, Timestamp
from quorate.parts.crypto.merkle import merkle_root

BLOCK_PROTOCOL: Final = 11
CHAIN_ID_BYTES_MAX: Final = 50
APP_HASH_BYTES_MAX: Final = 1024
"""CometBFT bounds an app's hash by the block alone. This is ours."""
HASHES: Final = (
    "last_commit_hash",
    "data_hash",
    "validators_hash",
    "next_validators_hash",
    "consensus_hash",
    "last_results_hash",
    "evidence_hash",
)


class ConsensusVersion(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The rules that a block follows: those of blocks, and the app's."""

    block: int = BLOCK_PROTOCOL
    app: int = 0


class Header(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is voted for by its hash. Hashes of the app and of results are those after the block before."""

    version: ConsensusVersion = ConsensusVersion(0)
    chain_id: str = ""
    height: int = 0
    time: Timestamp = ZERO_TIME
    last_block_id: BlockID = BlockID()
    last_commit_hash: bytes = b""
    data_hash: bytes = b""
    validators_hash: bytes = b""
    next_validators_hash: bytes = b""
    consensus_hash: bytes = b""
    app_hash: bytes = b""
    last_results_hash: bytes = b""
    evidence_hash: bytes = b""
    proposer_address: bytes = b""

    def check(self) -> None:
        """Raises ValueError for a header that is none, whatever the chain."""
        if self.version.block != BLOCK_PROTOCOL:
            raise ValueError(f"header: block protocol {self.version.block}, not {BLOCK_PROTOCOL}")
        if self.height < 1:
            raise ValueError(f"header: height {self.height}")
        for name in HASHES:
            check_hash(f"header: {name}", getattr(self, name))
        check_address("header: proposer", self.proposer_address)

    def hash(self) -> bytes:
        """The root of its fields; empty without a hash of validators, as there CometBFT has none."""
        if not self.validators_hash:
            return b""
        hashed = _HASH_LEAF.write
        return merkle_root(
            [
                VERSION.encode(self.version),
                _CHAIN_ID_LEAF.write(self.chain_id),
                _HEIGHT_LEAF.write(self.height),
                TIMESTAMP.encode(self.time),
                BLOCK_ID.encode(self.last_block_id),
                hashed(self.last_commit_hash),
                hashed(self.data_hash),
                hashed(self.validators_hash),
                hashed(self.next_validators_hash),
                hashed(self.consensus_hash),
                _APP_HASH_LEAF.write(self.app_hash),
                hashed(self.last_results_hash),
                hashed(self.evidence_hash),
                _ADDRESS_LEAF.write(self.proposer_address),
            ]
        )


_CHAIN_ID: Final = TextKind(CHAIN_ID_BYTES_MAX)
_APP_HASH: Final = BytesKind(APP_HASH_BYTES_MAX, is_hex=True)
VERSION: Final = MessageType(ConsensusVersion, Field(1, "block", UINT64), Field(2, "app", UINT64))
HEADER: Final = MessageType(
    Header,
    Field(1, "version", MessageKind(VERSION), always=True),
    Field(2, "chain_id", _CHAIN_ID),
    Field(3, "height", INT64),
    Field(4, "time", MessageKind(TIMESTAMP), always=True),
    Field(5, "last_block_id", MessageKind(BLOCK_ID), always=True),
    Field(6, "last_commit_hash", HASH),
    Field(7, "data_hash", HASH),
    Field(8, "validators_hash", HASH),
    Field(9, "next_validators_hash", HASH),
    Field(10, "consensus_hash", HASH),
    Field(11, "app_hash", _APP_HASH),
    Field(12, "last_results_hash", HASH),
    Field(13, "evidence_hash", HASH),
    Field(14, "proposer_address", ADDRESS),
    check=Header.check,
)

# A field that is not a message is a leaf as a message of its own, with one field, 1; a zero is no bytes at all.
_CHAIN_ID_LEAF: Final = Field(1, "value", _CHAIN_ID)
_HEIGHT_LEAF: Final = Field(1, "value", INT64)
_HASH_LEAF: Final = Field(1, "value", HASH)
_APP_HASH_LEAF: Final = Field(1, "value", _APP_HASH)
_ADDRESS_LEAF: Final = Field(1, "value", ADDRESS)
