"""What clients say to a ledger on a log, and what it answers.

A command is a batch of payments, and becomes one block:

    BATCH 1 | time 4, big-endian | payments, 173 bytes each

It is no msgpack, so that the node that takes it writes its time into it without reading the rest. Queries and answers
are msgpack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from quorate.ledger.block import LedgerAddress, Uint64
from quorate.ledger.chain_proofs import HeaderPair, InclusionProof, StateProof
from quorate.ledger.header import BlockHash
from quorate.ledger.transaction import PAYMENT_BYTES

BATCH: Final = b"\x01"
TIME_BYTES: Final = 4
HEAD_BYTES: Final = len(BATCH) + TIME_BYTES
BATCH_PAYMENTS_MAX: Final = 512
"""A node executes a batch in one go: about 0.1 ms a payment, in which it hears nobody."""
QUERY_BYTES_MAX: Final = 256
_Why: TypeAlias = Annotated[str, Meta(max_length=512)]


def encode_batch(payments: Sequence[bytes], time_s: int = 0) -> bytes:
    """``time_s`` 0: the node that takes it says, where nodes do not lie."""
    return b"".join((BATCH, time_s.to_bytes(TIME_BYTES, "big"), *payments))


def stamp_batch(batch: bytes, time_s: int) -> bytes:
    """The same with this time."""
    if not batch.startswith(BATCH) or len(batch) < HEAD_BYTES:
        return batch  # to be refused when it is applied
    return b"".join((BATCH, time_s.to_bytes(TIME_BYTES, "big"), memoryview(batch)[HEAD_BYTES:]))


def check_batch(batch: bytes) -> None:
    """That it has the length of one. Raises ValueError."""
    size_bytes = len(batch) - HEAD_BYTES
    if not batch.startswith(BATCH) or size_bytes < 0:
        raise ValueError("this is no batch of payments: this cluster keeps a ledger")
    if size_bytes % PAYMENT_BYTES or not 0 < size_bytes <= BATCH_PAYMENTS_MAX * PAYMENT_BYTES:
        raise ValueError(f"a batch has 1 to {BATCH_PAYMENTS_MAX} payments of {PAYMENT_BYTES} bytes each")


def decode_batch(batch: bytes) -> tuple[int, list[bytes]]:
    """Time and payments, which nobody has looked at yet. Raises ValueError."""
    check_batch(batch)
    starts = range(HEAD_BYTES, len(batch), PAYMENT_BYTES)
    return int.from_bytes(batch[len(BATCH) : HEAD_BYTES], "big"), [batch[at : at + PAYMENT_BYTES] for at in starts]


# --- questions ---


class AskHead(msgspec.Struct, frozen=True, array_like=True, tag="head", gc=False, forbid_unknown_fields=True):
    """Where the chain ends."""


class AskAccount(msgspec.Struct, frozen=True, array_like=True, tag="account", gc=False, forbid_unknown_fields=True):
    """What this address has at the head, with the proof."""

    address: LedgerAddress


class AskBlock(msgspec.Struct, frozen=True, array_like=True, tag="block", gc=False, forbid_unknown_fields=True):
    """A block of the chain, by its height, or by its id if there is one."""

    height: Uint64 = 0
    id: Annotated[bytes, Meta(max_length=32)] = b""


class AskPayment(msgspec.Struct, frozen=True, array_like=True, tag="payment", gc=False, forbid_unknown_fields=True):
    """Where a payment is, with the proof."""

    id: BlockHash


ChainQuery: TypeAlias = AskHead | AskAccount | AskBlock | AskPayment

# --- answers ---


class Batched(msgspec.Struct, frozen=True, array_like=True, tag="batched", gc=False):
    """What became of a batch: the block that it made (height 0: none, as no payment applies).

    ``skipped``: places in the batch of payments that the block does not have, and why.
    """

    height: Uint64
    id: Annotated[bytes, Meta(max_length=32)]
    skipped: tuple[tuple[Uint64, _Why], ...] = ()


class Head(msgspec.Struct, frozen=True, array_like=True, tag="head", gc=False):
    """The last block. On a log it is final: it was decided before it was made."""

    block: HeaderPair
    chain: BlockHash
    """The id of block 0."""
    fee_min: Uint64
    supply: Uint64


class AccountAt(msgspec.Struct, frozen=True, array_like=True, tag="account", gc=False):
    """An account after the last block, which has this id."""

    id: BlockHash
    proof: StateProof


class Whole(msgspec.Struct, frozen=True, array_like=True, tag="block", gc=False):
    """A block with its payments."""

    id: BlockHash
    block: HeaderPair
    payments: tuple[bytes, ...]


class PaymentAt(msgspec.Struct, frozen=True, array_like=True, tag="payment", gc=False):
    """A payment in the block of this id."""

    id: BlockHash
    proof: InclusionProof


class ChainError(msgspec.Struct, frozen=True, array_like=True, tag="error", gc=False):
    """Why there is no answer; ``is_missing``: there is no such thing here."""

    why: _Why
    is_missing: bool = False


ChainAnswer: TypeAlias = Batched | Head | AccountAt | Whole | PaymentAt | ChainError

encode_chain = msgspec.msgpack.Encoder().encode
decode_chain_query = msgspec.msgpack.Decoder(ChainQuery).decode
decode_chain_answer = msgspec.msgpack.Decoder(ChainAnswer).decode
CHAIN_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)
