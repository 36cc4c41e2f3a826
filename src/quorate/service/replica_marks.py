"""ReplicaMark: what a replica adds to the mark of its machine: the applied index and the sessions.

They are small, and are written with each mark in full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from quorate.kernel import StateMark


class ReplicaMark(StateMark):
    """``head`` is what stands before the machine's own, in a mark and in a stream alike."""

    def __init__(self, head: bytes, machine: StateMark) -> None:
        self._head = head
        self._machine = machine

    def write(self, file: BinaryIO) -> None:
        """As the base says."""
        file.write(self._head)
        self._machine.write(file)

    def stream(self) -> Callable[[BinaryIO], None]:
        """As the base says."""
        return after_head(self._head, self._machine.stream())

    def close(self) -> None:
        """As the base says."""
        self._machine.close()


def after_head(head: bytes, write_machine: Callable[[BinaryIO], None]) -> Callable[[BinaryIO], None]:
    """What writes the one and then the other."""

    def write(file: BinaryIO) -> None:
        file.write(head)
        file.flush()
        write_machine(file)

    return write
