"""Liar: one way in which a Byzantine node misbehaves, as a function from Turn to Turn around an honest Host.

How it works. A Byzantine node runs the honest core. Its Turns pass through Liars, one after the other, before anything
leaves: they change, hold back, add and leave out what is said to others. What the node says to itself they leave alone,
so that it stays able to take part, which is what makes its lies worth believing. A Liar has Means: the node's own keys,
what it has heard, and chance. It signs as itself and as nobody else.

Liars that fit every protocol are in ``sim/adversary``; those of one protocol live with it, and its REGISTRY entry names
them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from quorate.kernel import Received, Rng, Send, Turn
from quorate.parts.crypto.keys import Keys

HEARD_MAX: Final = 256
"""Messages that a liar remembers."""

Resign = Callable[[Keys | None, Any], Any]
"""From a node's Keys and a message that it changed to the same with its own signature made anew; None: it cannot."""

T = TypeVar("T")


def unsigned(keys: Keys | None, message: Any) -> Any:
    """For a protocol whose messages carry no signatures: any change will do."""
    return message


class Means:
    """What the liars of one node have at hand. ``now`` is in seconds, ``core`` the honest root core beneath them."""

    def __init__(
        self, node: int, nodes: Sequence[int], rng: Rng, keys: Keys | None = None, resign: Resign = unsigned
    ) -> None:
        self.node = node
        self.others = tuple(other for other in nodes if other != node)
        self.rng = rng
        self.keys = keys
        self.now = 0.0
        self.core: Any = None
        self.heard: deque[Received] = deque(maxlen=HEARD_MAX)
        """The newest messages of others."""
        self.said: deque[Send] = deque(maxlen=HEARD_MAX)
        """The newest of its own to others, before any liar touched them."""
        self.told: dict[str, int] = {}
        """Lies by kind."""
        self.delayed: list[tuple[float, Send]] = []
        """What the shell is to send later, with the delay in seconds."""
        self._resign = resign

    def count(self, kind: str) -> None:
        """One more lie of this kind was told."""
        self.told[kind] = self.told.get(kind, 0) + 1

    def resign(self, message: Any) -> Any:
        """The message with this node's signature made anew; None where the node cannot sign it."""
        return self._resign(self.keys, message)

    def chance(self, probability: float) -> bool:
        """True as often as that."""
        return self.rng.random() < probability

    def pick(self, items: Sequence[T]) -> T:
        """Any of them. There must be one."""
        return items[int(self.rng.random() * len(items))]

    def some(self, items: Sequence[T]) -> tuple[T, ...]:
        """A random part of them, neither none nor all where there are two or more."""
        if len(items) < 2:
            return tuple(items)
        draws = [(self.rng.random(), position) for position in range(len(items))]
        count = 1 + int(self.rng.random() * (len(items) - 1))
        chosen = sorted(position for _, position in sorted(draws)[:count])
        return tuple(items[position] for position in chosen)


class Liar:
    """Tells the truth. A subclass overrides ``tell``, or ``lie`` where one message at a time is not enough."""

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    is_rare: ClassVar[bool] = False
    """Whether what it waits for comes seldom. Then it is active all the time, beside others: it would miss it else."""
    needs_laggards: ClassVar[bool] = False
    """Whether it can lie only to nodes that fetch a snapshot."""
    is_brought: ClassVar[bool] = False
    """Whether it comes from a file of the user's. Then what it raises is a mistake there and ends the campaign."""

    def __init__(self, means: Means) -> None:
        self.means = means

    def hear(self, item: Received) -> None:
        """A message of another node comes in. What it makes this one say goes with the next Turn."""

    def lie(self, turn: Turn) -> Turn:
        """The Turn that the world gets to see."""
        return msgspec.structs.replace(turn, early=self._told(turn.early), sends=self._told(turn.sends))

    def tell(self, send: Send) -> Iterable[Send]:
        """What leaves in place of this message to others."""
        return (send,)

    def answer(self, response: Any) -> Any:
        """What a client is told in place of this; None: nothing."""
        return response

    def _told(self, sends: Sequence[Send]) -> list[Send]:
        told: list[Send] = []
        for send in sends:
            others, own = to_others(send, self.means.node)
            if own is not None:
                told.append(own)
            if others is not None:
                told.extend(self.tell(others))
        return told


def to_others(send: Send, node: int) -> tuple[Send | None, Send | None]:
    """A message to others and the same to oneself; None where there is no such."""
    if node not in send.to:
        return send, None
    others = tuple(to for to in send.to if to != node)
    own = Send((node,), send.path, send.message)
    return (Send(others, send.path, send.message) if others else None), own
