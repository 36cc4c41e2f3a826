"""Costs: what one request may read and answer, and how much of it is done at a time.

A *command* runs at once and on every node, so what it may touch is bounded: keys, bytes read, bytes of its result. The
bounds follow from the command and the replicated state alone, so that a command above one has the same error as its
result everywhere. A *query* runs on one node in steps; only the size of its answer is bounded.
"""

from __future__ import annotations

from typing import Final

from quorate.machines.kv import refusals
from quorate.machines.state_machine import RESULT_BYTES_MAX

COMMAND_KEYS_MAX: Final = 2048
"""Keys that a command may read or delete. More than that takes several commands."""
COMMAND_READ_BYTES_MAX: Final = 16 << 20
"""What a command may read, whether it is part of the result or not."""
STEP_KEYS: Final = 1024
STEP_BYTES: Final = 256 << 10
"""What a step of a query looks at: a millisecond or two."""
OPERATION_BYTES: Final = 40
"""What the answer to an operation takes beside its keys and values."""
_UNBOUNDED: Final = 1 << 62


class Costs:
    """Of one request. ``spend`` raises KvError as soon as a bound is passed."""

    __slots__ = ("_keys", "_read_bytes", "_result_bytes", "_step_bytes", "_step_keys", "is_command")

    def __init__(self, *, is_command: bool) -> None:
        self.is_command = is_command
        self._keys = COMMAND_KEYS_MAX if is_command else _UNBOUNDED
        self._read_bytes = COMMAND_READ_BYTES_MAX if is_command else _UNBOUNDED
        self._result_bytes = RESULT_BYTES_MAX
        self._step_keys = STEP_KEYS
        self._step_bytes = STEP_BYTES

    def spend(self, keys: int, read_bytes: int, result_bytes: int) -> None:
        """So much was looked at, or will be, and so much goes into the result."""
        self._keys -= keys
        self._read_bytes -= read_bytes
        self._result_bytes -= result_bytes
        self._step_keys -= keys
        self._step_bytes -= read_bytes
        if self._result_bytes < 0:
            raise refusals.result_too_large()
        if self._keys < 0 or self._read_bytes < 0:
            raise refusals.too_much()

    def look(self, keys: int, read_bytes: int = 0) -> None:
        """So much was looked at without being part of what was asked for."""
        self._step_keys -= keys
        self._step_bytes -= read_bytes

    @property
    def is_step_over(self) -> bool:
        """Whether it is time to let others have their turn."""
        return self._step_keys <= 0 or self._step_bytes <= 0

    def next_step(self) -> None:
        """Others have had it."""
        self._step_keys = STEP_KEYS
        self._step_bytes = STEP_BYTES
