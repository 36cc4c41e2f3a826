"""Quorum systems: which sets of nodes may decide, and whether the sets of two systems always meet."""

from quorate.parts.quorum.flexible import Flexible, Grid
from quorate.parts.quorum.meet import disjoint_quorums
from quorate.parts.quorum.systems import Byzantine, Joint, Listed, Majority, QuorumSystem, Threshold, Weighted

__all__ = [
    "Byzantine",
    "Flexible",
    "Grid",
    "Joint",
    "Listed",
    "Majority",
    "QuorumSystem",
    "Threshold",
    "Weighted",
    "disjoint_quorums",
]
