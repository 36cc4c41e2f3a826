"""QuorumChoice: which quorums each phase uses, as a table of a configuration file.

    quorum = {kind = "majority"}                                   # the default
    quorum = {kind = "sizes", phase1 = 4, phase2 = 2}              # any four, and any two, of five
    quorum = {kind = "grid", rows = [[1, 2, 3], [4, 5, 6]]}        # a row for phase 1, a column for phase 2
    quorum = {kind = "weighted", weights = [[1, 2], [2, 1], [3, 1], [4, 1]]}   # node, weight
    quorum = {kind = "listed", phase1 = [[1, 2], [3]], phase2 = [[1, 3], [2, 3]]}

Each builds a Flexible, which refuses a pair whose quorums do not all meet and names two that do not (Howard, Malkhi and
Spiegelman 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from quorate.kernel import NodeId, mask_of, nodes_of
from quorate.parts.quorum.flexible import Flexible, Grid
from quorate.parts.quorum.systems import Listed, Majority, Weighted

NodeRow: TypeAlias = tuple[NodeId, ...]


class MajorityChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="majority"):
    """More than half of the members, in both phases."""

    def build(self, members: Sequence[int]) -> Flexible:
        """Raises ValueError for no members."""
        majority = Majority(members)
        return Flexible(majority, majority)


class SizesChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sizes"):
    """Any so many members in each phase; together they must be more than all."""

    phase1: int
    phase2: int

    def build(self, members: Sequence[int]) -> Flexible:
        """Raises ValueError."""
        return Flexible.of_sizes(members, self.phase1, self.phase2)


class GridChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="grid"):
    """A row for phase 1 and a column for phase 2, or the other way round."""

    rows: tuple[NodeRow, ...]
    columns_first: bool = False

    def build(self, members: Sequence[int]) -> Flexible:
        """Raises ValueError; also where the grid's nodes are not the members."""
        return _checked(Grid(self.rows, columns_first=self.columns_first), members)


class WeightedChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="weighted"):
    """Members with more than half of all weight, in both phases."""

    weights: tuple[tuple[NodeId, int], ...]

    def build(self, members: Sequence[int]) -> Flexible:
        """Raises ValueError; also where the nodes that weigh something are not the members."""
        weighted = Weighted(dict(self.weights))
        return _checked(Flexible(weighted, weighted), members)


class ListedChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="listed"):
    """The sets given, and whatever contains one."""

    phase1: tuple[NodeRow, ...]
    phase2: tuple[NodeRow, ...]

    def build(self, members: Sequence[int]) -> Flexible:
        """Raises ValueError; also where a set names a node that is no member."""
        flexible = Flexible(Listed(self.phase1), Listed(self.phase2))
        if unknown := flexible.members & ~mask_of(tuple(members)):
            raise ValueError(f"the quorums name nodes {list(nodes_of(unknown))}, which are no members")
        return flexible


QuorumChoice: TypeAlias = MajorityChoice | SizesChoice | GridChoice | WeightedChoice | ListedChoice


def _checked(flexible: Flexible, members: Sequence[int]) -> Flexible:
    if flexible.members != mask_of(tuple(members)):
        raise ValueError(
            f"the quorums are of nodes {list(nodes_of(flexible.members))}, but the members are {sorted(members)}: "
            "name exactly these"
        )
    return flexible
