"""Liars that know no protocol: they repeat, forge and contradict messages of any type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from quorate.kernel import Send
from quorate.sim.adversary.liar import Liar, Means
from quorate.sim.adversary.mutate import ANYTHING, Alteration, anything, by_one, changed


class Replaying(Liar):
    """Says again, as its own, what it or others said earlier, to whom it was not meant for."""

    name = "replaying"
    summary = "repeats old messages, its own and others'"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.02, 0.4)

    def tell(self, send: Send) -> Iterable[Send]:
        """The message, and now and then an old one."""
        yield send
        means = self.means
        if not means.chance(self.rate):
            return
        to = (means.pick(means.others),)
        if means.heard and (means.chance(0.7) or not means.said):
            old = means.pick(means.heard)
            yield Send(to, old.path, old.message)
        elif means.said:
            again = means.pick(means.said)
            yield Send(to, again.path, again.message)
        means.count(self.name)


class Forged(Liar):
    """Invents what it cannot sign: others' messages with other contents, and its own with signatures that are wrong."""

    name = "forged"
    summary = "changes what others said, and signs nothing anew"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.02, 0.4)
        self.instead = means.chance(0.3)

    def tell(self, send: Send) -> Iterable[Send]:
        """The message, or a forgery of it, or both; and forgeries of what was heard."""
        means = self.means
        if not means.chance(self.rate):
            yield send
            return
        if not self.instead:
            yield send
        if means.heard and means.chance(0.5):
            source: Any = means.pick(means.heard)
        else:
            source = send
        forgery = changed(source.message, means.rng, anything, ANYTHING)
        if forgery is not None:
            means.count(self.name)
            yield Send(means.some(means.others), source.path, forgery)


class Equivocating(Liar):
    """Tells some one thing and others another, both rightly signed."""

    name = "equivocating"
    summary = "tells different nodes different things, and signs both"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.1, 1.0)
        self.change: Alteration = anything
        self.kinds: tuple[type, ...] = ANYTHING
        if means.chance(0.3):
            self.change, self.kinds = by_one, (int,)

    def tell(self, send: Send) -> Iterable[Send]:
        """The truth to some, and a signed lie to the rest. A message to one node is a lie or is not."""
        means = self.means
        other = None
        if means.chance(self.rate):
            other = _signed_lie(means, changed(send.message, means.rng, self.change, self.kinds))
        if other is None:
            yield send
            return
        means.count(self.name)
        deceived = means.some(send.to)
        truth = tuple(node for node in send.to if node not in deceived)
        if truth:
            yield Send(truth, send.path, send.message)
        yield Send(deceived, send.path, other)


class ByzzFuzz(Liar):
    """Few and small lies: in a few rounds, to some, one number is one off, or the message is an old one, or none.

    After Winter and others (OOPSLA 2023). A round is all messages of one type with the same numbers, such as the
    prepares of one view and sequence number. Their faults of the network are in ``rounds.py``.
    """

    name = "byzzfuzz"
    summary = "in a few rounds, changes one number by ±1 in messages to some nodes"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.rate = means.rng.uniform(0.02, 0.3)
        self._round: Any = None
        self._deceived: tuple[int, ...] = ()

    def tell(self, send: Send) -> Iterable[Send]:
        """The truth to all in most rounds."""
        means = self.means
        now = round_of(send.message)
        if now != self._round:
            self._round = now
            self._deceived = means.some(means.others) if means.chance(self.rate) else ()
        deceived = tuple(node for node in send.to if node in self._deceived)
        if not deceived:
            yield send
            return
        truth = tuple(node for node in send.to if node not in self._deceived)
        if truth:
            yield Send(truth, send.path, send.message)
        means.count(self.name)
        draw = means.rng.random()
        if draw < 0.6:
            other = _signed_lie(means, changed(send.message, means.rng, by_one, (int,)))
        elif draw < 0.8:
            old = [said for said in means.said if type(said.message) is type(send.message)]
            other = means.pick(old).message if old else None
        else:
            other = None
        if other is not None:
            yield Send(deceived, send.path, other)


def _signed_lie(means: Means, message: Any) -> Any:
    return None if message is None else means.resign(message)


def round_of(message: Any) -> tuple[Any, ...]:
    """What tells the round of a message from others: its type and its first two numbers."""
    numbers = [value for name in message.__struct_fields__ if type(value := getattr(message, name)) is int]
    return (type(message).__name__, *numbers[:2])
