"""No state machine: that of a witness, which has no state."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, NoReturn

from quorate.kernel.app import AppEnded
from quorate.machines.state_machine import StateMachine


class NoMachine(StateMachine):
    """Nothing is asked of it, unless the node's configuration is wrong: then the node ends, and says so."""

    def apply(self, command: bytes) -> bytes:
        """As the base says; here, why that cannot be."""
        self._end()

    def query(self, query: bytes) -> bytes:
        """Likewise."""
        self._end()

    def snapshot(self) -> Callable[[BinaryIO], None]:
        """Likewise."""
        self._end()

    def restore(self, file: BinaryIO) -> Callable[[], None]:
        """Likewise."""
        self._end()

    def _end(self) -> NoReturn:
        raise AppEnded(
            "this node's configuration says `witness = true`, and the cluster counts on it as a node with state: take "
            "that line out, and start it again"
        )
