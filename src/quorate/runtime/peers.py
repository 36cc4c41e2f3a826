"""Peers: the links between the nodes of a cluster.

How it works. Links are simplex: each node dials every other one and only sends on that connection; on what it accepted
it only receives. So there is no tie to break when two nodes dial each other, and a node that cannot be dialled can
still speak. Nothing is kept for a peer that is away, and a bounded backlog for one that is slow: what is too much is
dropped and counted, since every protocol here tolerates loss. Of two accepted connections that say they are the same
node the newer counts, because a node that restarts calls again before we notice that its old connection is dead. Where
nodes have keys, it counts when it has proved the one that the roster has for that node, and frames are sealed under
keys that both sides agreed on (``peer_handshake.py``); elsewhere, whoever reaches the port can say that it is a node.

Callers that have not come so far wait, a few, and for a short time. A new one takes the place of the oldest from the
host that has most, so sockets that say nothing keep no node out.

Nodes come and go while this one runs: ``meet`` adds one or gives it another address, ``part`` removes one, and what it
says from then on is refused with the reason. One that calls as another incarnation of itself (``incarnations.py``) has
lost its folder, and is refused too.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

import msgspec

from quorate.kernel import NODE_ID_MAX
from quorate.parts.crypto.keys import Keys
from quorate.runtime.address import format_address, parse_address
from quorate.runtime.framing import close_all
from quorate.runtime.greeting import Told
from quorate.runtime.handshake import LocalNode, Refused
from quorate.runtime.incarnations import LOST_CODE, Incarnations
from quorate.runtime.listening import Listening, listen
from quorate.runtime.names import NAMES, Names
from quorate.runtime.peer_links import Incoming, Outgoing, PeerCounters, PeerLimits, Way
from quorate.runtime.waiting import WaitingRoom

REMOVED_WHY_CHARACTERS_MAX = 256

OnFrames = Callable[[int, list[bytes]], None]
log = logging.getLogger("quorate.peers")


class PeerTotals(msgspec.Struct):
    """What happened since the start, whoever it was."""

    calls: int = 0
    evictions: int = 0
    """Callers who had to make room for newer ones before they said who they were."""


class Peers:
    """All links of one node. ``addresses`` has a (host, port) for each node, this one among them.

    ``listen_at``: where this node listens; None: at its own address. ``on_frames(sender, frames)`` gets the payloads of
    one read from one peer, in the order in which it sent them. ``chance`` spreads redials, so that nodes do not redial
    in step. ``keys``: this node's, for this cluster, where nodes have some; None: links prove nothing.
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
        keys: Keys | None = None,
    ) -> None:
        """Raises ValueError for keys of another node or cluster."""
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
        """Public keys of the nodes that are there: those they were met with, else those of the keyring."""
        self._keyring = None if keys is None else keys.keyring
        self._outgoing: Callable[[Way], Outgoing] = Outgoing
        self._incoming: Callable[[Peers], Incoming] = Incoming
        if keys is not None:
            self._prove(keys)
        self.incarnations = Incarnations(node)
        self.on_forgotten: Callable[[str], object] = lambda why: None
        """Called with the reason if another node says that this one has lost what it was."""
        self.on_hung_up: Callable[[int], object] = lambda node: None
        """Called if the connection of a node to this one ends, unless another one has taken its place."""
        self.names = names
        self.tell = Told(log)
        self.is_stopping = False
        self._is_held = False
        self.chance = chance or random.Random()
        self.links: dict[int, _Link] = {}
        """The ways to the others."""
        self.callers: set[Incoming] = set()
        """Whoever has a connection to this node, whether it is known who it is or not."""
        self.incoming: dict[int, Incoming] = {}
        """Of those of which it is known, the newest connection of each."""
        self.totals = PeerTotals()
        self._waiting = WaitingRoom(self.limits, self.totals)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: Listening | None = None
        for peer in sorted(addresses):
            self.meet(peer, addresses[peer])

    def _prove(self, keys: Keys) -> None:
        from quorate.runtime.keyed_links import KeyedIncoming, KeyedOutgoing  # most clusters have no keys

        if (keys.node, keys.cluster) != (self.me.node, self.me.cluster):
            raise ValueError(
                f"the keys are those of node {keys.node} for cluster {keys.cluster!r}, and this is node {self.me.node} "
                f"of cluster {self.me.cluster!r}"
            )
        self._outgoing = partial(KeyedOutgoing, keys)
        self._incoming = partial(KeyedIncoming, keys)

    async def start(self, listening: socket.socket | None = None) -> None:
        """Listen (on the bound socket, if one is given), and begin to dial. Raises OSError."""
        self._listening = await listen(lambda: self._incoming(self), *self.listen_at, given=listening, names=self.names)
        for link in self.links.values():
            self._run(link)

    def meet(self, node: int, address: str | tuple[str, int], key: bytes = b"") -> None:
        """Know a node from now on, or know it under another address: dial it there, and take its calls.

        An address that is not one is told in the log, and frames for that node are dropped until it is met with
        another. Without a key, the one that the keyring has is the node's. Raises ValueError for a number that no node
        can have.
        """
        if not 0 <= node <= NODE_ID_MAX:
            raise ValueError(f"node {node}: numbers go from 0 to {NODE_ID_MAX}")
        self._removed.pop(node, None)
        self._members.add(node)
        known = self.keys.pop(node, None)
        if not key and self._keyring is not None and node in self._keyring.nodes:
            key = self._keyring.public(node)
        if key:
            self.keys[node] = key
        if node == self.me.node:
            return
        has_other_key = self._keyring is not None and known != self.keys.get(node)
        if has_other_key and known is not None:
            self.incarnations.forget(node)
        if has_other_key and (incoming := self.incoming.pop(node, None)) is not None:
            incoming.cut(f"node {node} has another key now")
        old = self.links.get(node)
        if old is not None:
            if old.address == address and not has_other_key:
                return
            old.end("has another key now" if has_other_key else "is met at another address")
        link = self.links[node] = _Link(self, node, address, self.counters.setdefault(node, PeerCounters()))
        if self._listening is not None and not self.is_stopping:
            self._run(link)

    def move(self, node: int, address: str) -> None:
        """Dial a node that is known at this address from now on. An address that is not one changes nothing."""
        try:
            found = parse_address(address)
        except ValueError as error:
            self.tell(f"node {node} is not looked for elsewhere: {error}")
            return
        if self.links[node].is_at(found):
            return
        log.info("node %d is looked for at %s", node, address)
        self.meet(node, found, self.keys.get(node, b""))

    def part(self, node: int, why: str) -> None:
        """Forget a node: hang up both ways, and refuse its calls from now on, with this reason, until it is met again.

        Does nothing for a node that is not there, but that it is refused with this reason.
        """
        assert node != self.me.node, "a node does not part from itself"
        self._removed[node] = why[:REMOVED_WHY_CHARACTERS_MAX]
        self._members.discard(node)
        self.incarnations.forget(node)
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
            self.counters[sender].cuts += 1
            self.tell(f"cut node {sender} off: {why}")
            incoming.cut(why)

    def hold(self, is_held: bool) -> None:
        """Read nothing of what nodes send, or read on. What they have sent waits in sockets, and then with them."""
        self._is_held = is_held
        for caller in self.incoming.values():
            if is_held:
                caller.pause()
            else:
                caller.resume()

    def dial(self, link: _Link) -> Outgoing:
        """A connection on the way to a peer."""
        return self._outgoing(link)

    # --- what accepted connections tell ---

    def on_open(self, caller: Incoming) -> None:
        """Somebody called."""
        self.totals.calls += 1
        self.callers.add(caller)
        if self.is_stopping:
            caller.cut("this node stops")
        else:
            self._waiting.enter(caller)

    def on_welcome(self, caller: Incoming) -> None:
        """A caller is a node: its older connection, if there is one, is dead or about to be."""
        self._waiting.leave(caller)
        link = self.links[caller.sender]
        link.counters.accepts += 1
        link.called()
        self.incarnations.learn(caller.sender, caller.incarnation)
        older = self.incoming.get(caller.sender)
        self.incoming[caller.sender] = caller
        if self._is_held:
            caller.pause()
        if older is not None:
            log.info("node %d called again, from %s", caller.sender, caller.remote)
            older.cut("the same node called again")

    def on_refused(self, node: int, refusal: Refused) -> None:
        """A node that we called wants nothing of us."""
        if refusal.code == LOST_CODE:
            self.on_forgotten(f"node {node} says: {refusal.why}")

    def on_peer_frames(self, caller: Incoming, frames: list[bytes]) -> None:
        """What a node sent."""
        counters = self.links[caller.sender].counters
        counters.received_frames += len(frames)
        counters.received_bytes += sum(map(len, frames))
        self.on_frames(caller.sender, frames)

    def on_violation(self, caller: Incoming, why: str) -> None:
        """A caller does not keep to frames."""
        if self.incoming.get(caller.sender) is caller:
            self.cut(caller.sender, why)
        else:
            caller.cut(why)

    def on_lost(self, caller: Incoming, why: str) -> None:
        """A connection is gone."""
        self._waiting.leave(caller)
        self.callers.discard(caller)
        if self.incoming.get(caller.sender) is caller:
            del self.incoming[caller.sender]
            log.info("node %d's connection from %s ended: %s", caller.sender, caller.remote, why)
            if not self.is_stopping:
                self.on_hung_up(caller.sender)
        elif caller.sender < 0:
            log.debug("a caller from %s left: %s", caller.remote, why)

    # --- to look at ---

    def connected(self) -> tuple[int, ...]:
        """The peers to which sending works now, as far as is known."""
        return tuple(peer for peer in sorted(self.links) if self.links[peer].is_up)

    def up_for(self, now_s: float) -> dict[int, tuple[str, float]]:
        """The same peers: at which address, and for how many seconds. ``now_s``: by the loop's clock."""
        found = {}
        for peer, link in sorted(self.links.items()):
            if link.is_up and link.connection is not None:
                found[peer] = (link.connection.remote_host, now_s - link.connection.since_s)
        return found

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
        self.hall = peers
        self.peer = peer
        self.address = address
        self.counters = counters
        self.connection: Outgoing | None = None
        self.is_over = False
        self._called = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        return self.connection is not None and self.connection.is_welcome and self.connection.is_open

    def is_at(self, address: tuple[str, int]) -> bool:
        """Whether it is dialled there."""
        if isinstance(self.address, tuple):
            return self.address == address
        try:
            return parse_address(self.address) == address
        except ValueError:
            return False

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
        limits = self.hall.limits
        try:
            host, port = parse_address(self.address) if isinstance(self.address, str) else self.address
        except ValueError as error:
            self.hall.tell(f"no link to node {self.peer}: {error}")
            return
        backoff = Backoff(limits.redial_s_min, limits.redial_s_max, self.hall.chance)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            why = await self._dial_and_wait(host, port)
            self.hall.tell(f"no link to node {self.peer}: {why}")
            self._called.clear()
            with suppress(TimeoutError):  # not wait_for, which swallows a cancellation that comes with the event
                async with asyncio.timeout(backoff.after(loop.time() - began)):
                    await self._called.wait()

    async def _dial_and_wait(self, host: str, port: int) -> str:
        """One connection from the call to its end; says why it ended."""
        names, timeout_s = self.hall.names, self.hall.limits.handshake_timeout_s
        self.counters.dials += 1
        try:
            connection, address = await names.connect(lambda: self.hall.dial(self), host, port, timeout_s)
        except TimeoutError:
            return f"{format_address(host, port)} did not answer within {timeout_s:g} s"
        except (OSError, ValueError, OverflowError) as error:  # a name or port that is none, too
            return f"{format_address(host, port)}: {error}"
        self.connection = connection
        why = await asyncio.shield(connection.lost)
        names.learn(host, port, address, connection.is_welcome)
        return why
