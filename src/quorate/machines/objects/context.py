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
from typing import Protocol

from quorate.machines.objects.calls import MethodCall

SEED_BYTES = 16
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Carrier(Protocol):
    """What applies calls: the one that runs, and the time so far."""

    call: MethodCall | None
    trusts_time: bool

    @property
    def time_ns(self) -> int:
        """Of the latest call that had one; 0: none had."""


class Moment(threading.local):
    """The command that runs in this thread. The machine sets one attribute a command, and no more."""

    carrier: Carrier | None = None
    drawn_for: MethodCall | None = None
    generator: chance.Random


MOMENT = Moment()


def now() -> datetime:
    """The time of the command that runs, in UTC: the same on every node, and never before that of an earlier command.

    Raises RuntimeError outside of a @command, and for a call that carries no time.
    """
    carrier, _ = _running("now")
    if not carrier.time_ns:
        raise RuntimeError("now(): neither this call nor one before it carries a time. A handle's calls do")
    return EPOCH + timedelta(microseconds=carrier.time_ns // 1000)


def is_time_trusted() -> bool:
    """Whether ``now`` is the time of a member, in the command that runs. A caller's may be anything."""
    return _running("is_time_trusted")[0].trusts_time


def random() -> chance.Random:
    """The command's own random numbers: the same on every node. A second call goes on where the first one is.

    Releases of Python may draw differently in everything but ``random().random()`` and ``random().getrandbits(n)``.
    Raises RuntimeError outside of a @command, and for a call that carries no seed.
    """
    _, call = _running("random")
    if MOMENT.drawn_for is not call:
        if not call.seed:
            raise RuntimeError("random() and uuid(): this call carries no seed. A handle's calls do")
        MOMENT.generator = chance.Random(int.from_bytes(call.seed))
        MOMENT.drawn_for = call
    return MOMENT.generator


def uuid() -> uuids.UUID:
    """A fresh UUID (version 4), the same on every node. It draws from ``random``, and is not a secret.

    Raises RuntimeError as ``random`` does.
    """
    _running("uuid")
    return uuids.UUID(int=random().getrandbits(128), version=4)


def _running(name: str) -> tuple[Carrier, MethodCall]:
    carrier = MOMENT.carrier
    if carrier is None or carrier.call is None:
        raise RuntimeError(
            f"{name}() means something only while a @command runs, where it is the same on every node. In a @read, "
            "take the value as an argument; elsewhere use datetime, random and uuid of the standard library"
        )
    return carrier, carrier.call
