"""Flexible quorums: phase 1 and phase 2 may use different ones, as long as the phases meet each other.

Howard, Malkhi and Spiegelman, "Flexible Paxos: Quorum intersection revisited" (2016): a proposer must learn of every
value that may have been chosen, so each phase-1 quorum has to meet each phase-2 quorum. Two quorums of the same phase
need not meet. A small phase 2 makes the usual case cheap and the change of a leader dear.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.kernel import nodes_of
from quorate.parts.quorum.meet import disjoint_quorums
from quorate.parts.quorum.systems import Listed, QuorumSystem, Threshold


class Flexible:
    """One system for each phase. Pairs whose quorums do not all meet are refused."""

    def __init__(self, phase1: QuorumSystem, phase2: QuorumSystem) -> None:
        """Raises ValueError that names two disjoint quorums, or says that the systems are too large to tell."""
        found = disjoint_quorums(phase1, phase2)
        if found is not None:
            one, two = (list(nodes_of(quorum)) for quorum in found)
            raise ValueError(
                f"phase-1 quorum {one} and phase-2 quorum {two} share no node, so two values could be chosen; "
                "make the quorums of one phase larger"
            )
        self.phase1 = phase1
        self.phase2 = phase2
        self.members = phase1.members | phase2.members

    @classmethod
    def of_sizes(cls, members: Sequence[int], phase1_size: int, phase2_size: int) -> Flexible:
        """Any ``phase1_size`` members, and any ``phase2_size``. Raises ValueError unless their sum exceeds all."""
        return cls(Threshold(members, phase1_size), Threshold(members, phase2_size))

    def __repr__(self) -> str:
        return f"Flexible({self.phase1!r}, {self.phase2!r})"


class Grid(Flexible):
    """Nodes in rows and columns: a whole row is a phase-1 quorum and a whole column a phase-2 quorum."""

    def __init__(self, rows: Sequence[Sequence[int]], *, columns_first: bool = False) -> None:
        """``rows``: equally long, no node twice; ``columns_first``: columns for phase 1, rows for phase 2.

        Raises ValueError.
        """
        if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
            raise ValueError(f"a grid has rows of one length; these have {[len(row) for row in rows]}")
        nodes = [node for row in rows for node in row]
        twice = sorted(node for node in nodes if nodes.count(node) > 1)
        if twice:
            raise ValueError(f"node {twice[0]} has more than one place in the grid")
        by_row, by_column = Listed(rows), Listed(list(zip(*rows, strict=True)))
        super().__init__(*((by_column, by_row) if columns_first else (by_row, by_column)))
