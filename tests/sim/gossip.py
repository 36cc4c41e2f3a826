"""Gossip: a toy core that spreads rumours among strangers, each of whom has a few links.

How it works. A node dials addresses that it knows until it has ``PICKS`` links of its own, and whenever one is gone; it
takes the calls of others. To who calls it, it tells some addresses. When it learns a rumour it announces that along its
links (Have); a neighbour asks the first that announced it (Want) and gets it (Give). Once in a while a node announces
its newest rumours to a random neighbour, and repeats each Want that got no answer, to another if it can. That makes up
for links that break, and brings nodes that were down up to date.

A node that sends what no correct one sends gets points, is parted from and banned by its key (``parts/scores.py``): the
number of a link is another's tomorrow. Nothing is durable: a node that restarts knows no rumour, and dials anew.
"""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quorate.kernel import Core, Env, Key
from quorate.parts import scores

PICKS: Final = 8
ADDRESSES_MAX: Final = 256
TOLD_MAX: Final = 16
"""Addresses in one message."""
RECENT_MAX: Final = 64
WANTED_MAX: Final = 1024
AGAIN_S: Final = 1.0
NUMBER_BYTES: Final = 8
"""What a rumour begins with."""

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Numbers = Annotated[tuple[Number, ...], Meta(max_length=RECENT_MAX)]


Address = Annotated[str, Meta(max_length=256)]


class Addresses(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Nodes can be dialled there, I have heard."""

    addresses: Annotated[tuple[Address, ...], Meta(max_length=TOLD_MAX)]


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
    """``known`` has the data of rumours by number, oldest first. ``seeds`` are the addresses that it begins with."""

    messages = (Addresses, Have, Want, Give)
    is_open = True
    gathers = False

    def __init__(self, env: Env, seeds: Sequence[str] = ()) -> None:
        super().__init__(env)
        self.known: dict[int, bytes] = {}
        self.scores = scores.Scores()
        self._addresses = list(seeds)
        self._dialled: set[str] = set()
        """Under way, or what became a link of ours."""
        self._links: dict[int, tuple[bytes, str, bool]] = {}
        """By number: key, address, and whether we dialled it."""
        self._offers: dict[int, list[int]] = {}
        """By number of a rumour that was asked for, who has it; the first was asked last."""

    def start(self) -> None:
        self._dial()
        self._again_later()

    # --- links ---

    def on_met(self, node: int, key: bytes, address: str, outbound: bool) -> None:
        self._links[node] = (key, address, outbound)
        self._heard_of(address)
        if not outbound:
            count = min(TOLD_MAX, len(self._addresses))
            self.env.send(node, Addresses(tuple(self.env.rng.sample(self._addresses, count))))

    def on_parted(self, node: int, why: str) -> None:
        _, address, outbound = self._links.pop(node)
        if outbound:
            self._dialled.discard(address)
        for offers in self._offers.values():
            if node in offers:
                offers.remove(node)
        self._dial()

    def on_unmet(self, address: str, why: str) -> None:
        self._dialled.discard(address)
        if address in self._addresses and len(self._addresses) > PICKS:
            self._addresses.remove(address)
        self.env.set_timer("dial", AGAIN_S)

    def on_misbehaved(self, node: int, why: str) -> None:
        key, address, _ = self._links[node]
        if self.scores.add(key, scores.UNDECODABLE, self.env.now):
            if address in self._addresses:
                self._addresses.remove(address)
            self.env.part(node, why, scores.BAN_S)

    def on_addresses(self, sender: int, message: Addresses) -> None:
        for address in message.addresses:
            self._heard_of(address)
        self._dial()

    def _heard_of(self, address: str) -> None:
        if address not in self._addresses:
            if len(self._addresses) >= ADDRESSES_MAX:
                del self._addresses[int(self.env.rng.random() * len(self._addresses))]
            self._addresses.append(address)

    def _dial(self) -> None:
        mine = {address for _, address, _ in self._links.values()}
        candidates = [each for each in self._addresses if each not in self._dialled and each not in mine]
        wanted = min(PICKS - len(self._dialled), len(candidates))
        for address in self.env.rng.sample(candidates, max(0, wanted)):
            self._dialled.add(address)
            self.env.meet(address)

    # --- rumours ---

    def submit(self, values: Sequence[bytes]) -> None:
        for value in values:
            self._learn(int.from_bytes(value[:NUMBER_BYTES], "big"), value, ())

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
        if key == "dial":
            self._dial()
            return
        peers = self.env.peers
        for number, offers in list(self._offers.items()):
            if offers:
                offers.append(offers.pop(0))
                self.env.send(offers[0], Want((number,)))
            else:
                del self._offers[number]  # whoever announced it is gone; somebody will again
        if self.known and peers:
            self.env.send(peers[int(self.env.rng.random() * len(peers))], Have(tuple(self.known)[-RECENT_MAX:]))
        self._dial()
        self._again_later()

    def _learn(self, number: int, data: bytes, has_it: Sequence[int]) -> None:
        self.known[number] = data
        self.env.deliver(Heard(number, data))
        self.env.send(tuple(node for node in self.env.peers if node not in has_it), Have((number,)))

    def _again_later(self) -> None:
        self.env.set_timer("again", AGAIN_S * self.env.rng.uniform(0.5, 1.5))
