"""Whether a body belongs to its header: the checks of a block that take no state."""

from __future__ import annotations

from typing import Final

from quorate.ledger.block import LedgerBlock
from quorate.ledger.ruling import OK, POINTS_OF_A_BAN, Ruling
from quorate.parts.crypto.merkle import merkle_root

OTHER_PAYLOAD: Final = Ruling("bad", "its payload is not that of its header", POINTS_OF_A_BAN)
OTHER_TRANSACTIONS: Final = Ruling("bad", "its transactions are not those of its payload", POINTS_OF_A_BAN)


def body_ruling(block: LedgerBlock) -> Ruling:
    """A wrong body says nothing of its header, so it poisons nothing: the right one may come from somebody else."""
    if block.payload.hash != block.header.payload:
        return OTHER_PAYLOAD
    if merkle_root(block.transactions) != block.payload.transactions:
        return OTHER_TRANSACTIONS
    return OK
