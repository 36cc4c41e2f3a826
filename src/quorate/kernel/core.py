"""Core: the rules of one protocol. No await, no clock, no I/O, no globals.

A subclass names its ``messages``, ``records`` and ``children``, and writes one handler a message type: a
``RequestVote`` comes to ``on_request_vote(sender, m)``. The table from type to handler is built once a class,
and a message without a handler is an error when the class is made, not when the message comes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from quorate.kernel.env import Env
from quorate.kernel.ids import Key, Name, Path
from quorate.kernel.parking import ParkingLimits
from quorate.kernel.standing import Standing


def handler_name(message: type) -> str:
    """``AppendEntries`` is handled by ``on_append_entries``."""
    return "on_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", message.__name__).lower()


class Core:
    """Base of every protocol. Override what the protocol has; the rest does nothing or refuses."""

    messages: ClassVar[tuple[type, ...]] = ()
    """The message types that peers may send to this core."""
    records: ClassVar[tuple[type, ...]] = ()
    """The record types that this core persists."""
    children: ClassVar[tuple[type[Core], ...]] = ()
    """The classes of the cores that this one spawns."""
    results: ClassVar[tuple[type, ...]] = ()
    """The Struct types that its own jobs end in (besides Failed, plain numbers, bytes and None).

    Needed for recovery by inputs, which journals results.
    """
    handed: ClassVar[tuple[type, ...]] = ()
    """The types that its parent hands down to it. Needed for recovery by inputs, which journals them."""
    by_inputs: ClassVar[bool] = False
    """Whether this core, and all below it, is recovered by its journaled inputs in place of records of its own.

    Its parent must talk to it by ``env.hand`` alone, and not before the Host has started: a plain call is no input and
    would be missed. ``start`` asks again for the timers and jobs that are wanted. What its constructor sees in its Env
    is what it saw the first time, unless its parent's constructor makes it: then it draws no chance before ``start``.
    """
    is_open: ClassVar[bool] = False
    """Of a root: whether its roster is open, so that strangers connect."""
    gathers: ClassVar[bool] = True
    """Of a root: whether submissions wait for a quiet journal, so that many share a batch. False: they only pass on."""
    hands_over: ClassVar[bool] = False
    """Of a root: whether it does something in ``hand_over``, so that a node which stops waits for it."""
    hears_hang_ups: ClassVar[bool] = False
    """Of a root with a closed roster: whether it is told when a peer's connection ends (``on_hung_up``)."""
    is_repairable: ClassVar[bool] = False
    """Of a root: whether a node that lost its memory can come back under its number; see ``unrepairable``."""
    parking: ClassVar[ParkingLimits] = ParkingLimits()
    """How much of each sender may wait for children that are not there yet."""
    handlers: ClassVar[dict[type, Callable[[Any, int, Any], None]]] = {}
    """From message type to handler; made from ``messages``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        missing = [handler_name(m) for m in cls.messages if not hasattr(cls, handler_name(m))]
        if missing:
            raise TypeError(f"{cls.__name__} has no handler {', '.join(missing)}; write one a message type")
        cls.handlers = {message: getattr(cls, handler_name(message)) for message in cls.messages}

    def __init__(self, env: Env) -> None:
        self.env = env

    def start(self) -> None:
        """Begin, after every record has been restored."""

    def submit(self, values: Sequence[bytes]) -> None:
        """Values from above to be decided, a batch at a time."""
        raise NotImplementedError(f"{type(self).__name__} takes no values")

    def read(self, tokens: Sequence[int]) -> None:
        """Reads from above: deliver the tokens when the local state is fresh enough to serve them."""
        raise NotImplementedError(f"{type(self).__name__} takes no reads")

    def hand_over(self, to: int | None = None) -> None:
        """If this node leads, have another lead, soon: ``to``, or whichever is ready, as this one is about to stop.

        ``standing`` shows when that is done, ``is_handing_over`` whether it is still tried.
        """

    @property
    def is_handing_over(self) -> bool:
        """Of a root: whether it leads, and wants another node to."""
        return False

    def why_not_hand_over(self, to: int | None = None) -> str | None:
        """Of a root that leads: why ``hand_over`` would be in vain as things are; None: it would not."""
        return "this protocol has no transfer of leadership"

    def restore(self, record: Any) -> None:
        """One durable record, in the order in which they were persisted, before ``start``."""
        raise NotImplementedError(f"{type(self).__name__} persists nothing")

    def revive(self, name: Name) -> None:
        """A record of a child that is not there yet is about to be restored: spawn the child."""
        raise NotImplementedError(f"{type(self).__name__} has no child {name}")

    def checkpoint(self) -> Iterable[Any]:
        """The records that replace everything this core (not its children) persisted so far."""
        return ()

    def standing(self) -> Standing:
        """Where it stands now: role, leader, term, commit. Asked for between steps; it changes nothing."""
        return Standing()

    def unrepairable(self) -> str:
        """Of a root: why this node could not be repaired from its peers if it lost its memory; empty if it could.

        Whoever can looks at ``env.incarnation``, and promises nothing before what it lost cannot matter any more.
        """
        return f"{type(self).__name__} cannot do without what a node promised"

    def awaits(self, path: Path) -> bool:
        """Whether there may yet be a core at this path, below this one. What comes for others is dropped."""
        return True

    def on_timer(self, key: Key) -> None:
        """A timer ran out."""

    def on_done(self, key: Key, result: Any) -> None:
        """A job ended; the result may be a Failed. One that was cancelled may still end."""

    def on_handed(self, value: Any) -> None:
        """The parent handed a value down."""
        raise NotImplementedError(f"{type(self).__name__} takes nothing from its parent")

    def on_stalled(self, why: str | None) -> None:
        """Storage stopped taking records (a full disk, say), or takes them again (None)."""

    def on_hung_up(self, node: int) -> None:
        """A peer's connection to this node has ended: a hint that its process has, and no more."""

    def on_met(self, node: int, key: bytes, address: str, outbound: bool) -> None:
        """Open roster: a link to a stranger is there; ``env.peers`` has it."""

    def on_parted(self, node: int, why: str) -> None:
        """Open roster: a link is gone; the number will be another's."""

    def on_unmet(self, address: str, why: str) -> None:
        """Open roster: nobody could be met at an address."""

    def on_misbehaved(self, node: int, why: str) -> None:
        """Open roster: a stranger sent what no correct node sends. It is for the core to score it or to part."""

    def settle(self) -> None:
        """The step is about to end: do once what its many inputs share, such as sending what they appended.

        Also called where nothing came but a core above was touched: it may have called this one.
        """


class Maker:
    """What makes a core in place of its class, with an Env of another kind, say. Call it as you would the class."""

    by_inputs: bool = False
    """As that of the class."""


def is_by_inputs(make: Callable[..., Any]) -> bool:
    """Whether what this makes is recovered by inputs. A class says so, and a Maker; a plain function makes none."""
    if isinstance(make, Maker):
        return make.by_inputs
    return isinstance(make, type) and issubclass(make, Core) and make.by_inputs
