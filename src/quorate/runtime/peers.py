"""Peers: the links between the nodes of a cluster.

How it works. Links are simplex: each node dials every other one and only sends on that connection; on what it accepted
it only receives. So there is no tie to break when two nodes dial each other, and a node that cannot be dialled can
still speak. Nothing is kept for a peer that is away, and a bounded backlog for one that is slow: what is too much is
dropped and counted, since every protocol here tolerates loss. Of two accepted connections that say they are the same
node the newer counts, because a node that restarts calls again before we notice that its old connection is dead.

Nodes come and go while this one runs: ``meet`` adds one or gives it another address, ``part`` removes one, and what it
says from then on is refused with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import msgspec

from quorate.kernel import NODE_ID_MAX
from quorate.runtime.address import format_address, parse_address
from quorate.runtime.framing import FrameLimits, close_all
from quorate.runtime.greeting import Accepted, Dialled, Told
from quorate.runtime.handshake import LocalNode
from quorate.runtime.listening import Listening, listen
from quorate.runtime.names import NAMES, Names

MIB = 1 << 20
CALLERS_MAX = 64  # accepted connections beyond one a member: callers whose Hello is still to come
REMOVED_WHY_CHARACTERS_MAX = 256

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

    ``listen_at``: where this node listens; None: at its own address. ``on_frames(sender, frames)`` gets the payloads of
    one read from one peer, in the order in which it sent them. ``chance`` spreads redials, so that nodes do not redial
    in step.
    """

    def __init__(
        self,
        node: int,
        cluster: str,
        protocol: str,
        addresses: Mapping[int, tuple[str, int]],
        on_frames: OnFrames,
        *,
        listen_at: tuple[str, int] | None = None,
        limits: PeerLimits | None = None,
        chance: random.Random | None = None,
        names: Names = NAMES,
    ) -> None:
        self._members: set[int] = {node}
        self._removed: dict[int, str] = {}
        self.me = LocalNode(cluster, protocol, node, self._members, removed=self._removed)
        self.limits = limits or PeerLimits()
        self.listen_at = listen_at or addresses[node]
        self.on_frames = on_frames
        self.counters: dict[int, PeerCounters] = {}
        self.strays = PeerCounters()
        """What was sent to nodes that are not there."""
        self.keys: dict[int, bytes] = {}
        """Public keys of the nodes that were met with one. The handshake does not ask for a proof of them yet."""
        self.names = names
        self.tell = Told(log)
        self.is_stopping = False
        self.chance = chance or random.Random()
        self.links: dict[int, _Link] = {}
        """The ways to the others."""
        self.callers: set[_Incoming] = set()
        """Whoever has a connection to this node, with or without a Hello."""
        self.incoming: dict[int, _Incoming] = {}
        """Of those that said who they are, the newest connection of each."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: Listening | None = None
        for peer in sorted(addresses):
            self.meet(peer, addresses[peer])

    async def start(self, listening: socket.socket | None = None) -> None:
        """Listen (on the bound socket, if one is given), and begin to dial. Raises OSError."""
        self._listening = await listen(lambda: _Incoming(self), *self.listen_at, given=listening, names=self.names)
        for link in self.links.values():
            self._run(link)

    def meet(self, node: int, address: str | tuple[str, int], key: bytes = b"") -> None:
        """Know a node from now on, or know it under another address: dial it there, and take its calls.

        An address that is not one is told in the log, and frames for that node are dropped until it is met with
        another. Raises ValueError for a number that no node can have.
        """
        if not 0 <= node <= NODE_ID_MAX:
            raise ValueError(f"node {node}: numbers go from 0 to {NODE_ID_MAX}")
        self._removed.pop(node, None)
        self._members.add(node)
        if key:
            self.keys[node] = key
        else:
            self.keys.pop(node, None)
        if node == self.me.node:
            return
        old = self.links.get(node)
        if old is not None:
            if old.address == address:
                return
            old.end("is met at another address")
        link = self.links[node] = _Link(self, node, address, self.counters.setdefault(node, PeerCounters()))
        if self._listening is not None and not self.is_stopping:
            self._run(link)

    def part(self, node: int, why: str) -> None:
        """Forget a node: hang up both ways, and refuse its calls from now on, with this reason, until it is met again.

        Does nothing for a node that is not there, but that it is refused with this reason.
        """
        assert node != self.me.node, "a node does not part from itself"
        self._removed[node] = why[:REMOVED_WHY_CHARACTERS_MAX]
        self._members.discard(node)
        self.counters.pop(node, None)
        self.keys.pop(node, None)
        link, incoming = self.links.pop(node, None), self.incoming.pop(node, None)
        if link is not None:
            link.end(f"was removed: {why}")
        if incoming is not None:
            incoming.cut(f"node {node} was removed: {why}")

    def _run(self, link: _Link) -> None:
        task = link.start()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Hang up, after a short time for what was sent to leave. Returns when every connection is gone."""
        self.is_stopping = True
        if self._listening is not None:
            self._listening.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        outgoing = [link.connection for link in self.links.values() if link.connection is not None]
        await close_all([*outgoing, *self.callers], "this node stops", self.limits.close_grace_s)
        if self._listening is not None:
            await self._listening.wait_closed()

    def send(self, node: int, payload: bytes) -> bool:
        """Send to one peer; False if it was dropped, because there is no such peer, or it is away or too slow.

        Raises FrameTooLarge: no retry helps, a core must not make messages above the limit.
        """
        link = self.links.get(node)
        counters = self.strays if link is None else link.counters
        connection = None if link is None else link.connection
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
        incoming = self.incoming.get(sender)
        if incoming is not None:
            incoming.link.counters.cuts += 1
            self.tell(f"cut node {sender} off: {why}")
            incoming.cut(why)

    def connected(self) -> tuple[int, ...]:
        """The peers to which sending works now, as far as is known."""
        return tuple(peer for peer in sorted(self.links) if self.links[peer].is_up)

    def backlog_bytes(self, node: int) -> int:
        """What was sent to a peer and has not left this process."""
        link = self.links.get(node)
        return 0 if link is None or link.connection is None else link.connection.backlog_bytes


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
    """The way to one peer: dials for as long as the peer is known under this address."""

    def __init__(self, peers: Peers, peer: int, address: str | tuple[str, int], counters: PeerCounters) -> None:
        self.peers = peers
        self.peer = peer
        self.address = address
        self.counters = counters
        self.connection: _Outgoing | None = None
        self.is_over = False
        self._called = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        return self.connection is not None and self.connection.is_welcome and self.connection.is_open

    def start(self) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self._task

    def end(self, why: str) -> None:
        """Dial no more, and hang up."""
        self.is_over = True
        if self._task is not None:
            self._task.cancel()
        if self.connection is not None:
            self.connection.cut(f"node {self.peer} {why}")

    def called(self) -> None:
        """The peer has called us, so it is there: no reason to wait before we call it."""
        self._called.set()

    async def _run(self) -> None:
        limits = self.peers.limits
        try:
            host, port = parse_address(self.address) if isinstance(self.address, str) else self.address
        except ValueError as error:
            self.peers.tell(f"no link to node {self.peer}: {error}")
            return
        backoff = Backoff(limits.redial_s_min, limits.redial_s_max, self.peers.chance)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            why = await self._dial_and_wait(host, port)
            self.peers.tell(f"no link to node {self.peer}: {why}")
            self._called.clear()
            with suppress(TimeoutError):  # not wait_for, which swallows a cancellation that comes with the event
                async with asyncio.timeout(backoff.after(loop.time() - began)):
                    await self._called.wait()

    async def _dial_and_wait(self, host: str, port: int) -> str:
        """One connection from the call to its end; says why it ended."""
        names, timeout_s = self.peers.names, self.peers.limits.handshake_timeout_s
        self.counters.dials += 1
        try:
            connection, address = await names.connect(lambda: _Outgoing(self), host, port, timeout_s)
        except TimeoutError:
            return f"{format_address(host, port)} did not answer within {timeout_s:g} s"
        except (OSError, ValueError, OverflowError) as error:  # a name or port that is none, too
            return f"{format_address(host, port)}: {error}"
        self.connection = connection
        why = await asyncio.shield(connection.lost)
        names.learn(host, port, address, connection.is_welcome)
        return why


