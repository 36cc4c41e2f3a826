"""ProofOfWork: a block is sealed by a nonce with which the hash of its header is not above the target.

The checks come in Bitcoin's order, cheap ones first, so that nobody costs a node more than it costs himself: what a
header says by itself and its work, before anything that takes its ancestors. A header from the future is only early: a
clock may be wrong, this node's too, so it is neither kept nor condemned, and may come again.

Sources: Nakamoto 2008, section 4; Bitcoin Core, ``CheckBlockHeader`` and ``ContextualCheckBlockHeader``.
"""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Final

import msgspec
from msgspec.structs import replace

from quorate.ledger.header import LedgerHeader, Uint32
from quorate.ledger.ruling import OK, POINTS_OF_A_BAN, Ruling
from quorate.ledger.sealer.compact import target_of, work_of
from quorate.ledger.sealer.difficulty import Difficulty
from quorate.ledger.tree import CONDEMNED, ORPHAN, BlockStatus, BlockTree

MEDIAN_OF: Final = 11
FUTURE_S_MAX: Final = 2 * 3600
VERSION: Final = 1

NO_TARGET: Final = Ruling("bad", "its bits are no target of this chain", POINTS_OF_A_BAN, poisons=True)
NO_WORK: Final = Ruling("bad", "its hash is above its target", POINTS_OF_A_BAN, poisons=True)
WRONG_BITS: Final = Ruling(
    "bad", "its bits are not those that follow from its ancestors", POINTS_OF_A_BAN, poisons=True
)
TOO_OLD: Final = Ruling("bad", "its time is not after the median of its ancestors", POINTS_OF_A_BAN, poisons=True)
TOO_NEW: Final = Ruling("later", "its time is too far in the future")


class Mine(msgspec.Struct, frozen=True):
    """A job: find a nonce for this header. Result: Mined. Whoever does it goes on until it is cancelled."""

    draft: LedgerHeader
    target: Annotated[bytes, msgspec.Meta(max_length=32)]
    """Big-endian."""


class Mined(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The header with this nonce and this time is good enough."""

    nonce: Uint32
    time_s: Uint32


class ProofOfWork:
    """One chain's rules; ``difficulty`` says how hard its blocks are."""

    def __init__(self, difficulty: Difficulty, future_s_max: int = FUTURE_S_MAX) -> None:
        self.difficulty = difficulty
        self.future_s_max = future_s_max
        self.looks_back = max(MEDIAN_OF, difficulty.looks_back)

    def check(self, header: LedgerHeader, id: bytes, tree: BlockTree, wall_s: int) -> Ruling:
        """The first rule that it breaks."""
        target = target_of(header.bits, self.difficulty.limit)
        if target is None:
            return NO_TARGET
        if hash_number(id) > target:
            return NO_WORK
        parent = tree.entries.get(header.parent)
        if parent is None:
            return ORPHAN
        if parent.status is BlockStatus.INVALID:
            return CONDEMNED
        if header.bits != self.difficulty.next_bits(tree, header.parent):
            return WRONG_BITS
        if header.time_s <= median_time_s(tree, header.parent):
            return TOO_OLD
        if header.time_s > wall_s + self.future_s_max:
            return TOO_NEW
        return OK

    def weight(self, header: LedgerHeader) -> int:
        """The hashes that it takes on average."""
        return work_of(self._target(header))

    def draft(self, tree: BlockTree, parent: bytes, payload: bytes, wall_s: int) -> LedgerHeader:
        """Its time is the clock's, or what the ancestors' median asks for, if the clock is behind."""
        time_s = max(wall_s, median_time_s(tree, parent) + 1)
        return LedgerHeader(VERSION, parent, payload, time_s, self.difficulty.next_bits(tree, parent))

    def job(self, draft: LedgerHeader) -> Mine:
        """Hashing is done outside."""
        return Mine(draft, self._target(draft).to_bytes(32, "big"))

    def sealed(self, draft: LedgerHeader, result: Any) -> LedgerHeader | None:
        """None for what does not have the work: the miner may be wrong."""
        if not isinstance(result, Mined):
            return None
        header = replace(draft, nonce=result.nonce, time_s=result.time_s)
        return header if hash_number(header.id) <= self._target(header) else None

    def _target(self, header: LedgerHeader) -> int:
        target = target_of(header.bits, self.difficulty.limit)
        assert target is not None, "the header was not checked"
        return target


def hash_number(id: bytes) -> int:
    """A hash as a target is compared with it: little-endian."""
    return int.from_bytes(id, "little")


def median_time_s(tree: BlockTree, parent: bytes) -> int:
    """Of the parent and the ten headers before it, or as many as there are."""
    times = sorted(header.time_s for header in islice(tree.headers_up(parent), MEDIAN_OF))
    return times[len(times) // 2]
