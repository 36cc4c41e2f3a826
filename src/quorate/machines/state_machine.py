"""The state machine a replica applies committed commands to.

A log decides an order of commands; a `StateMachine` gives each its meaning. Every replica applies the same
commands in the same order, so whatever `apply` answers, and whatever it leaves behind, must be a function of the
commands alone: no clock, no random number, no address, no path.

Threads: everything is called on one thread (the loop thread), save the two halves named in `snapshot` and
`restore` that do the long reading and writing elsewhere while the loop goes on.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Mapping
from typing import BinaryIO, ClassVar, Final

from quorate.kernel.app import StateMark, Steps

RESULT_BYTES_MAX: Final = (2 << 20) - 1024
"""What a node can send to a client in one answer. What a machine answers should not be larger."""


class StateMachine(abc.ABC):
    """What a replica needs of the state it replicates."""

    is_audited: ClassVar[bool] = False
    """Whether the nodes compare ``digests`` through the log."""
    stamps: ClassVar[bool] = False
    """Whether ``stamp`` adds anything."""
    kind: ClassVar[str] = "other"
    """What its snapshots are of, in a word that a backup of it names: what restores one must have the same."""
    stages: ClassVar[bool] = False
    """Whether ``staged`` takes any command."""
    keeps_time: ClassVar[bool] = False
    """Whether the log is to tell it what time it is (``passes``)."""
    version = 0
    """Of the code that gives commands their meaning."""

    def open(self) -> None:  # noqa: B027 (a default, not an abstraction)
        """Its folder is this process's alone now: make working files there. Called once, before all else, in a thread.

        Raises OSError.
        """

    def begin(self) -> None:  # noqa: B027
        """A batch of commands starts. A machine may hold back its writes until `commit`."""

    def commit(self) -> None:  # noqa: B027
        """The batch ends. Raises OSError where the working storage can't take it (a full disk)."""

    @abc.abstractmethod
    def apply(self, command: bytes) -> bytes:
        """Apply one committed command; return its encoded result.

        Deterministic and total: a malformed or refused command has an error as its result, on every replica the
        same, and never raises. Only a failure of this node itself (a full disk) may raise.
        """

    def staged(self, command: bytes) -> Steps | None:
        """Of a committed command that takes long: it is applied in steps of a few milliseconds, in place of ``apply``.

        What is returned in the end is its result. No other command is applied meanwhile and no snapshot is taken, but
        queries are answered, from the state before. A batch may end and another begin between two steps. None for any
        other command.
        """
        return None

    def passes(self, wall_ns: int) -> None:  # noqa: B027
        """The log says here that it is so late, by the clock of the node that led. Part of the state, as ``apply``."""

    @abc.abstractmethod
    def query(self, query: bytes) -> bytes:
        """Answer a question without changing anything. Total in the same way as `apply`."""

    def query_steps(self, query: bytes) -> Steps:
        """Answer a question in steps of a few milliseconds, between which commands are applied.

        The answer is of the state at the first step. A generator that is closed gives back what it holds; one that is
        under way when `restore` adopts another state is closed and not used again.
        """
        return self.query(query)
        yield

    def refuses(self, command: bytes) -> bytes | None:
        """The result of a command that is refused in whatever state, so that it is not proposed; None for any other."""
        return None

    def stamp(self, command: bytes, wall_ns: int) -> bytes:
        """What goes into the log for a client's command: the member that takes it may add what time it is."""
        return command

    def digests(self) -> Mapping[str, bytes]:
        """The state as it is now, in digests by the names of its parts; equal ones for equal states. In a batch too."""
        return {}

    def announcement(self, node: int, members: Collection[int]) -> bytes:
        """What the others are to know of this ``node``'s code before they count on it; empty: nothing that is new.

        ``members``: those that vote, as far as this node knows.
        """
        return b""

    def announced(self, node: int, data: bytes) -> None:  # noqa: B027
        """The log has a node's announcement here. Deterministic and total, as `apply` is: it is part of the state.

        Raises AppEnded where this node's code is not fit to go on.
        """

    def history(self) -> tuple[int, int]:
        """The revision of the state, and the oldest that can still be read; zeros where there are no revisions."""
        return 0, 0

    @abc.abstractmethod
    def snapshot(self) -> Callable[[BinaryIO], None]:
        """Capture the state as it is now; return the function that writes it.

        The capture is quick. The returned function runs once, in another thread, while `apply` goes on, and what
        it writes isn't altered by those later commands.
        """

    @abc.abstractmethod
    def restore(self, file: BinaryIO) -> Callable[[], None]:
        """Load a snapshot aside, from a stream positioned at it; return the function that adopts it.

        This half runs in another thread and changes nothing. The returned function runs on the loop thread and
        replaces all state. Raises ValueError for a payload that is cut short or corrupt.
        """

    def mark(self) -> StateMark | None:
        """Mark the state as it is now, where the machine keeps it on disk; None where it does not. Raises OSError."""
        return None

    def reopen(self, file: BinaryIO) -> Callable[[], StateMark]:
        """As `restore`, from what a `StateMark` of an earlier life wrote. The returned function also gives that mark.

        Raises ValueError where the state is not there as it was left, OSError.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no marks")

    def close(self) -> None:  # noqa: B027
        """Give back files and memory. The machine isn't used afterwards."""
