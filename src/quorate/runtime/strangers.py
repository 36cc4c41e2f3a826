"""Strangers: the links of a node in an open network, where anybody may connect.

How it works. Outside, a node is an Ed25519 public key, and an address that may change. Inside, a *link* is a small
number, valid for this process only: it is never on the wire and never in a record. Number 0 is this node itself. The
number of a link that has ended rests until ``release``, so that what is still on its way through the node cannot meet
somebody else under the same number.

Links carry both directions. Two nodes that have each other's address may dial at the same time; of two links with one
key, the one dialled by the lower key stays. Of two in the same direction the older stays, so that two processes with
one key do not push each other out for ever. A node dials once: whether to try again is for the core to decide.

Nobody is trusted. Until a caller has proved its key it may send two small frames, for a few seconds, and there are
never many such callers: a new one takes the place of the oldest from the host that has most of them. So sockets that
say nothing keep out neither links nor newcomers. What a link can make this node hold is limited in bytes, both ways.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import socket
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from quorate.kernel import NODE_ID_MAX
from quorate.parts.crypto.keys import Signer
from quorate.runtime.address import format_address, parse_address
from quorate.runtime.bans import Bans, host_of
from quorate.runtime.framing import close_all
from quorate.runtime.keys import PUBLIC_BYTES
from quorate.runtime.listening import Listening, listen
from quorate.runtime.names import NAMES, Names
from quorate.runtime.open_handshake import Myself
from quorate.runtime.peer_links import PeerCounters
from quorate.runtime.proving import Mismatch
from quorate.runtime.stranger_limits import TOO_SLOW, StrangerCounters, StrangerLimits, UnfinishedFrames
from quorate.runtime.stranger_links import CalledStranger, DialledStranger, StrangerConnection
from quorate.runtime.waiting import WaitingRoom

LINK_MAX = NODE_ID_MAX
"""Numbers of links, those that rest among them."""
SELF = 0
LINKED = "there is a link with this key already"
REPLACED = "both have dialled, and the other link stays"

log = logging.getLogger("quorate.strangers")


class _Gone(NamedTuple):
    """What is kept of a link while its number rests: it may still be banned."""

    key: bytes
    host: str
    address: str
    is_outbound: bool


class Strangers:
    """All links of one node of an open network.

    ``network`` names the network and its beginning. ``listen_at``: where to listen; None: nowhere. ``told_port``: where
    others should call, if that is not the port that this node listens on. ``ban_hosts``: a ban is for the host, too;
    others behind the same address are banned with it.

    The callbacks come from the loop, never from within a call of a verb:

    - ``on_met(link, key, address, outbound)``. The address of an outbound link is the one dialled; of an inbound one it
      is where the caller says that it takes calls, which nobody has checked, or "".
    - ``on_frames(link, frames)``: the payloads of one read, in order.
    - ``on_misbehaved(link, why)``: it broke the rules, and ``on_parted`` follows.
    - ``on_parted(link, why)``: once for each link that was met. ``release`` its number when nothing refers to it.
    - ``on_unmet(address, why)``: each ``meet`` ends with this or with ``on_met``.
    """

    def __init__(
        self,
        signer: Signer,
        network: str,
        *,
        on_met: Callable[[int, bytes, str, bool], None],
        on_parted: Callable[[int, str], None],
        on_unmet: Callable[[str, str], None],
        on_frames: Callable[[int, list[bytes]], None],
        on_misbehaved: Callable[[int, str], None],
        listen_at: tuple[str, int] | None = None,
        told_port: int | None = None,
        ban_hosts: bool = False,
        limits: StrangerLimits | None = None,
        names: Names = NAMES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.me = Myself(network, signer)
        self.limits = limits or StrangerLimits()
        self.listen_at = listen_at
        self.told_port = told_port or 0
        self.ban_hosts = ban_hosts
        self.names = names
        self._on_frames = on_frames
        self.totals = StrangerCounters()
        self.counters: dict[int, PeerCounters] = {}
        """By link, until its number is released."""
        self.strays = PeerCounters()
        """What was sent to links that are not there."""
        self.bans = Bans()
        self.is_stopping = False
        self._on_met = on_met
        self._on_parted = on_parted
        self._on_unmet = on_unmet
        self._on_misbehaved = on_misbehaved
        self._now = now
        self._is_port_told = told_port is not None
        self._links: dict[int, StrangerConnection] = {}
        self._by_key: dict[bytes, StrangerConnection] = {}
        self._resting: dict[int, _Gone] = {}
        self._free: list[int] = []
        self._next = SELF + 1
        self._waiting = WaitingRoom(self.limits, self.totals)
        self.unfinished = UnfinishedFrames(self.limits.unfinished_bytes_max)
        self._connections: dict[StrangerConnection, None] = {}
        self._is_held = False
        self._dialling: set[tuple[str, int]] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._listening: Listening | None = None

    # --- life ---

    async def start(self, listening: socket.socket | None = None) -> None:
        """Listen, on the bound socket if one is given. Raises OSError."""
        if listening is None and self.listen_at is None:
            return
        host, port = self.listen_at or ("", 0)
        self._listening = await listen(lambda: CalledStranger(self), host, port, given=listening, names=self.names)
        if not self._is_port_told:
            self.told_port = self._listening.port

    async def stop(self) -> None:
        """Hang up, after a short time for what was sent to leave. No callback comes from now on."""
        self.is_stopping = True
        if self._listening is not None:
            self._listening.close()
        for dial in self._dials:
            dial.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        await close_all(list(self._connections), "this node stops", self.limits.close_grace_s)
        if self._listening is not None:
            await self._listening.wait_closed()

    # --- verbs ---

    def meet(self, address: str, key: bytes | None = None) -> None:
        """Dial an address, once. ``key``: the only one that will do."""
        if self.is_stopping:
            return
        try:
            place = parse_address(address)
        except ValueError as error:
            why: str | None = str(error)
        else:
            why = self._why_not_dial(place, key)
        loop = asyncio.get_running_loop()
        if why is not None:
            loop.call_soon(self._unmet, address, why)
            return
        self.totals.dials += 1
        self._dialling.add(place)
        dial = loop.create_task(self._dial(address, place, key))
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)

    def part(self, link: int, why: str, ban_s: float = 0.0) -> None:
        """End a link, and refuse its key for so long; also one that has just ended by itself.

        What was sent before it still leaves, unless the other side is banned.
        """
        connection = self._links.get(link)
        known = connection or self._resting.get(link)
        if known is not None and ban_s > 0:
            self._ban(known, self._now() + ban_s, why)
        if connection is None:
            return
        if ban_s > 0:
            connection.cut(why)
        else:
            connection.close(why)
            connection.loop.call_later(self.limits.close_grace_s, connection.cut, why)

    def cut(self, link: int, why: str) -> None:
        """Hang up on a link that sent what it must not, and report it."""
        connection = self._links.get(link)
        if connection is None or not connection.is_open:
            return
        self.totals.misbehaved += 1
        connection.loop.call_soon(self._misbehaved, link, why)  # before the loop says that it is lost
        connection.cut(why)

    def hold(self, is_held: bool) -> None:
        """Read nothing of what comes on links, or read on."""
        self._is_held = is_held
        for connection in self._links.values():
            if is_held:
                connection.pause()
            else:
                connection.resume()

    def release(self, link: int) -> None:
        """Nothing refers to a link that has ended any more: its number may be given to another."""
        assert link in self._resting, "only a link that was parted from can be released"
        del self._resting[link]
        self.counters.pop(link, None)
        heapq.heappush(self._free, link)

    def send(self, link: int, payload: bytes) -> bool:
        """Send to one link; False if it is not there. A link that takes too little is parted from.

        Raises FrameTooLarge: no retry helps, a core must not make messages above the limit.
        """
        connection = self._links.get(link)
        counters = self.strays if connection is None else connection.counters
        if connection is not None and connection.send(payload):
            counters.sent_frames += 1
            counters.sent_bytes += len(payload)
            return True
        counters.dropped_frames += 1
        counters.dropped_bytes += len(payload)
        if connection is not None and connection.is_open:
            connection.cut(TOO_SLOW)
        return False

    def send_many(self, links: Iterable[int], payload: bytes) -> None:
        """Send the same to several links. The payload is shared, never copied."""
        for link in links:
            self.send(link, payload)

    def connected(self) -> tuple[int, ...]:
        """The links to which sending works now, as far as is known."""
        return tuple(link for link in sorted(self._links) if self._links[link].is_open)

    def backlog_bytes(self, link: int) -> int:
        """What was sent to a link and has not left this process."""
        connection = self._links.get(link)
        return 0 if connection is None else connection.backlog_bytes

    def key(self, link: int) -> bytes | None:
        """Whom a link leads to, until its number is released; None for a number that is not in use."""
        known = self._links.get(link) or self._resting.get(link)
        return None if known is None else known.key

    # --- dialling ---

    def _why_not_dial(self, place: tuple[str, int], key: bytes | None) -> str | None:
        now = self._now()
        if key is not None and len(key) != PUBLIC_BYTES:
            return f"a public key has {PUBLIC_BYTES} bytes, not {len(key)}"
        if key == self.me.key:
            return "it is this node itself"
        if key is not None and self._is_linked(key):
            return LINKED
        for whom in (place, *(() if key is None else (key,))):
            if (why := self.bans.why_not(whom, now)) is not None:
                return why
        if (why := self.why_not_host(host_of(place[0]))) is not None:
            return why
        if place in self._dialling:
            return "it is being dialled already"
        outbound = sum(link.is_outbound for link in self._links.values()) + len(self._dialling)
        if outbound >= self.limits.outbound_max:
            return f"this node has {outbound} outbound links already"
        return None

    async def _dial(self, address: str, place: tuple[str, int], key: bytes | None) -> None:
        timeout_s = self.limits.handshake_timeout_s
        try:
            connection, reached = await self.names.connect(
                lambda: DialledStranger(self, address, place, key), *place, timeout_s
            )
            why = await asyncio.shield(connection.settled)
            self.names.learn(*place, reached, not why)
        except TimeoutError:
            why = f"{format_address(*place)} did not answer within {timeout_s:g} s"
        except (OSError, ValueError, OverflowError) as error:
            why = str(error)
        if why:
            self._dialling.discard(place)
            self._unmet(address, why)

    def _unmet(self, address: str, why: str) -> None:
        if not self.is_stopping:
            self.totals.unmet += 1
            self._on_unmet(address, why)

    # --- who gets a link; what connections ask ---

    def on_open(self, connection: StrangerConnection) -> None:
        """A connection is there."""
        self._connections[connection] = None

    def on_caller(self, caller: CalledStranger) -> None:
        """Somebody called. Make room for them, or hang up at once."""
        self.totals.calls += 1
        if self.is_stopping:
            caller.cut("this node stops")
        elif (why := self.why_not_host(caller.host)) is not None:
            self.totals.refusals += 1
            caller.cut(why)
        else:
            self._waiting.enter(caller)

    def why_not_host(self, host: str) -> str | None:
        """Why a host is not talked to, if hosts are banned and it is."""
        return self.bans.why_not(host, self._now()) if self.ban_hosts else None

    def check_room(self, caller: CalledStranger) -> None:
        """Raises Mismatch for a caller that is banned, and if there is no room for it."""
        self._check_bans(caller)
        inbound = sum(not link.is_outbound for link in self._links.values())
        if inbound >= self.limits.inbound_max:
            raise Mismatch("full", f"this node has {inbound} callers already: try another node, or later")

    def check_challenger(self, dialled: DialledStranger) -> None:
        """Raises Mismatch if whoever answered a dial is banned, or has a link already."""
        self._check_bans(dialled)
        if self._is_linked(dialled.key):
            raise Mismatch("linked", LINKED)

    def check_link(self, newer: StrangerConnection) -> None:
        """Raises Mismatch for a key that is banned or has a link already that is to stay, and if no number is left."""
        self._check_bans(newer)
        if not self._has_number():
            raise Mismatch("full", "this node has no room for another link now: try another node, or later")
        older = self._by_key.get(newer.key)
        if older is None or not older.is_open:
            return
        # Both sides see the same two connections, in whichever order, and must come to the same choice.
        is_dialled_by_lower = newer.is_outbound == (self.me.key < newer.key)
        if older.is_outbound == newer.is_outbound or not is_dialled_by_lower:
            raise Mismatch("linked", LINKED)

    def _check_bans(self, connection: StrangerConnection) -> None:
        why = self.bans.why_not(connection.key, self._now()) or self.why_not_host(connection.host)
        if why is not None:
            raise Mismatch("banned", f"you are {why}")

    def _is_linked(self, key: bytes) -> bool:
        return (older := self._by_key.get(key)) is not None and older.is_open

    def _has_number(self) -> bool:
        return bool(self._free) or self._next <= LINK_MAX

    # --- the life of a link ---

    def on_proven(self, connection: StrangerConnection) -> None:
        """A connection has become a link."""
        self._waiting.leave(connection)
        if isinstance(connection, DialledStranger):
            self._dialling.discard(connection.place)
        older = self._by_key.get(connection.key)
        if older is not None:
            self._ended(older, older.why or REPLACED)
            older.cut(REPLACED)
        link = connection.link = heapq.heappop(self._free) if self._free else self._next
        self._next = max(self._next, link + 1)
        self._links[link] = self._by_key[connection.key] = connection
        if self._is_held:
            connection.pause()
        self.counters[link] = connection.counters
        self.totals.met += 1
        log.debug("link %d to %s at %s", link, connection.key.hex(), connection.remote)
        if not self.is_stopping:
            self._on_met(link, connection.key, connection.address, connection.is_outbound)

    def on_frames(self, link: int, frames: list[bytes]) -> None:
        """Payloads of one read of a link, in order."""
        self._on_frames(link, frames)

    def on_lost(self, connection: StrangerConnection, why: str) -> None:
        """A connection is gone."""
        self.unfinished.hold(connection, 0, False)
        self._connections.pop(connection, None)
        self._waiting.leave(connection)
        self._ended(connection, why)

    def _ended(self, connection: StrangerConnection, why: str) -> None:
        link = connection.link
        if self._links.get(link) is not connection:
            return
        del self._links[link]
        if self._by_key.get(connection.key) is connection:
            del self._by_key[connection.key]
        self._resting[link] = _Gone(connection.key, connection.host, connection.address, connection.is_outbound)
        self.totals.parted += 1
        log.debug("link %d ended: %s", link, why)
        if not self.is_stopping:
            self._on_parted(link, why)

    def _misbehaved(self, link: int, why: str) -> None:
        if not self.is_stopping:
            self._on_misbehaved(link, why)

    def _ban(self, whom: StrangerConnection | _Gone, until: float, why: str) -> None:
        self.bans.add(whom.key, until, why)
        if self.ban_hosts:
            self.bans.add(whom.host, until, why)
        if whom.is_outbound:
            self.bans.add(parse_address(whom.address), until, why)
