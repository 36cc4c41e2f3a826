"""Turn: all effects of one step of a Host, as plain values.

The durability rule lives in these fields. ``early`` and ``at_once`` may leave at once. ``records`` are to be written
atomically and in order. ``sends``, ``outputs`` and ``jobs`` leave when the records of this Turn, *and those of every
earlier Turn*, are durable (see ``barrier.py``), but not for the records of a Turn that is ``lazy``. ``timers``,
``roster`` and ``blames`` rest on nothing and take effect at once.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from quorate.kernel.ids import Key, Path


class Send(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message to one or many nodes; encoded once."""

    to: tuple[int, ...]
    path: Path
    message: Any


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One durable record of the core at ``path``."""

    path: Path
    value: Any


class Timer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Set a timer to the local time ``at`` in seconds, replacing one of the same key; None cancels it."""

    path: Path
    key: Key
    at: float | None


class Job(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Work to be done outside the core; its result comes back as a Done with the same key. None cancels that key's."""

    path: Path
    key: Key
    work: Any


class Output(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An output of a core below the root. The root's own are plain values."""

    path: Path
    value: Any


class Blame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node did what a correct node never does. ``evidence`` is a proof that others can check, where there is one.

    ``is_suspicion``: a correct node that is down, slow or cut off may look the same.
    """

    node: int
    why: str
    evidence: Any = None
    is_suspicion: bool = False


class Meet(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Know a node from now on: dial ``address``, and expect ``key`` there (empty: any, where nodes have none).

    In a closed roster ``node`` is its number, on which all members agree. In an open one the shell gives it a number.
    """

    address: str
    key: bytes = b""
    node: int | None = None


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Know a node no longer: hang up, and refuse it: a stranger for ``ban_s`` seconds, a member for good."""

    node: int
    why: str
    ban_s: float = 0.0


RosterChange: TypeAlias = Meet | Part


class Turn(msgspec.Struct, array_like=True, gc=False):
    """The effects of one step. Empty fields are the empty tuple."""

    early: Sequence[Send] = ()
    at_once: Sequence[Any] = ()
    """Outputs and jobs that rest on nothing."""
    records: Sequence[Record] = ()
    sends: Sequence[Send] = ()
    timers: Sequence[Timer] = ()
    jobs: Sequence[Job] = ()
    outputs: Sequence[Any] = ()
    blames: Sequence[Blame] = ()
    roster: Sequence[RosterChange] = ()
    lazy: bool = False
    """Whether nothing waits for the records: each of them is one that others can give again."""
