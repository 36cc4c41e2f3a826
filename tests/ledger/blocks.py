"""Headers and blocks for tests, of which nothing is right but that each names its parent."""

from quorate.ledger.block import LedgerBlock, PayloadHeader
from quorate.ledger.header import NO_PARENT, LedgerHeader

GENESIS = LedgerHeader(1, NO_PARENT, bytes(32), 1_700_000_000)


def header(parent: LedgerHeader | bytes, nonce: int, time_s: int = 1_700_000_000, bits: int = 0) -> LedgerHeader:
    """A child; the nonce sets it apart from its siblings."""
    return LedgerHeader(1, parent if isinstance(parent, bytes) else parent.id, bytes(32), time_s, bits, nonce)


def body(its: LedgerHeader) -> LedgerBlock:
    """A body that fits no header, as the tree does not look."""
    return LedgerBlock(its, PayloadHeader(0, bytes(20), bytes(32), bytes(32), bytes(32)), ())


def chain(parent: LedgerHeader, count: int, nonce: int = 1) -> list[LedgerHeader]:
    """So many, each the child of the one before."""
    headers = []
    for i in range(count):
        parent = header(parent, nonce + i)
        headers.append(parent)
    return headers
