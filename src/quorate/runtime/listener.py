"""Listener: the port for clients.

How it works. A client says Hello and from then on sends requests, one a frame; replies go back as frames in whatever
order the node has them. Two rules keep a client from filling the node's memory. A client with too many requests
unanswered, or one that does not read its replies, is not read from until that is better; TCP carries the pressure
back to it. A client whose replies still pile up (it watches something, say) is cut off.

Three more keep all clients together from it. Requests that do not fit are refused (``admission.py``). If frames that
have begun and not ended take too much, the client that is at one for the longest time is cut off; if replies that are
not read do, the client with the most of them.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import ClassVar

import msgspec

from quorate.parts.bounds import COUNT_MAX, COUNTS, FRAME_SIZES, GRACES, SIZES, TIMES, BoundedConfig, Bounds
from quorate.runtime.admission import Admission
from quorate.runtime.bans import host_of
from quorate.runtime.framing import FrameLimits, close_all
from quorate.runtime.greeting import Accepted, Told
from quorate.runtime.handshake import Hello, LocalNode, Refused
from quorate.runtime.listening import Listening, listen
from quorate.runtime.replies import Replies
from quorate.runtime.stranger_limits import UnfinishedFrames

MIB = 1 << 20
ACCEPT_BACKLOG = 1024  # all clients of a node that failed come at once
log = logging.getLogger("quorate.clients")


class ClientLimits(BoundedConfig, frozen=True):
    """Bounds of the client port, for one connection; those of the second part are for all of them."""

    bounds: ClassVar[Mapping[str, Bounds]] = {
        "frame_size_bytes_max": FRAME_SIZES,
        "unanswered_max": COUNTS,
        "unanswered_bytes_max": SIZES,
        "backlog_bytes_max": SIZES,
        "backlog_frames_max": COUNTS,
        "handshake_timeout_s": TIMES,
        "dead_after_s": TIMES,
        "close_grace_s": GRACES,
        "connections_max": COUNTS,
        "refusals_max": Bounds(0, COUNT_MAX),
        "requests_bytes_max": SIZES,
        "unfinished_bytes_max": SIZES,
        "replies_bytes_max": SIZES,
    }

    frame_size_bytes_max: int = 2 * MIB
    unanswered_max: int = 1024
    unanswered_bytes_max: int = 8 * MIB
    backlog_bytes_max: int = 16 * MIB
    backlog_frames_max: int = 65536
    handshake_timeout_s: float = 5.0
    dead_after_s: float = 30.0
    close_grace_s: float = 1.0

    connections_max: int = 4096
    refusals_max: int = 256
    """How many callers beyond those are told that there is no room; more are cut off."""
    requests_bytes_max: int = 256 * MIB
    """Of requests without an answer, as ``admission.py`` counts them."""
    unfinished_bytes_max: int = 128 * MIB
    """Received of frames that have begun and not ended."""
    replies_bytes_max: int = 256 * MIB
    """Of replies that are not in the operating system's hands."""

    @property
    def frames(self) -> FrameLimits:
        """The part that each connection keeps."""
        return FrameLimits(self.frame_size_bytes_max, self.backlog_bytes_max, self.backlog_frames_max)


class ClientCounters(msgspec.Struct):
    """What happened on the client port since the start."""

    accepts: int = 0
    refusals: int = 0
    received_frames: int = 0
    received_bytes: int = 0
    sent_frames: int = 0
    sent_bytes: int = 0
    cuts: int = 0
    busy: int = 0
    """Requests that were refused because too much waited."""


