"""Blocks, and transactions in them.

A block is in order by itself when the header has the hashes of all that is in it; whether it follows from the chain is
for who knows the chain.

Source: CometBFT 0.38, ``spec/core/data_structures.md`` (Block, Data), ``Block.ValidateBasic`` in ``types/block.go``.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

from quorate.ledger.comet.commits import COMMIT, Commit
from quorate.ledger.comet.evidence import EVIDENCE_LIST, EvidenceList
from quorate.ledger.comet.headers import HEADER, Header
from quorate.ledger.comet.params import BLOCK_BYTES_MAX
from quorate.ledger.comet.proto import BytesKind, Field, MessageKind, MessageType
from quorate.parts.crypto.merkle import MerkleProof, merkle_proofs, merkle_root

TXS_MAX: Final = 1 << 20
"""Transactions in a block. Ours; CometBFT bounds their bytes alone, which leaves room for millions of empty ones."""


class BlockData(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The transactions (Data)."""

    txs: tuple[bytes, ...] = ()

    def hash(self) -> bytes:
        """What the header calls ``data_hash``."""
        return merkle_root(list(map(tx_hash, self.txs)))


class Block(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A header, transactions, evidence, and the commit of the block before."""

    header: Header = Header()
    data: BlockData = BlockData()
    evidence: EvidenceList = EvidenceList()
    last_commit: Commit | None = None

    def check(self) -> None:
        """Raises ValueError unless the header has the hashes of what is in the block."""
        header = self.header
        header.check()
        if self.last_commit is None:
            raise ValueError("block: no commit of the block before")
        if header.last_commit_hash != self.last_commit.hash():
            raise ValueError("block: the header has another last_commit_hash")
        if header.data_hash != self.data.hash():
            raise ValueError("block: the header has another data_hash")
        if header.evidence_hash != self.evidence.hash():
            raise ValueError("block: the header has another evidence_hash")


DATA_OF_BLOCK: Final = MessageType(
    BlockData, Field(1, "txs", BytesKind(BLOCK_BYTES_MAX), count_max=TXS_MAX), bytes_max=BLOCK_BYTES_MAX
)
BLOCK: Final = MessageType(
    Block,
    Field(1, "header", MessageKind(HEADER), always=True),
    Field(2, "data", MessageKind(DATA_OF_BLOCK), always=True),
    Field(3, "evidence", MessageKind(EVIDENCE_LIST), always=True),
    Field(4, "last_commit", MessageKind(COMMIT)),
    bytes_max=BLOCK_BYTES_MAX,
    check=Block.check,
)


def tx_hash(tx: bytes) -> bytes:
    """The name of a transaction."""
    return sha256(tx).digest()


def tx_proofs(txs: Sequence[bytes]) -> tuple[bytes, list[MerkleProof]]:
    """The data hash, and for each transaction the proof that it is in the block; the leaf is the transaction's hash."""
    return merkle_proofs(list(map(tx_hash, txs)))


def tx_refusal(proof: MerkleProof, data_hash: bytes, tx: bytes) -> str | None:
    """Why the proof does not show that the transaction is in the block of this data hash; None: it does."""
    return proof.refusal(data_hash, tx_hash(tx))
