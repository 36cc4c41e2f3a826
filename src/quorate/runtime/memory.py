"""Memory: how much of this machine's a node may fill, and which part of it for what.

A node keeps in memory what has a bound of its own (an interpreter, a machine's caches, connections), and what grows
with the bytes that clients and peers send. The second is what a ``MemoryBudget`` shares out. What replicas must drop in
the same way (the results that sessions keep) has bounds that are constants, as budgets differ from node to node.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

MIB: Final = 1 << 20
MEMORY_BYTES_MIN: Final = 256 * MIB
"""With less there is no room for a handful of the largest commands."""
MACHINE_SHARE: Final = 4
"""By default a node takes one part in so many of the machine's memory."""
DEFAULT_BYTES_MAX: Final = 2048 * MIB
"""By default, and never more than this."""
CGROUPS: Final = Path("/sys/fs/cgroup")
V1_LIMIT: Final = "memory/memory.limit_in_bytes"


class MemoryBudget(msgspec.Struct, frozen=True):
    """What a node may keep in memory of what others send, in bytes. The rest of ``total_bytes`` is for copies on their
    way, session results and the machine."""

    total_bytes: int

    @property
    def log_bytes(self) -> int:
        """The log in memory, until a snapshot stands for it: a quarter."""
        return self.total_bytes // 4

    @property
    def requests_bytes(self) -> int:
        """Requests of clients that have no answer yet: an eighth."""
        return self.total_bytes // 8

    @property
    def replies_bytes(self) -> int:
        """Answers that clients have not read: an eighth."""
        return self.total_bytes // 8

    @property
    def unfinished_bytes(self) -> int:
        """Requests of which only a part has come: a sixteenth."""
        return self.total_bytes // 16


def default_budget() -> MemoryBudget:
    """A quarter of what this machine, or the control group of this process, has, within bounds."""
    return MemoryBudget(max(MEMORY_BYTES_MIN, min(DEFAULT_BYTES_MAX, memory_of_machine() // MACHINE_SHARE)))


def memory_of_machine(cgroups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Physical memory, or the least that a control group of this process may use."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_limits(cgroups, own)])


def _limits(cgroups: Path, own: Path) -> Iterator[int]:
    """Of the control groups that this process is in, as far as they can be read."""
    for path in (*_groups(cgroups, own), cgroups / V1_LIMIT):
        try:
            text = path.read_text().strip()
        except OSError:
            continue  # no such group here, or none that shows itself
        if text.isdigit() and int(text) > 0:  # else "max"
            yield int(text)


def _groups(cgroups: Path, own: Path) -> Iterator[Path]:
    """``memory.max`` of each version 2 group above this process; in a container the root is its own."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    inside = next((line[3:] for line in lines if line.startswith("0::")), "/")
    group = cgroups / inside.strip("/")
    while True:
        yield group / "memory.max"
        if group == cgroups or cgroups not in group.parents:
            return
        group = group.parent
