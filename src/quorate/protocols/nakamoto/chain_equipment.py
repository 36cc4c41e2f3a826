"""The chain that simulated nodes make: where it begins, and whom a block pays.

Every second hash is good enough on it. So nonces are real and headers are checked by the real rules, while the time
that mining takes is the simulator's (``trials/chain/mining.py``).
"""

from typing import Final

from quorate.ledger.block import ADDRESS_BYTES
from quorate.ledger.header import NO_PARENT, LedgerHeader, sha256d
from quorate.sim.clock import EPOCH_S

GENESIS: Final = LedgerHeader(1, NO_PARENT, sha256d(b"coins"), EPOCH_S - 7200, 0x207FFFFF)


def proposer_of(node: int) -> bytes:
    """The address that the blocks of a node pay."""
    return node.to_bytes(ADDRESS_BYTES, "big")
