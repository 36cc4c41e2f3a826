"""What a node says to the others of transactions that wait: in messages that are not too long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from quorate.kernel import Env
from quorate.protocols.tendermint.app_messages import TXS_MAX, Transactions

TELL_BYTES_MAX: Final = 1 << 18
"""Of the transactions in one message, after the first; and of those that are told once more at a beat."""


def tell_txs(env: Env, txs: Iterable[bytes]) -> None:
    """All others."""
    batch: list[bytes] = []
    size = 0
    for tx in txs:
        if batch and (size + len(tx) > TELL_BYTES_MAX or len(batch) >= TXS_MAX):
            env.send(env.others, Transactions(tuple(batch)))
            batch, size = [], 0
        batch.append(tx)
        size += len(tx)
    if batch:
        env.send(env.others, Transactions(tuple(batch)))
