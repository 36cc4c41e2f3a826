"""Do all quorums of one system meet all quorums of another? Exact, or refused as too large to say.

How it works. Two systems have disjoint quorums if and only if their members can be dealt out so that both sides get
one. A node that counts in one system only goes there. For systems by count the rest is arithmetic; where one system is
a list, each of its quorums is tried; otherwise the shared nodes are dealt out one by one, and a branch ends as soon as
one side can no longer get a quorum. In general that is the partition problem, hence the limit.
"""

from __future__ import annotations

from typing import Final

from quorate.kernel import nodes_of
from quorate.parts.quorum.systems import Listed, QuorumSystem, Threshold, Weighted

SHARED_MEMBERS_MAX: Final = 20
"""Of two systems that have to be searched."""


def disjoint_quorums(a: QuorumSystem, b: QuorumSystem) -> tuple[int, int] | None:
    """A quorum of ``a`` and one of ``b`` that share no node, both minimal; None where all meet.

    Raises ValueError where a search is needed and more than SHARED_MEMBERS_MAX nodes count in both.
    """
    if isinstance(a, Listed):
        found = _listed(a, b)
    elif isinstance(b, Listed):
        found = _swapped(_listed(b, a))
    elif isinstance(a, Threshold) and isinstance(b, Threshold):
        found = _counted(a, b)
    elif isinstance(a, Weighted) and isinstance(b, Weighted) and _outweigh(a, b):
        found = None
    else:
        found = _searched(a, b)
    return found and (smallest(a, found[0]), smallest(b, found[1]))


def smallest(system: QuorumSystem, quorum: int) -> int:
    """A quorum within this one that loses its standing with any node less."""
    quorum &= system.members
    for node in reversed(nodes_of(quorum)):
        if system.is_quorum(quorum & ~(1 << node)):
            quorum &= ~(1 << node)
    return quorum


def _listed(a: Listed, b: QuorumSystem) -> tuple[int, int] | None:
    for quorum in a.quorums:
        if not b.is_blocking(quorum):
            return quorum, b.members & ~quorum
    return None


def _swapped(found: tuple[int, int] | None) -> tuple[int, int] | None:
    return found and (found[1], found[0])


def _counted(a: Threshold, b: Threshold) -> tuple[int, int] | None:
    """``a`` takes as many shared nodes as it lacks, and the rest must do for ``b``."""
    shared = nodes_of(a.members & b.members)
    lacking = max(0, a.size - (a.members & ~b.members).bit_count())
    taken = sum(1 << node for node in shared[:lacking])
    for_a, for_b = a.members & ~b.members | taken, b.members & ~taken
    return (for_a, for_b) if a.is_quorum(for_a) and b.is_quorum(for_b) else None


def _outweigh(a: Weighted, b: Weighted) -> bool:
    """With the same weights in both systems, two quorums that need more than there is must share a node."""
    return a.weights == b.weights and a.needed + b.needed > sum(a.weights.values())


def _searched(a: QuorumSystem, b: QuorumSystem) -> tuple[int, int] | None:
    shared = a.members & b.members
    if shared.bit_count() > SHARED_MEMBERS_MAX:
        raise ValueError(
            f"{shared.bit_count()} nodes count in both {type(a).__name__} and {type(b).__name__}: whether their "
            f"quorums always meet is found out for at most {SHARED_MEMBERS_MAX}. Systems by count have no such limit"
        )
    return _deal(a, b, a.members & ~shared, b.members & ~shared, shared)


def _deal(a: QuorumSystem, b: QuorumSystem, for_a: int, for_b: int, rest: int) -> tuple[int, int] | None:
    if not a.is_quorum(for_a | rest) or not b.is_quorum(for_b | rest):
        return None
    if a.is_quorum(for_a):
        return for_a, for_b | rest
    node = rest & -rest  # not empty: for_a and the rest are a quorum, for_a alone is none
    rest &= ~node
    return _deal(a, b, for_a | node, for_b, rest) or _deal(a, b, for_a, for_b | node, rest)
