"""Time and chance in a command: what the log carries, so that every node that applies the command has the same.

A call carries a seed, which its caller drew, and a stamp: the time of the member that took it, or of the caller where
nodes may lie. The machine makes stamps monotone, so time never runs backwards from one command to the next; commands
may share a time. Outside of a command there is neither: a @read and ``__init__`` run on one node at a time.
"""

from __future__ import annotations

import random as chance
import threading
import uuid as uuids
from datetime import UTC, datetime, timedelta

SEED_BYTES = 16
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Moment(threading.local):
    """The command that runs in this thread."""

    is_running = False
    time_ns = 0
    seed = b""
    generator: chance.Random | None = None
    trusts_time = True
    """Whether the time is a member's. A caller's may be anything, so nothing may be granted for a time by it."""

    def begin(self, time_ns: int, seed: bytes, *, trusts_time: bool = True) -> None:
        """A command starts."""
        self.trusts_time = trusts_time
        self.time_ns = time_ns
        self.seed = seed
        self.generator = None
        self.is_running = True


MOMENT = Moment()


def now() -> datetime:
    """The time of the command that runs, in UTC: the same on every node, and never before that of an earlier command.

    Raises RuntimeError outside of a @command, and for a call that carries no time.
    """
    _check("now")
    if not MOMENT.time_ns:
        raise RuntimeError("now(): neither this call nor one before it carries a time. A handle's calls do")
    return EPOCH + timedelta(microseconds=MOMENT.time_ns // 1000)


def random() -> chance.Random:
    """The command's own random numbers: the same on every node. A second call goes on where the first one is.

    Releases of Python may draw differently in everything but ``random().random()`` and ``random().getrandbits(n)``.
    Raises RuntimeError outside of a @command, and for a call that carries no seed.
    """
    _check("random")
    if MOMENT.generator is None:
        if not MOMENT.seed:
            raise RuntimeError("random() and uuid(): this call carries no seed. A handle's calls do")
        MOMENT.generator = chance.Random(int.from_bytes(MOMENT.seed))
    return MOMENT.generator


def uuid() -> uuids.UUID:
    """A fresh UUID (version 4), the same on every node. It draws from ``random``, and is not a secret.

    Raises RuntimeError as ``random`` does.
    """
    _check("uuid")
    return uuids.UUID(int=random().getrandbits(128), version=4)


def _check(name: str) -> None:
    if not MOMENT.is_running:
        raise RuntimeError(
            f"{name}() means something only while a @command runs, where it is the same on every node. In a @read, "
            "take the value as an argument; elsewhere use datetime, random and uuid of the standard library"
        )
