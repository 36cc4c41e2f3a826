"""A number that many add to."""

from __future__ import annotations

from quorate.machines.objects.definition import Replicated, command, read
from quorate.objects.arguments import check_int


class Counter(Replicated):
    """An int of any size; it begins at 0."""

    def __init__(self) -> None:
        self.value = 0

    @command
    def add(self, n: int = 1) -> int:
        """Add ``n``, which may be negative; return the sum."""
        self.value += check_int("n", n)
        return self.value

    @command
    def reset(self, value: int = 0) -> int:
        """Set the value; return what it was."""
        before = self.value
        self.value = check_int("value", value)
        return before

    @command
    def compare_and_set(self, expected: int, value: int) -> bool:
        """Set the value if it is ``expected``; return whether it was."""
        check_int("value", value)
        if self.value != expected:
            return False
        self.value = value
        return True

    @read
    def get(self) -> int:
        """The value."""
        return self.value
