"""Scenarios: for each round who leads and which processes hear each other, each once up to symmetry.

There are n nodes and n + 1 processes: process 0 and process n are node 0, the doubled one; the others are honest. A
round is one of n leaders and one of 2**n partitions of the processes into two sides (one may be empty).

Two scenarios are the same where one becomes the other by renaming honest nodes, or by swapping the twins. Of each class
the least sequence is run. It is found choice by choice: the first is the least under all renamings, the next one the
least under those that leave the first alone, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product
from math import factorial

import msgspec


class Round(msgspec.Struct, frozen=True, order=True):
    """``leader`` is a node. ``side``: the mask of the processes that are together with process 0, itself among them."""

    leader: int
    side: int

    def parts(self, one: int, two: int) -> bool:
        """Whether the partition parts these processes."""
        return bool((self.side >> one ^ self.side >> two) & 1)


Scenario = tuple[Round, ...]
Renaming = tuple[int, ...]
"""By process, its new name."""


def renamings(nodes: int) -> list[Renaming]:
    """All that leave the system as it is: honest processes among themselves, and the twins."""
    found = []
    for honest in permutations(range(1, nodes)):
        found.append((0, *honest, nodes))
        found.append((nodes, *honest, 0))
    return found


def choices(nodes: int) -> list[Round]:
    """Every round, in order."""
    sides = [1 | rest << 1 for rest in range(1 << nodes)]
    return sorted(Round(leader, side) for leader, side in product(range(nodes), sides))


def renamed(round: Round, names: Renaming, nodes: int) -> Round:
    """The round after a renaming."""
    side = 0
    for process, name in enumerate(names):
        side |= (round.side >> process & 1) << name
    if not side & 1:
        side ^= (1 << nodes + 1) - 1
    return Round(names[round.leader] % nodes, side)


def scenarios(nodes: int, rounds: int) -> Iterator[Scenario]:
    """One of each class, in order."""
    every = choices(nodes)

    def extend(prefix: Scenario, symmetries: list[Renaming]) -> Iterator[Scenario]:
        if len(prefix) == rounds:
            yield prefix
            return
        for choice in every:
            images = [renamed(choice, names, nodes) for names in symmetries]
            if min(images) == choice:
                kept = [names for names, image in zip(symmetries, images, strict=True) if image == choice]
                yield from extend((*prefix, choice), kept)

    return extend((), renamings(nodes))


def count_all(nodes: int, rounds: int) -> int:
    """Without symmetry: (partitions x leaders) to the power of rounds."""
    return int((nodes * 2**nodes) ** rounds)


def count(nodes: int, rounds: int) -> int:
    """How many classes there are, by Burnside's lemma: the mean, over all renamings, of what each leaves alone."""
    every = choices(nodes)
    fixed = sum(
        sum(renamed(choice, names, nodes) == choice for choice in every) ** rounds for names in renamings(nodes)
    )
    return int(fixed // (2 * factorial(nodes - 1)))
