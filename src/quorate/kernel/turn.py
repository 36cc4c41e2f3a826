"""Turn: all effects of one step of a Host, as plain values.

The durability rule lives in these fields. ``early`` may leave at once. ``records`` are to be written atomically and
in order. ``sends``, ``outputs`` and ``jobs`` leave when the records of this Turn, *and those of every earlier
Turn*, are durable (see ``barrier.py``). ``timers`` and ``blames`` rest on nothing and take effect at once.
"""

from collections.abc import Sequence
from typing import Any

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
    """Work to be done outside the core; its result comes back as a Done with the same key."""

    path: Path
    key: Key
    work: Any


class Blame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node did what a correct node never does."""

    node: int
    why: str


class Turn(msgspec.Struct, array_like=True, gc=False):
    """The effects of one step. Empty fields are the empty tuple."""

    early: Sequence[Send] = ()
    records: Sequence[Record] = ()
    sends: Sequence[Send] = ()
    timers: Sequence[Timer] = ()
    jobs: Sequence[Job] = ()
    outputs: Sequence[Any] = ()
    blames: Sequence[Blame] = ()
