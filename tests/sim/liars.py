"""Dice that fall as a test says, and the means of a liar that throws them."""

from collections.abc import Iterable
from typing import Any

import msgspec

from quorate.kernel import Received, Send, Turn
from quorate.parts.crypto.keys import Keys
from quorate.sim.adversary.liar import Liar, Means, Resign, unsigned


class Dice:
    """Gives these numbers in order, and then 0.5 for ever."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = list(numbers)

    def random(self) -> float:
        return self.numbers.pop(0) if self.numbers else 0.5

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * self.random()

    def getrandbits(self, k: int, /) -> int:
        return int(self.random() * (1 << k))


class Vote(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A message: which round, what for, signed."""

    round: int
    choice: bytes
    signature: bytes = b""


def resign(keys: Keys | None, vote: Vote) -> Vote:
    """Shows in the message that it was signed anew."""
    return msgspec.structs.replace(vote, signature=b"mine")


def means(node: int = 0, nodes: int = 4, keys: Keys | None = None, with_: Resign = unsigned) -> Means:
    """Of node 0 of four."""
    return Means(node, range(nodes), Dice(), keys, with_)


def throw(liar: Liar, *numbers: float) -> None:
    """What the dice show next."""
    dice = liar.means.rng
    assert isinstance(dice, Dice)
    dice.numbers[:] = numbers


def send(message: Any, *to: int) -> Send:
    """To these, or to all four."""
    return Send(to or (0, 1, 2, 3), (), message)


def told(liar: Liar, *sends: Send) -> list[tuple[tuple[int, ...], Any]]:
    """What leaves in place of these."""
    return [(out.to, out.message) for out in liar.lie(Turn(sends=list(sends))).sends]


def hear(liar: Liar, sender: int, messages: Iterable[Any]) -> None:
    """Messages of another node."""
    for message in messages:
        item = Received(sender, message)
        liar.means.heard.append(item)
        liar.hear(item)
