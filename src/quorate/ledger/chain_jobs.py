"""What a core that owns a block tree asks of the App that owns the state, and what each question is answered with.

Jobs are done in order with the outputs (``outputs.py``) and with each other, so that a job finds the state that it is
about. The core never sees a balance, and the App never chooses a branch.

| job | what it asks | answer |
|---|---|---|
| WhereStands | of a node that starts: up to which block is your store? | Stood |
| ExecuteBlock | try this block on its parent, aside; the head stays | BlockExecuted |
| BuildBlock | make a payload on this block | BlockBuilt |
| FlushStore | write all up to your head in one transaction | StoreFlushed |
| FetchBlocks | headers and blocks that the core has forgotten | BlocksFetched |
"""

from __future__ import annotations

import msgspec

from quorate.ledger.block import LedgerBlock, PayloadHeader, Uint64
from quorate.ledger.header import BlockHash, LedgerHeader
from quorate.ledger.ruling import Ruling
from quorate.parts.wire import Natural


class WhereStands(msgspec.Struct, frozen=True):
    """The store survives a crash and the App's memory does not: the App begins where its store is."""


class Stood(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The App is at this block: what is before it was executed, and nothing else."""

    id: BlockHash


class ExecuteBlock(msgspec.Struct, frozen=True):
    """Its parent was executed."""

    id: bytes
    height: int
    block: LedgerBlock


class BlockExecuted(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What came of it: the ruling is ``ok`` or ``bad``, and then the block is invalid for ever."""

    id: BlockHash
    ruling: Ruling


class BuildBlock(msgspec.Struct, frozen=True):
    """A block on this parent, which was executed, with a header of about this time."""

    parent: bytes
    height: int
    time_s: int


class BlockBuilt(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What the header is to bind."""

    parent: BlockHash
    payload: PayloadHeader
    transactions: tuple[bytes, ...]


class FlushStore(msgspec.Struct, frozen=True):
    """All blocks up to the head are durable in the journal by the time when this begins."""


class StoreFlushed(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The store is at this block now, and that is durable."""

    id: BlockHash
    size_bytes: Uint64 = 0


class FetchBlocks(msgspec.Struct, frozen=True):
    """For a peer: headers of the main chain after the locator, ``count`` at most, and the blocks of these ids."""

    peer: int
    locator: tuple[bytes, ...]
    ids: tuple[bytes, ...]
    count: int


class BlocksFetched(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What the store has of it. ``more``: the chain goes on after the last header."""

    peer: Natural
    headers: tuple[LedgerHeader, ...]
    more: bool
    blocks: tuple[LedgerBlock, ...]
