"""Ports of the loopback that no other test takes: each process that runs tests has a block of them to itself.

A port that is merely free now may be gone a moment later, as another process with tests finds it free too. So a process
locks a block for as long as it lives, and hands out its ports in turn: the port of a node that is down is left alone
until hundreds of others were used.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from quorate.cli.folder import PEER_PORTS_ABOVE

PORTS = range(10_000, 30_000)
"""Below those that systems give to outgoing connections, which would take the port of a node that is down."""
BLOCK = 500


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    return [_block().take((0,)) for _ in range(count)]


def free_pairs(count: int) -> list[int]:
    """The same, each with the next port free as well: a node of an object listens on both."""
    return [_block().take((0, 1)) for _ in range(count)]


def free_steps(count: int, step: int) -> int:
    """The first of so many ports that are free now, each so far above the one before."""
    return _block().take([step * number for number in range(count)])


def free_base_port(nodes: int) -> int:
    """A base such that all ports of a local cluster are free now."""
    return _block().take([above + node for node in range(1, nodes + 1) for above in (0, PEER_PORTS_ABOVE)])


class _Block:
    """The ports of this process."""

    def __init__(self) -> None:
        self._ports = _claimed()
        self._at = 0

    def take(self, above: Iterable[int]) -> int:
        """A port such that those so far above it are free."""
        wanted = sorted(above)
        own = sum(each < PEER_PORTS_ABOVE for each in wanted) + wanted[0]  # those further up are taken out of turn
        for _ in range(BLOCK):
            if self._at + wanted[-1] >= BLOCK:
                self._at = 0
            first = self._ports[self._at]
            self._at += own
            if all(_is_free(first + each) for each in wanted):
                return first
        raise AssertionError(f"no ports are free in {self._ports}: what listens there?")


@cache
def _block() -> _Block:
    return _Block()


def _claimed() -> range:
    folder = Path(tempfile.gettempdir()) / f"quorate-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    starts = list(PORTS[::BLOCK])
    random.SystemRandom().shuffle(starts)
    for start in starts:
        lock = os.open(folder / str(start), os.O_RDWR | os.O_CREAT)
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return range(start, start + BLOCK)  # the lock is never closed, so it goes with the process
        os.close(lock)
    return range(starts[0], starts[0] + BLOCK)  # more processes than blocks: they share, and are lucky as a rule


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as nodes do: connections that ended are nothing
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False
