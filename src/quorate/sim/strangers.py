"""Strangers: the links of an open roster. Nodes dial each other, come and go, and are known by address and key alone.

How it works. Each node numbers its links for itself; a number is used again when the core has taken in that its link is
gone and all that it said before has left. A link keeps the order of what it carries and loses nothing while it lasts,
as TCP does: what a lossy network loses comes later. A cut or a crash ends links, and the other side hears of it after a
while; what is on its way is lost with the link. A node refuses whom it has banned, and newcomers when it is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final

from quorate.kernel import NODE_ID_MAX, Meet, Met, Misbehaved, Parted, Received, RosterChange, Send, Unmet
from quorate.kernel.roster import SELF
from quorate.sim.ground import Ground
from quorate.sim.node import SimNode

LINKS_MAX: Final = 125
"""Of one node. The last tenth is for those that it dials."""
INBOUND_MAX: Final = 114
DIAL_S_MAX: Final = 5.0
"""How long a dial may take."""
DEAD_AFTER_S: Final = 2.0
"""When it is noticed that the other side of a link says nothing."""
RETRANSMITTED: Final = 10.0
"""How many times longer a message takes that was lost at first."""


def address_of(node: int) -> str:
    """Where a node is dialled."""
    return f"node-{node}"


def key_of(node: int) -> bytes:
    """A node's key, which it proves."""
    return b"%032d" % node


class End:
    """One side of a link. ``number`` is what its node calls it."""

    __slots__ = ("arrival", "is_open", "life", "node", "number", "other", "outbound")

    other: End

    def __init__(self, node: SimNode, number: int, outbound: bool) -> None:
        self.node = node
        self.number = number
        self.outbound = outbound
        self.life = node.life
        self.is_open = True
        self.arrival = 0.0
        """Of the last message that this side sent."""


class Stranger:
    """What one node knows of its links."""

    __slots__ = ("bans", "ends", "resting")

    def __init__(self) -> None:
        self.ends: dict[int, End] = {}
        self.bans: dict[bytes, float] = {}
        """By key, until when it is refused."""
        self.resting: dict[int, int | None] = {}
        """Numbers of links that are gone, with the last frame that was written when the core heard of it."""


