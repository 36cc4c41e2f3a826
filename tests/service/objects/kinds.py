"""Replicated classes that the tests of handles share, and options that make their nodes quick."""

import threading
from typing import Any

from quorate import Replicated, command, read

from tests.ports import free_pairs

QUICK: dict[str, Any] = {"heartbeat_s": 0.04, "election_timeout_s_min": 0.2}
"""For Raft."""


class Counter(Replicated):
    """Counts."""

    def __init__(self) -> None:
        self.n = 0

    @command
    def add(self, amount: int = 1, *, twice: bool = False) -> int:
        """Add to it."""
        self.n += 2 * amount if twice else amount
        return self.n

    @command
    def blob(self, size: int) -> bytes:
        """Count one, and answer much."""
        self.n += 1
        return bytes(size)

    @command
    def wait(self) -> int:
        """A command that takes as long as a test lets it."""
        ENTERED.set()
        GATE.wait(10)
        self.n += 1
        return self.n

    @command
    def fail(self, error: str) -> None:
        """Raise that."""
        self.n += 1
        raise {"key": KeyError, "stop": StopIteration, "exit": SystemExit}[error](error)

    @read
    def get(self) -> int:
        """What it is."""
        return self.n

    @read
    def much(self, size: int) -> bytes:
        """A large answer."""
        return bytes(size)

    @read
    def __len__(self) -> int:
        return self.n

    def reset(self) -> None:
        """Not marked."""
        self.n = 0


GATE = threading.Event()
GATE.set()
ENTERED = threading.Event()
"""That command has begun on a node."""


def addresses(count: int = 3) -> dict[int, str]:
    """Free ones on loopback."""
    return {node: f"127.0.0.1:{port}" for node, port in enumerate(free_pairs(count), 1)}
