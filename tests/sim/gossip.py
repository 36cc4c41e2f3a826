"""Gossip: a toy core that spreads rumours among many nodes, each of which has few neighbours.

How it works. A node picks ``PICKS`` others and sends them a Meet, which makes them neighbours both ways. When it learns
a rumour it announces that to its neighbours (Have); a neighbour asks the first that announced it (Want) and gets it
(Give). Once in a while a node announces its newest rumours to a random neighbour, and repeats each Want that got no
answer, to another node if it can. That makes up for losses, and brings nodes that were down up to date.

Nothing is durable: a node that restarts knows no rumour.
"""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quorate.kernel import Core, Env, Key

PICKS: Final = 8
NEIGHBOURS_MAX: Final = 40
RECENT_MAX: Final = 64
WANTED_MAX: Final = 1024
AGAIN_S: Final = 1.0
NUMBER_BYTES: Final = 8
"""What a rumour begins with."""

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Numbers = Annotated[tuple[Number, ...], Meta(max_length=RECENT_MAX)]


class Meet(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Be my neighbour."""


class Have(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """I have these."""

    numbers: Numbers


class Want(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Give me these."""

    numbers: Numbers


class Give(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """One of them."""

    number: Number
    data: bytes


class Heard(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Delivered, once per rumour and life."""

    number: Number
    data: bytes


class Gossip(Core):
    """``known`` has the data of rumours by number, oldest first."""

    messages = (Meet, Have, Want, Give)

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.known: dict[int, bytes] = {}
        self._neighbours: list[int] = []
        self._offers: dict[int, list[int]] = {}
        """By number that was asked for, who has it; the first was asked last."""

    def start(self) -> None:
        peers, rng = self.env.peers, self.env.rng
        while len(self._neighbours) < min(PICKS, len(peers) - 1):
            self._meet(peers[int(rng.random() * len(peers))])
        self.env.send_now(tuple(self._neighbours), Meet())  # rests on nothing: nothing here is durable
        self._again_later()

    def submit(self, values: Sequence[bytes]) -> None:
        for value in values:
            self._learn(int.from_bytes(value[:NUMBER_BYTES], "big"), value, ())

    def on_meet(self, sender: int, message: Meet) -> None:
        self._meet(sender)

    def on_have(self, sender: int, message: Have) -> None:
        wanted = []
        for number in message.numbers:
            if number in self.known:
                continue
            offers = self._offers.get(number)
            if offers is None:
                if len(self._offers) < WANTED_MAX:
                    self._offers[number] = [sender]
                    wanted.append(number)
            elif sender not in offers:
                offers.append(sender)
        if wanted:
            self.env.send(sender, Want(tuple(wanted)))

    def on_want(self, sender: int, message: Want) -> None:
        for number in message.numbers:
            data = self.known.get(number)
            if data is not None:
                self.env.send(sender, Give(number, data))

    def on_give(self, sender: int, message: Give) -> None:
        offers = self._offers.pop(message.number, None)
        if offers is not None:  # else nobody asked for it, or somebody else was faster
            self._learn(message.number, message.data, offers)

    def on_timer(self, key: Key) -> None:
        for number, offers in self._offers.items():
            offers.append(offers.pop(0))
            self.env.send(offers[0], Want((number,)))
        if self.known and self._neighbours:
            neighbour = self._neighbours[int(self.env.rng.random() * len(self._neighbours))]
            self.env.send(neighbour, Have(tuple(self.known)[-RECENT_MAX:]))
        self._again_later()

    def _meet(self, node: int) -> None:
        if node != self.env.id and node not in self._neighbours and len(self._neighbours) < NEIGHBOURS_MAX:
            self._neighbours.append(node)

    def _learn(self, number: int, data: bytes, has_it: Sequence[int]) -> None:
        self.known[number] = data
        self.env.deliver(Heard(number, data))
        self.env.send(tuple(node for node in self._neighbours if node not in has_it), Have((number,)))

    def _again_later(self) -> None:
        self.env.set_timer("again", AGAIN_S * self.env.rng.uniform(0.5, 1.5))
