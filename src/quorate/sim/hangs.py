"""Watches each disk that hangs: the node must notice, however well the others do without it.

How it works. A hang harms nobody until a sync should have ended. From then on the node has as long as its WriteWatch
takes at most. A process that is paused has no time, and a disk that says that it takes nothing has been noticed: the
count begins anew after both.
"""

from __future__ import annotations

from typing import Final

from quorate.kernel.writes import TICK_S, WRITE_S_MAX
from quorate.sim.checkers.base import Violation
from quorate.sim.ground import Ground
from quorate.sim.node import SimNode

PROPERTY: Final = "a disk that hangs is noticed"
NOTICED_S: Final = WRITE_S_MAX + 2 * TICK_S
"""By then, after the sync should have ended: the bound, a tick for what was begun between two, and one to spare."""

LOOK_S: Final = 0.1


def watch_hang(world: Ground[SimNode], node: SimNode) -> None:
    """Of a disk that has just begun to hang, until that ends. Raises Violation from the world's loop."""
    disk = node.disk
    hang, stalls, waited_s = disk.hangs, disk.stalls, 0.0

    def look() -> None:
        nonlocal stalls, waited_s
        if not disk.is_hung or disk.hangs != hang:
            return
        is_spared = node.paused or disk.stalls != stalls or node.shell.stalled_why is not None
        waited_s = waited_s + LOOK_S if disk.is_overdue and not is_spared else 0.0
        stalls = disk.stalls
        if waited_s > NOTICED_S:
            raise Violation(PROPERTY, f"node {node.id} waits for a sync for {waited_s:.1f} s and takes it for well")
        world.after(LOOK_S, look)

    world.after(LOOK_S, look)
