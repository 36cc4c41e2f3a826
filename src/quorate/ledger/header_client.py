"""HeaderClient: a light client of proof of work. It follows headers alone, and believes proofs against them.

How it works. It begins at a block that its user trusts. Peers give it headers, each of which must follow the rules of
the chain (``sealer/``); among all branches that it knows the one with the most work is *the* chain, whichever peer gave
it, and a tie is for the one that was there first. A proof is believed if it leads to a header of that chain with enough
blocks on top. So one honest peer is enough: liars can show nothing heavier without the work of all others (Nakamoto
2008, section 8).

It cannot tell whether blocks are valid, only where the work is; and it can be kept from what it is not shown, so among
liars alone it stays where it began. Nothing is durable but what its user saves of ``checkpoint``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from quorate.ledger.bitcoin_merkle import Branch
from quorate.ledger.block import PayloadHeader
from quorate.ledger.header import LedgerHeader
from quorate.ledger.ruling import OK, POINTS_OF_A_BAN, Ruling
from quorate.ledger.sealer.port import Sealer
from quorate.ledger.tree import BlockTree, TreeBase, tree_base
from quorate.parts.crypto.merkle import MerkleProof

HEADERS_MAX: Final = 2000
"""That a peer may give at a time."""
CLIENT_ENTRIES_MAX: Final = 200_000
"""Headers that are remembered, side branches among them."""

SHALLOW: Final = Ruling("later", "there are not enough blocks on top of it yet")
ASIDE: Final = Ruling("later", "the block is not on the chain with the most work")
UNKNOWN_BLOCK: Final = Ruling("orphan", "the block is unknown")


class PayloadBranch(msgspec.Struct, frozen=True, array_like=True, tag="payload", gc=False):
    """A claim about a chain of ours: the block has this payload, and the leaf its place among the transactions."""

    payload: PayloadHeader
    place: MerkleProof

    def refusal(self, root: bytes, leaf: bytes) -> str | None:
        """Why this does not show that the leaf is in the block whose header has this root; None: it does."""
        if self.payload.hash != root:
            return "the header has another payload"
        return self.place.refusal(self.payload.transactions, leaf)


LeafProof: TypeAlias = Branch | PayloadBranch
"""Which of them a chain has, its client is told: under the other's rules the same bytes might prove something else."""


class HeaderClient:
    """``head`` is the id of the best header. ``proofs`` is the kind that the chain has."""

    def __init__(
        self, trusted: TreeBase, sealer: Sealer, proofs: type[Branch] | type[PayloadBranch] = PayloadBranch
    ) -> None:
        self._tree = BlockTree(trusted, entries_max=CLIENT_ENTRIES_MAX, below_max=sealer.looks_back)
        self._sealer = sealer
        self._proofs = proofs
        self.head = trusted.header.id

    @property
    def height(self) -> int:
        """Of the head."""
        return self._tree[self.head].height

    @property
    def locator(self) -> tuple[bytes, ...]:
        """What to ask peers with for what follows."""
        return self._tree.locator(self.head)

    def update(self, headers: Sequence[LedgerHeader], wall_s: int) -> Ruling:
        """Take headers from a peer, each of which follows another one. The ruling is on the first that is not taken;
        those before it are."""
        if len(headers) > HEADERS_MAX:
            return Ruling("bad", f"more than {HEADERS_MAX} headers at a time", POINTS_OF_A_BAN)
        for header in headers:
            id = header.id
            if id in self._tree:
                continue
            ruling = self._sealer.check(header, id, self._tree, wall_s)
            if ruling.is_ok:
                ruling = self._tree.add(header, self._sealer.weight(header), id)
            if not ruling.is_ok:
                return ruling
            if self._tree[id].weight > self._tree[self.head].weight:
                self.head = id
        return OK

    def holds(self, id: bytes, proof: LeafProof, leaf: bytes, depth: int) -> Ruling:
        """Whether the leaf is in a block of the chain under ``depth`` blocks, itself counted: 1 is the head."""
        entry = self._tree.entries.get(id)
        if entry is None:
            return UNKNOWN_BLOCK
        if not isinstance(proof, self._proofs):
            return Ruling("bad", "a proof of another kind of chain", POINTS_OF_A_BAN)
        if isinstance(proof, PayloadBranch) and proof.payload.height != entry.height:
            return Ruling("bad", "a payload of another height", POINTS_OF_A_BAN)
        why = proof.refusal(entry.header.payload, leaf)
        if why is not None:
            return Ruling("bad", why, POINTS_OF_A_BAN)
        if not self._tree.is_ancestor(id, self.head):
            return ASIDE
        return OK if self.height - entry.height + 1 >= depth else SHALLOW

    def checkpoint(self, depth: int) -> TreeBase:
        """What to begin with another time: the block of the chain under so many, or where this one began."""
        height = max(self._tree[self._tree.base].height, self.height - depth + 1)
        entry = self._tree.ancestor(self.head, height)
        before = list(self._tree.headers_up(entry.id))[1 : self._sealer.looks_back + 1]
        return tree_base(entry.header, entry.height, entry.weight, before[::-1])
