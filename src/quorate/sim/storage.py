"""Storage: what the disks of a simulated cluster are made of, and how many of them may be lost."""

from __future__ import annotations

from typing import Any

import msgspec

from quorate.sim.disk import Disk
from quorate.sim.snapshot_store import SimSnapshots


class Storage(msgspec.Struct, frozen=True):
    """The defaults are disks whose journals are never damaged."""

    medium: Any = None
    """A ``damage.Medium``: the bytes of journals; None: there are none that could be damaged."""
    borne: int = 0
    """How many nodes may lose what is on their disks, and so never return."""
    mends: bool = False
    """Whether a node that finds damage goes on as one that has forgotten."""
    forgets: bool = True
    """Whether it says so."""
    disk: type[Disk] = Disk
    snapshots: type[SimSnapshots] = SimSnapshots
