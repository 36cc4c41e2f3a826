"""Sealer: what every family answers about headers, to full nodes and light clients alike."""

from __future__ import annotations

from typing import Any
from typing import Protocol as Interface

from quorate.ledger.header import LedgerHeader
from quorate.ledger.ruling import Ruling
from quorate.ledger.tree import BlockTree


class Sealer(Interface):
    """Pure: times are arguments."""

    looks_back: int
    """How many headers its rules must see, below the base of a tree too."""

    def check(self, header: LedgerHeader, id: bytes, tree: BlockTree, wall_s: int) -> Ruling:
        """Whether a header may enter the tree: ``later`` and ``orphan`` are not held against it."""

    def weight(self, header: LedgerHeader) -> int:
        """What a header that was checked adds to its chain."""

    def draft(self, tree: BlockTree, parent: bytes, payload: bytes, wall_s: int) -> LedgerHeader:
        """The header of a child with this payload, before it is sealed."""

    def job(self, draft: LedgerHeader) -> Any:
        """What to have done outside for the seal."""

    def sealed(self, draft: LedgerHeader, result: Any) -> LedgerHeader | None:
        """The header with its seal, from what the job ended in; None: there is none."""
