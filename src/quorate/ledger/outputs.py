"""What a core that owns a block tree tells its App about the head, and what it passes up from peers.

``Rewound`` comes before ``Extended`` and ``Extended`` before ``Finalised``, and what belongs to one move of the head is
in one Turn, so nobody sees the middle. Every block of an Extended was executed by this App before, in this life or
before its last flush.
"""

from __future__ import annotations

import msgspec

from quorate.ledger.block import LedgerBlock, Uint64
from quorate.ledger.header import BlockHash
from quorate.parts.wire import Natural


class Rewound(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The head is ``to`` again; these blocks are undone, the newest first."""

    to: BlockHash
    ids: tuple[BlockHash, ...]


class Extended(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The head is this child of the last one."""

    id: BlockHash
    height: Uint64
    block: LedgerBlock


class Finalised(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """This core will never go below this block of the main chain."""

    id: BlockHash
    height: Uint64


class Offered(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A peer passed these transactions on, of which nothing is checked. What is new and right, the App submits."""

    peer: Natural
    transactions: tuple[bytes, ...]