class SimStrangers:
    """All links of a world. Nodes are those of the world; ``address_of`` and ``key_of`` say what they are called."""

    def __init__(self, world: Ground[SimNode]) -> None:
        self._world = world
        self._rng = Random(f"{world.seed}/strangers")
        self._known: dict[int, Stranger] = {}
        self.bans = self.refusals = 0

    def stranger(self, node: int) -> Stranger:
        """The links of a node."""
        return self._known.setdefault(node, Stranger())

    def linked(self, node: int) -> tuple[int, ...]:
        """The nodes that a node has links to, by their numbers in the world."""
        return tuple(sorted(end.other.node.id for end in self.stranger(node).ends.values()))

    def start(self) -> None:
        """Begin to look for links that nothing comes through."""
        self._world.after(DEAD_AFTER_S, self._look)

    def _look(self) -> None:
        for node, cuts in enumerate(self._world.network.cuts):
            for end in list(self.stranger(node).ends.values()) if cuts else ():
                if cuts >> end.other.node.id & 1:
                    self._silent(end)
        self._world.after(DEAD_AFTER_S, self._look)

    # --- what a node does ---

    def change(self, node: SimNode, change: RosterChange) -> None:
        """A core meets or parts."""
        if isinstance(change, Meet):
            self._dial(node, change)
            return
        end = self.stranger(node.id).ends.get(change.node)
        if end is not None:
            if change.ban_s:
                self.bans += 1
                self.stranger(node.id).bans[key_of(end.other.node.id)] = self._world.now + change.ban_s
            self._end(end, change.why)

    def send(self, node: SimNode, sends: Sequence[Send]) -> None:
        """Along links; what is for a link that is gone is dropped."""
        for send in sends:
            self._send(node, send)

    def _send(self, node: SimNode, send: Send) -> None:
        world = self._world
        ends = self.stranger(node.id).ends
        network, ways = world.network, world.network.ways
        size_bytes = 0 if ways is None else ways.size_bytes(send.message)
        since = world.now
        for to in send.to:
            if to == SELF:
                node.loop_back(Received(SELF, send.message, send.path))
                continue
            end = ends.get(to)
            if end is None:
                continue
            other = end.other
            if ways is not None:
                passed = ways.passed_at(node.id, other.node.id, size_bytes, world.now)
                if passed is None:  # as a real node does with a peer that is too slow
                    network.overflowed += 1
                    self._end(end, "too slow")
                    continue
                since = passed
            if network.cuts[node.id] >> other.node.id & 1:
                network.cut += 1
                self._silent(end)
                continue
            at = max(since + self._delay_s(node.id, other.node.id), end.arrival)
            end.arrival = at
            world.at(at, self._arrive, other, Received(other.number, send.message, send.path))

    def misbehave(self, node: int, other: int, why: str) -> None:
        """A node sends another what does not decode."""
        for end in self.stranger(node).ends.values():
            if end.other.node.id == other:
                self._world.at(self._world.now + self._delay_s(node, other), self._bad, end.other, why)

    def crashed(self, node: SimNode) -> None:
        """The process is gone, and with it all that it knew."""
        known = self._known.pop(node.id, None)
        for end in list(known.ends.values()) if known else ():
            self._close(end, "the other side went away")

    def took(self, node: SimNode, number: int, written: int) -> None:
        """The core has taken in that a link is gone; nothing that is written later speaks of it."""
        self.stranger(node.id).resting[number] = written

    # --- links ---

    def _dial(self, node: SimNode, meet: Meet) -> None:
        world, life = self._world, node.life
        other = next((each for each in world.nodes if address_of(each.id) == meet.address), None)
        if other is None:
            self._later(node, life, DIAL_S_MAX * self._rng.random(), Unmet(meet.address, "no such name"))
            return
        there = world.now + self._delay_s(node.id, other.id) * 2
        world.at(there, lambda *_: self._accept(node, life, other, meet), None, None)

    def _accept(self, node: SimNode, life: int, other: SimNode, meet: Meet) -> None:
        if not node.up or node.life != life:
            return
        why, delay_s = self._why_not(node, other, meet)
        if why:
            self.refusals += 1
            self._later(node, life, delay_s, Unmet(meet.address, why))
            return
        near = End(node, self._number(node), True)
        far = End(other, self._number(other), False)
        near.other, far.other = far, near
        self.stranger(node.id).ends[near.number] = near
        self.stranger(other.id).ends[far.number] = far
        for end in (near, far):
            peer = end.other.node.id
            self._tell(end.node, Met(end.number, key_of(peer), address_of(peer), end.outbound))

    def _why_not(self, node: SimNode, other: SimNode, meet: Meet) -> tuple[str, float]:
        """What keeps a dial from becoming a link, and how long it takes to hear of it."""
        network, now = self._world.network, self._world.now
        here, there = self.stranger(node.id), self.stranger(other.id)
        delay_s = self._delay_s(other.id, node.id)
        if not other.up:
            return "nobody listens there", delay_s
        if other is node:
            return "that is this node itself", delay_s
        if network.cuts[node.id] >> other.id & 1 or network.cuts[other.id] >> node.id & 1:
            return "no answer", DIAL_S_MAX
        if meet.key and meet.key != key_of(other.id):
            return "it has another key", delay_s
        if there.bans.get(key_of(node.id), 0.0) > now or here.bans.get(key_of(other.id), 0.0) > now:
            return "banned", delay_s
        if any(end.other.node is other for end in here.ends.values()):
            return "there is a link already", delay_s
        if len(here.ends) >= LINKS_MAX or sum(not end.outbound for end in there.ends.values()) >= INBOUND_MAX:
            return "it has as many links as it may", delay_s
        return "", 0.0

    def _number(self, node: SimNode) -> int:
        """The lowest that is free; 0 is the node itself."""
        known = self.stranger(node.id)
        for number in range(1, NODE_ID_MAX + 1):
            if number in known.ends:
                continue
            if number not in known.resting:
                return number
            written = known.resting[number]
            if written is not None and node.has_left(written):
                del known.resting[number]
                return number
        raise AssertionError("more links than numbers")

    def _end(self, end: End, why: str) -> None:
        """A node hangs up; the other side hears of it."""
        if not end.is_open:
            return
        self._lose(end, why)
        delay_s = self._delay_s(end.node.id, end.other.node.id)
        self._world.at(self._world.now + delay_s, self._closed, end.other, "the other side hung up")

    def _silent(self, end: End) -> None:
        """Nothing comes through: both sides give up after a while."""
        at = self._world.now + DEAD_AFTER_S
        self._world.at(at, self._closed, end, "no answer")
        self._world.at(at, self._closed, end.other, "no answer")

    def _close(self, end: End, why: str) -> None:
        end.is_open = False
        self._world.at(self._world.now + DEAD_AFTER_S * self._rng.random(), self._closed, end.other, why)

    def _closed(self, end: End, why: str) -> None:
        if end.is_open and end.node.life == end.life and end.node.up:
            self._lose(end, why)
            self._closed(end.other, why)

    def _lose(self, end: End, why: str) -> None:
        end.is_open = False
        known = self.stranger(end.node.id)
        if known.ends.get(end.number) is end:
            del known.ends[end.number]
            known.resting[end.number] = None
            self._tell(end.node, Parted(end.number, why))

    # --- what arrives ---

    def _arrive(self, end: End, item: Received) -> None:
        network = self._world.network
        if not end.is_open or not end.node.up or end.node.life != end.life:
            return
        if network.cuts[end.other.node.id] >> end.node.id & 1:
            network.cut += 1
            self._silent(end)
            return
        network.delivered += 1
        if self._world.tracing:
            self._world.trace(end.node.id, "receive", end.other.node.id, item.message)
        end.node.put(item)

    def _bad(self, end: End, why: str) -> None:
        if end.is_open and end.node.up:
            self._tell(end.node, Misbehaved(end.number, why))

    def _later(self, node: SimNode, life: int, delay_s: float, item: Any) -> None:
        def due(*_: Any) -> None:
            if node.up and node.life == life:
                self._tell(node, item)

        self._world.at(self._world.now + delay_s, due, None, None)

    def _tell(self, node: SimNode, item: Any) -> None:
        if self._world.tracing:
            self._world.trace(node.id, type(item).__name__.lower(), "" if type(item) is Unmet else item.node, item)
        node.put(item)

    def _delay_s(self, sender: int, to: int) -> float:
        network = self._world.network
        delay_s = network.delay_s(sender, to)
        return delay_s * RETRANSMITTED if network.loss and self._rng.random() < network.loss else delay_s
