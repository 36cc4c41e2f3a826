"""Variants of the configs that seeds run with, where several protocols have the same."""

from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import TypeVar

from msgspec.structs import replace

from quorate.kernel import mask_of
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.quorum.choice import GridChoice, QuorumChoice, SizesChoice, WeightedChoice

WEIGHT_MAX = 3

ConfigT = TypeVar("ConfigT", bound=LeaderConfig)


def in_pieces(config: ConfigT, rng: Random, nodes: int) -> ConfigT:
    """Snapshots are taken often, hardly any log stays before them, and they travel in many pieces, mostly held."""
    return replace(
        config,
        chunk_bytes=rng.choice((16, 32, 64)),
        snapshot_entries=rng.choice((8, 20, 60)),
        keep_entries=rng.choice((0, 3, 10)),
        hold_bytes_max=rng.choice((0, 2048, 65536)),
    )


def leased(config: ConfigT, rng: Random, nodes: int) -> ConfigT:
    """Leaders read by leases, of nearly the longest length that there may be."""
    return replace(config, lease_s=config.election_timeout_s_min * rng.uniform(0.7, 1.0))


def drawn_choice(rng: Random, nodes: int) -> QuorumChoice:
    """Quorums of so many nodes that are no majorities: of two sizes, a grid where they fill one, or by weight."""
    style = rng.random()
    columns = [count for count in range(2, nodes) if nodes % count == 0]
    if style < 0.3 and columns:
        count = rng.choice(columns)
        rows = tuple(tuple(range(first, first + count)) for first in range(0, nodes, count))
        return GridChoice(rows, columns_first=rng.random() < 0.5)
    if style < 0.5:
        return WeightedChoice(tuple((node, rng.randint(1, WEIGHT_MAX)) for node in range(nodes)))
    phase2 = rng.randint(2, nodes - 1) if nodes > 2 else rng.randint(1, nodes)
    return SizesChoice(nodes + 1 - phase2, phase2)


def spared(choice: QuorumChoice, members: Sequence[int]) -> int:
    """How many of these members, whichever they are, both phases can do without."""
    try:
        quorums = choice.build(members)
    except ValueError:
        return 0
    for count in range(1, len(members) + 1):
        for gone in combinations(members, count):
            rest = quorums.members & ~mask_of(gone)
            if not (quorums.phase1.is_quorum(rest) and quorums.phase2.is_quorum(rest)):
                return count - 1
    return 0