class ClientConnection(Accepted):
    """One client. The node calls ``send`` for each reply and ``done`` for each request that has had its last one."""

    def __init__(self, listener: ClientListener) -> None:
        limits = listener.limits
        super().__init__(listener.me, "client", limits.frames, limits.handshake_timeout_s, listener.tell)
        self._listener = listener
        self._sizes: deque[int] = deque()  # of the unanswered requests, oldest first
        self._unanswered_bytes = 0
        self._has_completed = False
        self.host = ""

    @property
    def unanswered(self) -> int:
        """Requests handed over and not yet done."""
        return len(self._sizes)

    def reply(self, payload: bytes) -> None:
        """Send one reply. A client that is gone is no error; one that lets too many pile up is cut off.

        Raises FrameTooLarge: answer with an error instead.
        """
        if self.send(payload):
            self._listener.replies.weigh(self)
            self._listener.counters.sent_frames += 1
            self._listener.counters.sent_bytes += len(payload)
        elif self.is_open:
            self.cut_slow()

    def cut_slow(self) -> None:
        """It does not read its replies."""
        self._listener.counters.cuts += 1
        why = f"does not read its replies: {self.backlog_bytes} bytes wait"
        self._listener.tell(f"cut client {self.remote} off: {why}")
        self.cut(why)

    def flush(self) -> None:
        """Give the operating system what it takes, now."""
        super()._flush()

    def _flush(self) -> None:
        super()._flush()
        self._listener.replies.weigh(self)

    def done(self, requests: int = 1) -> None:
        """So many requests are answered for good. Their sizes count oldest first, exact once all are answered."""
        for _ in range(min(requests, len(self._sizes))):
            size_bytes = self._sizes.popleft()
            self._unanswered_bytes -= size_bytes
            self._listener.admission.done(self, size_bytes)
        if not self._reading:
            self._throttle()

    def admit(self, hello: Hello) -> Refused | None:
        most = self._listener.limits.connections_max
        if len(self._listener.clients) >= most:
            return Refused("full", f"this node serves {most} clients already: try another node, or later")
        return None

    def refuse(self, refusal: Refused) -> None:
        self._listener.counters.refusals += 1
        super().refuse(refusal)

    def on_open(self) -> None:
        listener = self._listener
        listener.connections.add(self)
        self.host = host_of(self.remote_host)
        self.keep_alive(listener.limits.dead_after_s)
        if listener.is_stopping:
            self.cut("this node stops")
        # A caller over the limit still gets a Refused, unless there are far too many to listen to.
        limits = listener.limits
        if len(listener.connections) > limits.connections_max + limits.refusals_max:
            listener.tell(
                f"cut {self.remote_host} off on the client port: {len(listener.connections)} callers are there"
            )
            self.cut("too many callers")

    def on_welcome(self) -> None:
        self._listener.clients.add(self)
        self._listener.counters.accepts += 1
        self._listener.on_connect(self)

    def on_message_frames(self, frames: list[bytes]) -> None:
        listener, counters = self._listener, self._listener.counters
        refused: list[bytes] = []
        for frame in frames:
            size_bytes = len(frame)
            counters.received_bytes += size_bytes
            if listener.admission.take(self, size_bytes):
                self._sizes.append(size_bytes)
                self._unanswered_bytes += size_bytes
            else:
                refused.append(frame)
        counters.received_frames += len(frames)
        self._throttle()
        if refused:
            counters.busy += len(refused)
            listener.on_busy(self, refused)
            is_refused = set(map(id, refused))
            frames = [frame for frame in frames if id(frame) not in is_refused]
        if frames and self.is_open:
            listener.on_frames(self, frames)

    def data_received(self, data: bytes) -> None:
        self._has_completed = False
        super().data_received(data)
        self._listener.unfinished.hold(self, len(self._received) if self.is_open else 0, self._has_completed)

    def on_frames(self, frames: list[bytes]) -> None:
        self._has_completed = True
        super().on_frames(frames)

    def on_writable(self) -> None:
        self._listener.replies.weigh(self)
        self._throttle()

    def on_lost(self, why: str) -> None:
        super().on_lost(why)
        self._listener.connections.discard(self)
        self._listener.unfinished.hold(self, 0, False)
        self._listener.replies.forget(self)
        self._listener.admission.left(self)
        self._sizes.clear()  # it may be answered yet
        if self.is_welcome:
            self._listener.clients.discard(self)
            self._listener.on_close(self, why)

    def _throttle(self) -> None:
        """Read on or not. Resumes at half of a limit, so that it does not flutter around it."""
        limits = self._listener.limits
        share = 1 if self._reading else 2
        is_busy = (
            not self.is_writable
            or share * len(self._sizes) > limits.unanswered_max
            or share * self._unanswered_bytes > limits.unanswered_bytes_max
        )
        if is_busy:
            self.pause()
        else:
            self.resume()


class ClientListener:
    """The client port of one node.

    ``on_connect(connection)`` and ``on_close(connection, why)`` come in pairs, with ``on_frames(connection, frames)``
    between them. Requests that there is no room for go to ``on_busy(connection, frames)``; they are not ``done``
    when they are answered. Callbacks may call any verb of the connection.
    """

    def __init__(
        self,
        host: str,
        port: int,
        me: LocalNode,
        on_connect: Callable[[ClientConnection], None],
        on_frames: Callable[[ClientConnection, list[bytes]], None],
        on_close: Callable[[ClientConnection, str], None],
        limits: ClientLimits | None = None,
        on_busy: Callable[[ClientConnection, list[bytes]], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.me = me
        self.on_connect = on_connect
        self.on_frames = on_frames
        self.on_close = on_close
        self.on_busy = on_busy or _cut_busy
        self.limits = limits or ClientLimits()
        self.admission = Admission(self.limits.requests_bytes_max, time.monotonic)
        self.unfinished = UnfinishedFrames(self.limits.unfinished_bytes_max)
        self.replies = Replies(self.limits.replies_bytes_max)
        self.counters = ClientCounters()
        self.connections: set[ClientConnection] = set()
        self.clients: set[ClientConnection] = set()  # those of the connections that are welcome
        self.tell = Told(log)
        self.is_stopping = False
        self._listening: Listening | None = None

    async def start(self, listening: socket.socket | None = None) -> None:
        """Listen on the address (or on the bound socket given); ``port`` 0 becomes the real one. Raises OSError."""
        self._listening = await listen(
            lambda: ClientConnection(self), self.host, self.port, given=listening, backlog=ACCEPT_BACKLOG
        )
        self.port = self._listening.port

    async def stop(self) -> None:
        """Take no more clients, give replies a short time to leave, hang up. Returns when every client is gone."""
        self.is_stopping = True
        if self._listening is not None:
            self._listening.close()
        await close_all(list(self.connections), "this node stops", self.limits.close_grace_s)
        if self._listening is not None:
            await self._listening.wait_closed()


def _cut_busy(connection: ClientConnection, frames: list[bytes]) -> None:
    """Where nobody says so in words."""
    connection.cut(f"{len(frames)} requests too many")
