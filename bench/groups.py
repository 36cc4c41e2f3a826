"""Control groups of memory for processes of a bench: so many bytes each, and what the kernel counts.

Version 2 where the memory controller is there, version 1 otherwise; both need root. A group of version 1 is made inside
that of this process, one of version 2 at the root, as version 2 has no processes in a group that has groups.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

V2 = Path("/sys/fs/cgroup")
V1 = V2 / "memory"
REMOVE_TRIES = 50


class NoGroups(Exception):
    """This process cannot limit the memory of others; the text says why."""


class MemoryGroup:
    """One group, which is removed by ``close`` once its processes are gone."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        """Raises NoGroups."""
        if os.geteuid() != 0:
            raise NoGroups("only root may make control groups")
        controllers = V2 / "cgroup.controllers"
        self._is_v2 = controllers.exists() and "memory" in controllers.read_text().split()
        if not self._is_v2 and not (V1 / "cgroup.procs").exists():
            raise NoGroups("there is no memory controller at /sys/fs/cgroup")
        self.path = (V2 if self._is_v2 else _own_v1_group()) / f"{name}-{os.getpid()}"
        try:
            if self._is_v2:
                (V2 / "cgroup.subtree_control").write_text("+memory")
            self.path.mkdir()
            for file in ("memory.max", "memory.swap.max") if self._is_v2 else ("memory.limit_in_bytes",):
                with suppress(FileNotFoundError):  # a kernel without swap
                    (self.path / file).write_text("0" if "swap" in file else str(limit_bytes))
        except OSError as error:
            raise NoGroups(f"no control group can be made: {error}") from error

    @property
    def prefix(self) -> list[str]:
        """Put before a command, it runs in this group."""
        return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.path / "cgroup.procs")]

    @property
    def most_bytes(self) -> int:
        """The most that was ever charged, the files in memory that the kernel could have dropped among it."""
        file = self.path / ("memory.peak" if self._is_v2 else "memory.max_usage_in_bytes")
        return int(file.read_text()) if file.exists() else 0

    @property
    def kills(self) -> int:
        """How many processes the kernel has killed for being too large."""
        text = (self.path / ("memory.events" if self._is_v2 else "memory.oom_control")).read_text()
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))

    def close(self) -> None:
        """Remove it. The kernel takes a moment to see that its processes are gone."""
        for _ in range(REMOVE_TRIES):
            try:
                self.path.rmdir()
            except OSError:
                time.sleep(0.1)
            else:
                return


def _own_v1_group() -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, group = line.split(":", 2)
        if "memory" in names.split(","):
            own = V1 / group.strip("/")
            return own if own.exists() else V1
    return V1