class _Outgoing(Dialled):
    """The connection on which this node sends to one peer."""

    def __init__(self, link: _Link) -> None:
        peers = link.peers
        super().__init__(peers.me.hello(link.peer), peers.limits.frames, peers.limits.handshake_timeout_s)
        self._link = link

    def on_open(self) -> None:
        if self._link.is_over:  # at the moment when it came about
            self.cut("is not wanted any more")
            return
        self.keep_alive(self._link.peers.limits.dead_after_s)
        super().on_open()

    def on_welcome(self) -> None:
        self._link.counters.connects += 1
        log.info("link to node %d at %s", self._link.peer, self.remote)

    def on_message_frames(self, frames: list[bytes]) -> None:
        self.cut("sends on a connection that is ours to send on")


class _Incoming(Accepted):
    """A connection on which a peer sends to this node. ``link`` is the way back, once the peer has said who it is."""

    link: _Link

    def __init__(self, peers: Peers) -> None:
        super().__init__(peers.me, "peer", peers.limits.frames, peers.limits.handshake_timeout_s, peers.tell)
        self._peers = peers
        self._sender = -1

    def on_open(self) -> None:
        callers = self._peers.callers
        callers.add(self)
        self.keep_alive(self._peers.limits.dead_after_s)
        if self._peers.is_stopping:
            self.cut("this node stops")
        elif len(callers) > CALLERS_MAX + len(self._peers.me.members):
            self.cut("too many callers")

    def on_welcome(self) -> None:
        assert self.hello is not None
        assert self.hello.node is not None
        self._sender = self.hello.node
        self.link = self._peers.links[self._sender]
        self.link.counters.accepts += 1
        self.link.called()
        older = self._peers.incoming.get(self._sender)
        self._peers.incoming[self._sender] = self
        if older is not None:
            older.cut("the same node called again")

    def on_message_frames(self, frames: list[bytes]) -> None:
        counters = self.link.counters
        counters.received_frames += len(frames)
        counters.received_bytes += sum(map(len, frames))
        self._peers.on_frames(self._sender, frames)

    def on_lost(self, why: str) -> None:
        super().on_lost(why)
        self._peers.callers.discard(self)
        if self._peers.incoming.get(self._sender) is self:
            del self._peers.incoming[self._sender]
            log.info("node %d's connection from %s ended: %s", self._sender, self.remote, why)
        elif self.hello is None:
            log.debug("a caller from %s left: %s", self.remote, why)
