"""A node as a process, whose clock can be set: `quorate node`, with another clock in the place of the system's.

    python -m tests.torture.clocked PLANTED node --config cluster.toml --node 1

The system's monotonic clock cannot be set, and production has no way to do without it. So the module of the Node gets a
clock of its own here. SIGUSR1 sets it: by so many seconds, forward or back, as a file beside the data folder says
(``n1.jump``). Timers stay where they are in local time, as they do in the simulator: a clock that jumps forward fires
what is due. The world's clock, as the node has it, jumps with it. The node says in its log what it was told.

Where the environment says so (``QUORATE_TORTURE_LISTEN``), it listens for the other nodes elsewhere than it is dialled,
also before it has a configuration that could say that.

PLANTED is the name of a bug that the node has, one of Raft's mutants or of those below; ``-`` for none.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from quorate.cli import main as cli
from quorate.kernel import Key
from quorate.kernel import Path as CorePath
from quorate.protocols import REGISTRY
from quorate.protocols.raft.core import Raft
from quorate.protocols.raft.replication import LogReplication
from quorate.runtime import node as node_module
from quorate.runtime.address import parse_address
from quorate.runtime.node import Node
from quorate.service import server
from quorate.service.config import NodeConfig

log = logging.getLogger("quorate.clocked")

HEALTHY: Final = "-"
COMMITS_ALONE: Final = "commits-alone"
LISTEN_VARIABLE: Final = "QUORATE_TORTURE_LISTEN"
WAS_SET: Final = "the clock was set"
"""How a node's report of it begins."""


def jump_path(data: Path) -> Path:
    """Where it is written by how many seconds the clock of the node with this folder is to be set."""
    return data.with_suffix(".jump")


class Clock:
    """What the module ``time`` is to a node."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        """The system's, and what it was set by."""
        return time.monotonic() + self.ahead_s

    def time_ns(self) -> int:
        """The same of the world's."""
        return time.time_ns() + int(self.ahead_s * 1e9)


CLOCK: Final = Clock()


class ClockedNode(Node):
    """One whose clock is CLOCK."""

    def __init__(self, *, data: Path, **rest: Any) -> None:
        super().__init__(data=data, **rest)
        self._due: dict[tuple[CorePath | None, Key], float] = {}
        """When timers fire, in local time."""

    async def start(self) -> None:
        """From now on it can be set."""
        await super().start()
        self._loop.add_signal_handler(signal.SIGUSR1, self._jump)

    def _set_timer(self, path: CorePath | None, key: Key, delay_s: float | None) -> None:
        super()._set_timer(path, key, delay_s)
        if delay_s is None:
            self._due.pop((path, key), None)
        else:
            self._due[path, key] = CLOCK.monotonic() + delay_s

    def _fire(self, path: CorePath | None, key: Key) -> None:
        self._due.pop((path, key), None)
        super()._fire(path, key)

    def _jump(self) -> None:
        seconds = float(jump_path(self._data).read_text())
        before = CLOCK.monotonic()
        CLOCK.ahead_s += seconds
        for (path, key), due in list(self._due.items()):
            self._set_timer(path, key, due - CLOCK.monotonic())
        log.warning("%s by %+.3f s: it shows %.3f, and before that %.3f", WAS_SET, seconds, CLOCK.monotonic(), before)


class CommitsAlone(LogReplication):
    """Breaks §3.6.2: an entry is committed when a quorum holds it, not when the leader does."""

    def _advance_commit(self) -> None:
        self._state.commit(self.followers.counted.get(self._env.id, 0))


class RaftCommitsAlone(Raft):
    """A leader that asks nobody."""

    replication_class = CommitsAlone


def plant(name: str) -> None:
    """Have Raft's nodes in this process run with a bug."""
    from quorate.protocols.raft.mutants import MUTANTS

    cores = {mutant.name: mutant.core for mutant in MUTANTS} | {COMMITS_ALONE: RaftCommitsAlone}
    REGISTRY["raft"] = msgspec.structs.replace(REGISTRY["raft"], core=cores[name])


def main() -> None:
    """Run the node."""
    if (planted := sys.argv.pop(1)) != HEALTHY:
        plant(planted)
    if listen := os.environ.get(LISTEN_VARIABLE):
        NodeConfig.listen_peer = lambda _: parse_address(listen)  # type: ignore[method-assign]
    node_module.time = CLOCK  # type: ignore[assignment]
    server.Node = ClockedNode  # type: ignore[misc]
    cli.main()


if __name__ == "__main__":
    main()
