"""How difficult the next block is: a fixed target, Bitcoin's retarget, or LWMA; functions of the headers so far.

Every rule gives ``bits`` and not a target, since what a header cannot say must not count either: each result goes
through the compact form, which rounds down.

*Bitcoin's*: every 2016 blocks the target is scaled by how long the last 2016 took, against two weeks, by four at most.
The time between the first and the last of 2016 blocks spans 2015 intervals and is compared with what 2016 should take:
an old mistake that every node must make alike. Source: Bitcoin developer guide, "Proof of work"; Bitcoin Core,
``CalculateNextWorkRequired``.

*LWMA*, for small chains, whose hash rate comes and goes: each block is scaled by the solve times of the last N, the
newest of which weigh most. Source: zawy12, "LWMA difficulty algorithm" (LWMA-1), here with exact integers.
"""

from __future__ import annotations

from itertools import islice
from typing import Final
from typing import Protocol as Interface

from quorate.ledger.header import LedgerHeader
from quorate.ledger.sealer.compact import TARGET_BITS, packed, target_of, work_of
from quorate.ledger.tree import BlockTree

BITCOIN_LIMIT: Final = 0xFFFF << 208
"""1d00ffff: the easiest target of Bitcoin's main chain."""
TEST_LIMIT: Final = 0x7FFFFF << 232
"""207fffff: every second hash is good enough. For tests."""

RETARGET_BLOCKS: Final = 2016
RETARGET_S: Final = 14 * 24 * 3600

LWMA_CLAMP: Final = 6
"""A solve time counts for so many block times at most, forwards and backwards."""


class Difficulty(Interface):
    """``limit`` is the easiest target; ``looks_back`` is how many headers the rule must see, the parent among them."""

    limit: int
    looks_back: int

    def next_bits(self, tree: BlockTree, parent: bytes) -> int:
        """What the child of a block must have in ``bits``."""


class FixedDifficulty:
    """Always the limit."""

    looks_back = 1

    def __init__(self, limit: int = TEST_LIMIT) -> None:
        self.limit = limit

    def next_bits(self, tree: BlockTree, parent: bytes) -> int:
        """As of the interface."""
        return packed(self.limit)


class BitcoinDifficulty:
    """The retarget every 2016 blocks."""

    looks_back = RETARGET_BLOCKS

    def __init__(self, limit: int = BITCOIN_LIMIT) -> None:
        self.limit = limit

    def next_bits(self, tree: BlockTree, parent: bytes) -> int:
        """The parent's, but for every 2016th block."""
        last = tree[parent]
        if (last.height + 1) % RETARGET_BLOCKS:
            return last.header.bits
        period = list(islice(tree.headers_up(parent), RETARGET_BLOCKS))
        return retargeted(last.header.bits, period[-1].time_s, last.header.time_s, self.limit)


def retargeted(bits: int, first_s: int, last_s: int, limit: int) -> int:
    """The bits that follow 2016 blocks of these bits, of which the first and the last have these times."""
    took_s = min(max(last_s - first_s, RETARGET_S // 4), RETARGET_S * 4)  # 2015 intervals
    target = target_of(bits, limit)
    assert target is not None, f"a block of the chain has the bits {bits:08x}"
    return packed(min(target * took_s // RETARGET_S, limit))


class LwmaDifficulty:
    """``block_s`` is the wanted time between blocks, ``window`` the number of solve times."""

    def __init__(self, block_s: int = 60, window: int = 60, limit: int = TEST_LIMIT) -> None:
        """Raises ValueError unless both are above 0."""
        if block_s < 1 or window < 1:
            raise ValueError(f"block_s is {block_s}, window {window}: both must be above 0")
        self.limit = limit
        self.looks_back = window + 1
        self.block_s = block_s
        self.window = window

    @property
    def future_s_max(self) -> int:
        """How far ahead of the clock times may be: with more, they are a weapon against this rule."""
        return max(300, self.window * self.block_s // 20)

    def next_bits(self, tree: BlockTree, parent: bytes) -> int:
        """The parent's, until there are enough solve times."""
        newest_first = list(islice(tree.headers_up(parent), self.looks_back))
        if len(newest_first) < self.looks_back:
            return newest_first[0].bits
        return self.averaged(newest_first[::-1])

    def averaged(self, headers: list[LedgerHeader]) -> int:
        """From ``window + 1`` headers, oldest first."""
        n, t = self.window, self.block_s
        weighed_s = work = 0
        for i in range(1, n + 1):
            solve_s = headers[i].time_s - headers[i - 1].time_s
            weighed_s += i * min(max(solve_s, -LWMA_CLAMP * t), LWMA_CLAMP * t)
            target = target_of(headers[i].bits, self.limit)
            assert target is not None, f"a block of the chain has the bits {headers[i].bits:08x}"
            work += work_of(target)
        weighed_s = max(weighed_s, n * n * t // 20)
        # mean(work) * t * n (n + 1) / 2 * 0.99 / weighed_s
        next_work = max(1, work * t * (n + 1) * 99 // (200 * weighed_s))
        return packed(min((1 << TARGET_BITS) // next_work - 1, self.limit))
