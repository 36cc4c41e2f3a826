"""Links between strangers: one connection carries both directions, once both sides have proved their keys.

Here is what each side does on its connection. Who gets a link is for the House to say (``strangers.py``).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol as Interface

from quorate.runtime.address import format_address
from quorate.runtime.bans import host_of
from quorate.runtime.greeting import GreetedConnection
from quorate.runtime.handshake import Refused, encode
from quorate.runtime.open_handshake import CalledSide, DiallerSide, Myself
from quorate.runtime.peer_links import PeerCounters
from quorate.runtime.proving import Mismatch
from quorate.runtime.sealing import Ephemeral
from quorate.runtime.stranger_limits import StrangerCounters, StrangerLimits, UnfinishedFrames

log = logging.getLogger("quorate.strangers")


class House(Interface):
    """Whose connections these are. It says who gets a link, and hears what becomes of each connection."""

    me: Myself
    limits: StrangerLimits
    told_port: int
    """Where others should call."""
    totals: StrangerCounters
    unfinished: UnfinishedFrames

    def on_open(self, connection: StrangerConnection) -> None:
        """A connection is there."""

    def on_caller(self, caller: CalledStranger) -> None:
        """Somebody called. Make room for them, or hang up at once."""

    def why_not_host(self, host: str) -> str | None:
        """Why a host is not talked to; None if it is."""

    def check_room(self, caller: CalledStranger) -> None:
        """Raises Mismatch for a caller that is banned, and if there is no room for it."""

    def check_challenger(self, dialled: DialledStranger) -> None:
        """Raises Mismatch if whoever answered a dial is banned, or has a link already."""

    def check_link(self, newer: StrangerConnection) -> None:
        """Raises Mismatch for a key that is banned or has a link that is to stay, and if no number is left."""

    def on_proven(self, connection: StrangerConnection) -> None:
        """A connection has become a link: give it its number."""

    def on_frames(self, link: int, frames: list[bytes]) -> None:
        """Payloads of one read of a link, in order."""

    def cut(self, link: int, why: str) -> None:
        """Hang up on a link that sent what it must not."""

    def on_lost(self, connection: StrangerConnection, why: str) -> None:
        """A connection is gone."""


class StrangerConnection(GreetedConnection):
    """What both sides share. ``key`` is proven once ``is_welcome``; ``link`` is its number then."""

    is_outbound: bool

    def __init__(self, house: House) -> None:
        super().__init__(house.limits.frames, house.limits.handshake_timeout_s)
        self.house = house
        self.key = b""
        self.host = ""
        """Where the other side is, as bans and limits count hosts."""
        self.address = ""
        """Where the other side takes calls, as far as it is known."""
        self.link = 0
        self.counters = PeerCounters()
        self._has_completed = False

    def on_open(self) -> None:
        self.house.on_open(self)
        self.host = host_of(self.remote_host)
        self.keep_alive(self.house.limits.dead_after_s)

    def on_welcome(self) -> None:
        self.house.on_proven(self)

    def on_frames(self, frames: list[bytes]) -> None:
        self._has_completed = True
        super().on_frames(frames)

    def on_message_frames(self, frames: list[bytes]) -> None:
        self.counters.received_frames += len(frames)
        self.counters.received_bytes += sum(map(len, frames))
        self.house.on_frames(self.link, frames)

    def on_violation(self, why: str) -> None:
        if self.is_welcome:
            self.house.cut(self.link, why)
        else:
            self.cut(why)

    def on_lost(self, why: str) -> None:
        super().on_lost(why)
        self.house.on_lost(self, why)

    def data_received(self, data: bytes) -> None:
        self._has_completed = False
        super().data_received(data)
        self.house.unfinished.hold(self, len(self._received) if self.is_open else 0, self._has_completed)


class CalledStranger(StrangerConnection):
    """The side that was called."""

    is_outbound = False

    _side: CalledSide

    def on_open(self) -> None:
        super().on_open()
        self.house.on_caller(self)

    def on_greeting(self, frame: bytes) -> None:
        try:
            if not self.key:
                self._on_knock(frame)
            else:
                self._on_proof(frame)
        except Mismatch as mismatch:
            self.refuse(mismatch.refusal)

    def _on_knock(self, frame: bytes) -> None:
        self._side = CalledSide(self.house.me, Ephemeral())
        knock = self._side.knocked(frame)
        self.key = knock.key
        if knock.port:
            self.address = format_address(self.remote_host, knock.port)
        # Before anything is signed or checked, and again when the key is proven: much may happen in between.
        self.house.check_room(self)
        self.send(self._side.challenge())

    def _on_proof(self, frame: bytes) -> None:
        self._side.proved(frame)
        self.house.check_room(self)
        self.house.check_link(self)
        channel = self._side.channel()
        self.send(self._side.admission())
        self._welcomed(channel)

    def refuse(self, refusal: Refused) -> None:
        """Say why, and hang up."""
        self.house.totals.refusals += 1
        log.debug("refused a caller from %s: %s", self.remote, refusal.why)
        self.send(encode(refusal))
        self.close(f"refused ({refusal.code}): {refusal.why}")

    def _may_follow_greeting(self) -> bool:
        return False


class DialledStranger(StrangerConnection):
    """The side that dialled. ``settled`` is "" when it has a link, or why it gets none."""

    is_outbound = True

    def __init__(self, house: House, address: str, place: tuple[str, int], expected: bytes | None) -> None:
        super().__init__(house)
        self.address = address
        self.place = place
        self.settled: asyncio.Future[str] = self.loop.create_future()
        self._side = DiallerSide(house.me, Ephemeral(), house.told_port, expected)

    def on_open(self) -> None:
        super().on_open()
        if (why := self.house.why_not_host(self.host)) is not None:
            self.cut(why)
        else:
            self.send(self._side.opening)

    def on_greeting(self, frame: bytes) -> None:
        try:
            if not self.key:
                proof = self._side.challenged(frame)
                self.key = self._side.key
                self.house.check_challenger(self)
                self.send(proof)
            else:
                channel = self._side.admitted(frame)
                self.house.check_link(self)
                self._welcomed(channel)
        except Mismatch as mismatch:
            self.cut(str(mismatch))

    def on_welcome(self) -> None:
        if not self.settled.done():
            self.settled.set_result("")
        super().on_welcome()

    def on_lost(self, why: str) -> None:
        if not self.settled.done():
            self.settled.set_result(why)
        super().on_lost(why)

    def _may_follow_greeting(self) -> bool:
        return self.is_welcome
