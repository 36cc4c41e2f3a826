"""Peers: the links between the nodes of a cluster.

How it works. Links are simplex: each node dials every other one and only sends on that connection; on what it accepted
it only receives. So there is no tie to break when two nodes dial each other, and a node that cannot be dialled can
still speak. Nothing is kept for a peer that is away, and a bounded backlog for one that is slow: what is too much is
dropped and counted, since every protocol here tolerates loss. Of two accepted connections that say they are the same
node the newer counts, because a node that restarts calls again before we notice that its old connection is dead.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import msgspec

from quorate.runtime.framing import FrameLimits, close_all
from quorate.runtime.greeting import Accepted, Dialled, Told
from quorate.runtime.handshake import LocalNode

MIB = 1 << 20
CALLERS_MAX = 64  # accepted connections beyond one a member: callers whose Hello is still to come

OnFrames = Callable[[int, list[bytes]], None]
log = logging.getLogger("quorate.peers")


class PeerLimits(msgspec.Struct, frozen=True):
    """Bounds and times of the links; all nodes of a cluster need the same ``frame_size_bytes_max``."""

    frame_size_bytes_max: int = 16 * MIB
    backlog_bytes_max: int = 64 * MIB
    backlog_frames_max: int = 65536
    handshake_timeout_s: float = 5.0
    dead_after_s: float = 8.0
    redial_s_min: float = 0.05
    redial_s_max: float = 2.0
    close_grace_s: float = 1.0

    @property
    def frames(self) -> FrameLimits:
        """The part that each connection keeps."""
        return FrameLimits(self.frame_size_bytes_max, self.backlog_bytes_max, self.backlog_frames_max)


class PeerCounters(msgspec.Struct):
    """What went to and came from one peer since the start."""

    sent_frames: int = 0
    sent_bytes: int = 0
    dropped_frames: int = 0
    dropped_bytes: int = 0
    received_frames: int = 0
    received_bytes: int = 0
    dials: int = 0
    connects: int = 0
    accepts: int = 0
    cuts: int = 0


class Peers:
    """All links of one node. ``addresses`` has a (host, port) for each node, this one among them.

    ``on_frames(sender, frames)`` gets the payloads of one read from one peer, in the order in which it sent them.
    ``chance`` spreads redials, so that nodes do not redial in step.
    """

    def __init__(
        self,
        node: int,
        cluster: str,
        protocol: str,
        addresses: Mapping[int, tuple[str, int]],
        on_frames: OnFrames,
        *,
        limits: PeerLimits | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.me = LocalNode(cluster, protocol, node, frozenset(addresses))
        self.limits = limits or PeerLimits()
        self.addresses = dict(addresses)
        self.on_frames = on_frames
        self.counters = {peer: PeerCounters() for peer in sorted(addresses) if peer != node}
        self.tell = Told(log)
        self._links = {peer: _Link(self, peer, chance or random.Random()) for peer in self.counters}
        self.is_stopping = False
        self._callers: set[_Incoming] = set()
        self._incoming: dict[int, _Incoming] = {}
        self._server: asyncio.Server | None = None
        self._dialling: list[asyncio.Task[None]] = []

    async def start(self, listening: socket.socket | None = None) -> None:
        """Listen on the own address (or on the bound socket given), and begin to dial. Raises OSError."""
        loop = asyncio.get_running_loop()
        if listening is not None:
            self._server = await loop.create_server(lambda: _Incoming(self), sock=listening)
        else:
            host, port = self.addresses[self.me.node]
            self._server = await loop.create_server(lambda: _Incoming(self), host, port)
        self._dialling = [loop.create_task(link.run()) for link in self._links.values()]

    async def stop(self) -> None:
        """Hang up, after a short time for what was sent to leave. Returns when every connection is gone."""
        self.is_stopping = True
        if self._server is not None:
            self._server.close()
        for task in self._dialling:
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        outgoing = [link.connection for link in self._links.values() if link.connection is not None]
        await close_all([*outgoing, *self._callers], "this node stops", self.limits.close_grace_s)
        if self._server is not None:
            await self._server.wait_closed()

    def send(self, node: int, payload: bytes) -> bool:
        """Send to one peer; False where it was dropped, because the peer is away or too slow.

        Raises FrameTooLarge: no retry helps, a core must not make messages above the limit.
        """
        counters = self.counters[node]
        connection = self._links[node].connection
        if connection is not None and connection.is_welcome and connection.send(payload):
            counters.sent_frames += 1
            counters.sent_bytes += len(payload)
            return True
        counters.dropped_frames += 1
        counters.dropped_bytes += len(payload)
        return False

    def send_many(self, nodes: Iterable[int], payload: bytes) -> None:
        """Send the same to several peers. The payload is shared, never copied."""
        for node in nodes:
            self.send(node, payload)

    def cut(self, sender: int, why: str) -> None:
        """Hang up on a peer that sent what it must not. It will redial, with back-off."""
        incoming = self._incoming.get(sender)
        if incoming is not None:
            self.counters[sender].cuts += 1
            self.tell(f"cut node {sender} off: {why}")
            incoming.cut(why)

    def connected(self) -> tuple[int, ...]:
        """The peers to which sending works now, as far as is known."""
        return tuple(peer for peer, link in self._links.items() if link.is_up)

    def backlog_bytes(self, node: int) -> int:
        """What was sent to a peer and has not left this process."""
        connection = self._links[node].connection
        return 0 if connection is None else connection.backlog_bytes


class Backoff:
    """How long to wait before the next call: doubles up to a limit, with jitter."""

    def __init__(self, wait_s_min: float, wait_s_max: float, chance: random.Random) -> None:
        self._wait_s_min = wait_s_min
        self._wait_s_max = wait_s_max
        self._next_s = wait_s_min
        self._chance = chance

    def after(self, lasted_s: float) -> float:
        """Seconds to wait after a connection that lasted so long."""
        # Not any success starts over: a peer that takes our call and hangs up at once is no reason to hurry.
        if lasted_s > self._wait_s_max:
            self._next_s = self._wait_s_min
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, self._wait_s_max)
        return wait_s * self._chance.uniform(0.5, 1.0)


class _Link:
    """The way to one peer: dials for as long as the node runs."""

    def __init__(self, peers: Peers, peer: int, chance: random.Random) -> None:
        self.connection: _Outgoing | None = None
        self._peers = peers
        self._peer = peer
        self._called = asyncio.Event()
        self._chance = chance

    @property
    def is_up(self) -> bool:
        return self.connection is not None and self.connection.is_welcome and self.connection.is_open

    async def run(self) -> None:
        limits = self._peers.limits
        backoff = Backoff(limits.redial_s_min, limits.redial_s_max, self._chance)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            why = await self._dial_and_wait()
            self._peers.tell(f"no link to node {self._peer}: {why}")
            self._called.clear()
            with suppress(TimeoutError):  # not wait_for, which swallows a cancellation that comes with the event
                async with asyncio.timeout(backoff.after(loop.time() - began)):
                    await self._called.wait()

    def called(self) -> None:
        """The peer has called us, so it is there: no reason to wait before we call it."""
        self._called.set()

    async def _dial_and_wait(self) -> str:
        """One connection from the call to its end; says why it ended."""
        peers, peer = self._peers, self._peer
        host, port = peers.addresses[peer]
        peers.counters[peer].dials += 1
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(peers.limits.handshake_timeout_s):
                _, connection = await loop.create_connection(lambda: _Outgoing(peers, peer), host, port)
        except TimeoutError:
            return f"{host}:{port} did not answer within {peers.limits.handshake_timeout_s:g} s"
        except (OSError, ValueError, OverflowError) as error:  # a name or port that is none, too
            return f"{host}:{port}: {error}"
        self.connection = connection
        return await asyncio.shield(connection.lost)


class _Outgoing(Dialled):
    """The connection on which this node sends to one peer."""

    def __init__(self, peers: Peers, peer: int) -> None:
        super().__init__(peers.me.hello(peer), peers.limits.frames, peers.limits.handshake_timeout_s)
        self._peers = peers
        self._peer = peer

    def on_open(self) -> None:
        self.keep_alive(self._peers.limits.dead_after_s)
        super().on_open()

    def on_welcome(self) -> None:
        self._peers.counters[self._peer].connects += 1
        log.info("link to node %d at %s", self._peer, self.remote)

    def on_message_frames(self, frames: list[bytes]) -> None:
        self.cut("sends on a connection that is ours to send on")


class _Incoming(Accepted):
    """A connection on which a peer sends to this node."""

    def __init__(self, peers: Peers) -> None:
        super().__init__(peers.me, "peer", peers.limits.frames, peers.limits.handshake_timeout_s, peers.tell)
        self._peers = peers
        self._sender = -1

    def on_open(self) -> None:
        callers = self._peers._callers
        callers.add(self)
        self.keep_alive(self._peers.limits.dead_after_s)
        if self._peers.is_stopping:
            self.cut("this node stops")
        elif len(callers) > CALLERS_MAX + len(self._peers.addresses):
            self.cut("too many callers")

    def on_welcome(self) -> None:
        assert self.hello is not None
        assert self.hello.node is not None
        self._sender = self.hello.node
        self._peers.counters[self._sender].accepts += 1
        self._peers._links[self._sender].called()
        older = self._peers._incoming.get(self._sender)
        self._peers._incoming[self._sender] = self
        if older is not None:
            older.cut("the same node called again")

    def on_message_frames(self, frames: list[bytes]) -> None:
        counters = self._peers.counters[self._sender]
        counters.received_frames += len(frames)
        counters.received_bytes += sum(map(len, frames))
        self._peers.on_frames(self._sender, frames)

    def on_lost(self, why: str) -> None:
        super().on_lost(why)
        self._peers._callers.discard(self)
        if self._peers._incoming.get(self._sender) is self:
            del self._peers._incoming[self._sender]
            log.info("node %d's connection from %s ended: %s", self._sender, self.remote, why)
        elif self.hello is None:
            log.debug("a caller from %s left: %s", self.remote, why)
