"""What a client can check by itself: that a block has a transaction, or that an account is as a node says.

Both lead to a payload header, whose hash stands in a block's header, whose hash is the block's id. What the id rests on
is another question: on the word of nodes, where a log that tolerates crashes alone decides the order; on the votes of
more than f nodes, where nodes may lie; on a certificate or on work, where headers have that.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from quorate.ledger.account_tree import AccountProof
from quorate.ledger.block import PayloadHeader
from quorate.ledger.header import HASH_BYTES, LedgerHeader
from quorate.ledger.transaction import PAYMENT_BYTES
from quorate.parts.crypto.merkle import AUNTS_MAX, MerkleProof, leaf_hash

_Hash = Annotated[bytes, msgspec.Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]


class HeaderPair(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A block without its transactions."""

    header: LedgerHeader
    payload: PayloadHeader

    def refusal(self) -> str | None:
        """Why the two do not belong together."""
        return None if self.payload.hash == self.header.payload else "the payload header is not that of the header"


class InclusionProof(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A claim: a block has the transaction ``raw``.

    Its place, and of how many, is what the way to the root takes and no more: trees of other sizes have the same way.
    """

    block: HeaderPair
    raw: Annotated[bytes, msgspec.Meta(max_length=PAYMENT_BYTES)]
    total: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    index: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    aunts: Annotated[tuple[_Hash, ...], msgspec.Meta(max_length=AUNTS_MAX)]

    def refusal(self, block_id: bytes) -> str | None:
        """Why this does not show that the block of this id has the transaction; None: it does. Never raises."""
        if self.block.header.id != block_id:
            return "the header is that of another block"
        proof = MerkleProof(self.total, self.index, leaf_hash(self.raw), self.aunts)
        return self.block.refusal() or proof.refusal(self.block.payload.transactions, self.raw)


class StateProof(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A claim: after a block this account is so, or is not there."""

    block: HeaderPair
    account: AccountProof

    def refusal(self, block_id: bytes) -> str | None:
        """Why this does not show it for the block of this id; None: it does. Never raises."""
        if self.block.header.id != block_id:
            return "the header is that of another block"
        return self.block.refusal() or self.account.refusal(self.block.payload.state)
