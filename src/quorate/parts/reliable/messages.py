"""What an Outbox sends, what it makes durable, and how it is configured.

A Letter carries one message of the protocol. Its number counts the sender's messages of the epoch, whoever they are
for, so that a broadcast is one Letter to all, encoded once. The price is gaps in what one receiver gets, so receivers
acknowledge with a bit for each number, which covers all that came so far: any later beat makes up for a lost one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar, Final, TypeAlias, cast

import msgspec
from msgspec import Meta

from quorate.kernel import Core, Path
from quorate.parts.bounds import MESSAGE_SIZES, TIMES, BoundedConfig, Bounds
from quorate.parts.wire import Natural

AHEAD_MAX: Final = 3
NUMBERS_MAX: Final = 1 << 16
"""Messages of one epoch and sender. HoneyBadger with 64 nodes says about 1,000 in an epoch of few coin rounds."""

Epoch: TypeAlias = Natural
Number: TypeAlias = Annotated[int, Meta(ge=0, lt=NUMBERS_MAX)]
Numbers: TypeAlias = Annotated[bytes, Meta(max_length=NUMBERS_MAX // 8)]
"""A set of numbers: a bit mask, little-endian."""


class Letter(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A message of an epoch for the core at ``path`` below the Outbox's owner; () is the owner itself.

    ``letter_type`` makes the class that is sent, in which ``message`` has a type that a decoder checks.
    """

    life: Natural
    epoch: Epoch
    number: Number
    path: Path
    message: Any


class EpochBeat(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """I am in this epoch, and need nothing of those below. Sent when an epoch starts, and at each beat.

    ``tick`` counts the sender's beats. ``held_from``: the first epoch of which the receiver can still have everything.
    ``to_life`` is the receiver's life as the sender knows it, ``to_tick`` the newest beat that came of it, and
    ``seen`` the numbers that came of it in ``epoch``, ``epoch + 1``, ...
    """

    life: Natural
    tick: Natural
    epoch: Epoch
    held_from: Epoch
    to_life: Natural
    to_tick: Natural
    seen: Annotated[tuple[Numbers, ...], Meta(max_length=AHEAD_MAX + 1)] = ()


class Life(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Record: the process of this number has begun."""

    number: Natural


class ReliableConfig(BoundedConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times in seconds of the local clock, sizes in bytes as encoded. All nodes must be given the same ``ahead_max``.

    Letters leave for nodes at most ``ahead_max`` epochs behind theirs. At most ``epochs_max`` epochs that this node has
    left are kept, and in all epochs ``messages_max`` messages of ``bytes_max``. One resend to one node has at most
    ``resend_messages_max`` and ``resend_bytes_max`` (but one message at least); the time to the next doubles up to
    ``backoff_beats_max`` beats while nothing comes of it. Of what one sender has for children that are not there yet,
    ``parked_max`` messages of ``parked_bytes_max`` wait.
    """

    bounds: ClassVar[Mapping[str, Bounds]] = {"beat_s": TIMES, "resend_bytes_max": MESSAGE_SIZES}

    ahead_max: int = 1
    beat_s: float = 0.2
    epochs_max: int = 64
    messages_max: int = 1 << 18
    bytes_max: int = 64 << 20
    resend_messages_max: int = 1024
    resend_bytes_max: int = 1 << 20
    backoff_beats_max: int = 16
    parked_max: int = 1024
    parked_bytes_max: int = 4 << 20

    def __post_init__(self) -> None:
        if not 1 <= self.ahead_max <= AHEAD_MAX:
            raise ValueError(f"ahead_max is {self.ahead_max}, not in 1 to {AHEAD_MAX}")
        super().__post_init__()
        limits = (self.messages_max, self.bytes_max, self.resend_messages_max, self.resend_bytes_max)
        if min(*limits, self.epochs_max, self.backoff_beats_max, self.parked_max, self.parked_bytes_max) < 1:
            raise ValueError("limits of a ReliableConfig must be at least 1")


def letter_type(*cores: type[Core], messages: Sequence[type] = ()) -> type[Letter]:
    """The Letter for the messages of these cores and all that they may spawn, and for more ``messages``.

    A core that owns an Outbox has it in its ``messages``, beside EpochBeat. Raises TypeError where there are none.
    """
    family = list(cores)
    for core in family:  # grows while it is walked
        family.extend(child for child in core.children if child not in family)
    kinds = list(dict.fromkeys([*messages, *(kind for core in family for kind in core.messages)]))
    if not kinds:
        raise TypeError("a Letter carries messages, and these cores have none")
    union: Any = reduce(or_, kinds)
    return cast(
        "type[Letter]",
        msgspec.defstruct(
            "Letter",
            [("message", union)],
            bases=(Letter,),
            tag="Letter",
            frozen=True,
            array_like=True,
            gc=False,
            namespace={"__doc__": Letter.__doc__},
        ),
    )
