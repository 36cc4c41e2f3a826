"""What a node says to the others of transactions that wait: in messages that are not too long."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from quorate.protocols.tendermint.app_messages import TXS_MAX, Transactions

TELL_BYTES_MAX: Final = 1 << 18
"""Of the transactions in one message, after the first; and of those that are told once more at a beat."""


def tell_txs(tell: Callable[[Transactions], None], txs: Iterable[bytes]) -> None:
    """``tell`` sends a message to all others."""
    batch: list[bytes] = []
    size = 0
    for tx in txs:
        if batch and (size + len(tx) > TELL_BYTES_MAX or len(batch) >= TXS_MAX):
            tell(Transactions(tuple(batch)))
            batch, size = [], 0
        batch.append(tx)
        size += len(tx)
    if batch:
        tell(Transactions(tuple(batch)))
