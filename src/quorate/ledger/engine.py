"""The port of an engine: what gives transactions a meaning, and what a chain or a log asks of it.

An engine executes at any block that it knows, not at the head alone: a proposal that a round of votes refuses, and a
side branch, are one thing to it. What it executed it keeps by the block's id, until it is told to forget. The head is
the block that was adopted last; the engine needs it for nothing but that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar
from typing import Protocol as Interface

import msgspec

from quorate.ledger.account_tree import AccountProof, AccountTree
from quorate.ledger.accounts import Account, AccountChange
from quorate.ledger.block import LedgerAddress, LedgerBlock, PayloadHeader, Uint64
from quorate.ledger.header import BlockHash, Uint32
from quorate.ledger.ruling import Ruling

T = TypeVar("T")
"""What the engine's transactions are."""


class BlockEnv(msgspec.Struct, frozen=True, gc=False):
    """What execution knows of its block: all of it from the header, nothing from the node."""

    height: int
    time_s: int
    proposer: LedgerAddress


class PaymentReceipt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What became of a transaction that a block has. A native one is there only if it took place: ``status`` 1."""

    id: BlockHash
    status: Uint32
    fee: Uint64

    def encode(self) -> bytes:
        """32 + 4 + 8 bytes, numbers big-endian: a leaf of the receipts' tree."""
        return self.id + self.status.to_bytes(4, "big") + self.fee.to_bytes(8, "big")


class ExecutedBlock(msgspec.Struct, Generic[T], frozen=True):
    """What execution found. ``skipped``: the transactions that do not apply, each with the reason; none if strict."""

    payload: PayloadHeader
    included: Sequence[T]
    receipts: Sequence[PaymentReceipt]
    changes: Sequence[AccountChange]
    """One an address at most; what they lead to is ``state``."""
    state: AccountTree
    supply: int
    skipped: Sequence[tuple[T, str]] = ()


class StateView(Interface):
    """Accounts as they are after one block."""

    @property
    def root(self) -> bytes:
        """What stands in the block's payload header."""

    def get(self, address: bytes) -> Account | None:
        """None: it is not there."""

    def proof(self, address: bytes) -> AccountProof:
        """That it is so."""


class LedgerEngine(Interface[T]):
    """Raises KeyError for a block that it does not know: that is a bug of the caller."""

    head: bytes

    def decode(self, raw: bytes) -> T | Ruling:
        """A transaction whose signature is right. Never raises."""

    def execute(
        self, parent: bytes, env: BlockEnv, transactions: Iterable[T], *, strict: bool
    ) -> ExecutedBlock[T] | Ruling:
        """At the parent's state. Strict: the first transaction that does not apply makes the block bad."""

    def build(self, parent: bytes, env: BlockEnv, candidates: Iterable[T], bytes_max: int) -> ExecutedBlock[T]:
        """As many of them as apply, in this order, and fit."""

    def judge(self, block: LedgerBlock, env: BlockEnv) -> ExecutedBlock[T] | Ruling:
        """Strict, and its payload header must be what execution finds. ``env`` as the header has it. Keeps it if so."""

    def keep(self, id: bytes, parent: bytes, executed: ExecutedBlock[T]) -> None:
        """Under this id, until it is forgotten."""

    def at(self, id: bytes) -> StateView:
        """The accounts after that block."""

    def adopt(self, id: bytes) -> None:
        """It is the head."""

    def diffs(self, ids: Iterable[bytes]) -> list[Sequence[AccountChange]]:
        """What each of these blocks changed."""

    def forget(self, ids: Iterable[bytes]) -> None:
        """Nothing is executed on them any more. The head stays."""
