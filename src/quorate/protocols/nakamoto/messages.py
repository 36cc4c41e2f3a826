"""What nodes of a chain say to each other, what a node records, and what it can be configured with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from quorate.ledger.block import LedgerBlock
from quorate.ledger.header import BlockHash, LedgerHeader
from quorate.ledger.tree import TreeBase
from quorate.parts.bounds import COUNTS, TIMES, BoundedConfig, Bounds

HEADERS_MAX: Final = 2000
LOCATOR_MAX: Final = 64
"""Ten ids and one for each doubling of what lies before."""
BLOCKS_MAX: Final = 16
PASSED_MAX: Final = 256
RAW_BYTES_MAX: Final = 1 << 17

# --- messages ---


class Headers(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Headers of my chain, each the child of the one before. One alone announces my head. All were executed here."""

    headers: Annotated[tuple[LedgerHeader, ...], Meta(min_length=1, max_length=HEADERS_MAX)]
    more: bool = False
    """Whether the chain goes on."""


class Locate(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Give me the headers of your chain that follow the first of these that is on it."""

    locator: Annotated[tuple[BlockHash, ...], Meta(min_length=1, max_length=LOCATOR_MAX)]


class WantBlocks(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Give me the blocks of these headers."""

    ids: Annotated[tuple[BlockHash, ...], Meta(min_length=1, max_length=BLOCKS_MAX)]


class GiveBlocks(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Some of those that you wanted."""

    blocks: Annotated[tuple[LedgerBlock, ...], Meta(min_length=1, max_length=BLOCKS_MAX)]


class PassOn(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Transactions that my App found right."""

    transactions: Annotated[
        tuple[Annotated[bytes, Meta(max_length=RAW_BYTES_MAX)], ...], Meta(min_length=1, max_length=PASSED_MAX)
    ]


# --- records ---


class Arrived(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A block became whole. Recorded in that order, parents first; a peer can give it again."""

    block: LedgerBlock


class Condemned(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The block of this header was executed and is invalid."""

    header: LedgerHeader


class Based(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The tree begins here. The first record of a checkpoint."""

    base: TreeBase


class Flushing(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A flush is about to begin. It says nothing; it makes all that was recorded before it durable first."""


class Settled(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """This block is final: durable before the App hears of it, for it is a promise."""

    id: BlockHash


# --- config ---


class NakamotoConfig(BoundedConfig, frozen=True, kw_only=True):
    """Raises ValueError for what is out of bounds. All nodes of a chain have the same ``genesis``."""

    bounds: ClassVar[Mapping[str, Bounds]] = {
        "final_depth": COUNTS,
        "keep_blocks": COUNTS,
        "flush_blocks": COUNTS,
        "headers_max": Bounds(1, HEADERS_MAX),
        "bodies_max": Bounds(1, BLOCKS_MAX),
        "tip_s": TIMES,
        "retry_s": TIMES,
    }

    genesis: LedgerHeader
    is_miner: bool = True
    final_depth: int | None = None
    """A block under so many others is final, and never rewound, whatever work is shown. None: work alone finalises
    nothing. A partition that is longer than so many blocks splits the chain for good."""
    keep_blocks: int = 1024
    """How many blocks below the fork of head and store stay in the tree. A deeper fork is not followed."""
    flush_blocks: int = 64
    headers_max: int = HEADERS_MAX
    """In one message."""
    bodies_max: int = BLOCKS_MAX
    """Asked of one peer at a time."""
    tip_s: float = 2.0
    """How often a node repeats its head to another one, chosen at random."""
    retry_s: float = 1.0
    """How long an asked peer may take before another one is asked."""
