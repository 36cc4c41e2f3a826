"""Connections between nodes of a cluster: what a node does on the ones it dialled, and on those it accepted.

Where nodes have keys, ``keyed_links.py`` has these with another handshake. Who counts is for the Hall (``peers.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import ClassVar
from typing import Protocol as Interface

import msgspec

from quorate.parts.bounds import COUNTS, FRAME_SIZES, GRACES, SIZES, TIMES, BoundedConfig, Bounds
from quorate.runtime.bans import host_of
from quorate.runtime.framing import FrameLimits
from quorate.runtime.greeting import Accepted, Dialled, Told
from quorate.runtime.handshake import Hello, LocalNode, Refused
from quorate.runtime.incarnations import Incarnations, incarnation_in, peer_hello

MIB = 1 << 20
log = logging.getLogger("quorate.peers")


class PeerLimits(BoundedConfig, frozen=True):
    """Bounds and times of the links; all nodes of a cluster need the same ``frame_size_bytes_max``."""

    bounds: ClassVar[Mapping[str, Bounds]] = {
        "callers_max": COUNTS,
        "callers_per_host_max": COUNTS,
        "frame_size_bytes_max": FRAME_SIZES,
        "backlog_bytes_max": SIZES,
        "backlog_frames_max": COUNTS,
        "handshake_timeout_s": TIMES,
        "dead_after_s": TIMES,
        "redial_s_min": TIMES,
        "redial_s_max": TIMES,
        "close_grace_s": GRACES,
    }

    callers_max: int = 128
    """Who has called and has not said, or proved, who it is."""
    callers_per_host_max: int = 64
    """As many as there can be nodes: they may all be on one host, and call at once."""
    frame_size_bytes_max: int = 16 * MIB
    backlog_bytes_max: int = 64 * MIB
    backlog_frames_max: int = 65536
    handshake_timeout_s: float = 5.0
    dead_after_s: float = 8.0
    redial_s_min: float = 0.05
    redial_s_max: float = 2.0
    close_grace_s: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.redial_s_min > self.redial_s_max:
            raise ValueError(f"redial_s_min is {self.redial_s_min}, above redial_s_max {self.redial_s_max}")

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


class Hall(Interface):
    """Whose connections these are."""

    me: LocalNode
    limits: PeerLimits
    tell: Told

    @property
    def keys(self) -> Mapping[int, bytes]:
        """Public keys, by node."""

    @property
    def incarnations(self) -> Incarnations:
        """This node's, and those of the others."""

    def on_refused(self, node: int, refusal: Refused) -> None:
        """A node that was called refuses, by the word of whoever is at its address."""

    def on_open(self, caller: Incoming) -> None:
        """Somebody called."""

    def on_welcome(self, caller: Incoming) -> None:
        """It is node ``caller.sender``, by its own account, or proven where nodes have keys."""

    def on_peer_frames(self, caller: Incoming, frames: list[bytes]) -> None:
        """What a node sent."""

    def on_violation(self, caller: Incoming, why: str) -> None:
        """It does not keep to frames."""

    def on_lost(self, caller: Incoming, why: str) -> None:
        """The connection is gone."""


class Way(Interface):
    """The way to one peer, whose connection is an Outgoing."""

    peer: int
    is_over: bool
    counters: PeerCounters

    @property
    def hall(self) -> Hall:
        """Who goes this way."""


class Outgoing(Dialled):
    """The connection on which this node sends to one peer."""

    def __init__(self, way: Way) -> None:
        limits = way.hall.limits
        hello = peer_hello(way.hall.me, way.peer, way.hall.incarnations.own)
        super().__init__(hello, limits.frames, limits.handshake_timeout_s)
        self.way = way
        self.since_s = 0.0
        """When it was welcomed, by the loop's clock."""

    def on_open(self) -> None:
        if self.way.is_over:  # at the moment when it came about
            self.cut("is not wanted any more")
            return
        self.keep_alive(self.way.hall.limits.dead_after_s)
        self.greet()

    def greet(self) -> None:
        """Send the first frame."""
        super().on_open()

    def on_welcome(self) -> None:
        self.way.counters.connects += 1
        self.since_s = asyncio.get_running_loop().time()
        log.info("link to node %d at %s", self.way.peer, self.remote)

    def on_refused(self, refusal: Refused) -> None:
        self.way.hall.on_refused(self.way.peer, refusal)

    def on_message_frames(self, frames: list[bytes]) -> None:
        self.cut("sends on a connection that is ours to send on")


class Incoming(Accepted):
    """A connection on which a peer sends to this node."""

    def __init__(self, hall: Hall) -> None:
        limits = hall.limits
        super().__init__(hall.me, "peer", limits.frames, limits.handshake_timeout_s, hall.tell)
        self.hall = hall
        self.host = ""
        """Where the caller is, as limits count hosts."""
        self.sender = -1
        """Which node it is, once it is welcome."""
        self.incarnation = b""
        """The one it names."""

    def on_greeting(self, frame: bytes) -> None:
        self.incarnation = incarnation_in(frame)
        super().on_greeting(frame)

    def admit(self, hello: Hello) -> Refused | None:
        assert hello.node is not None  # judged
        return self.hall.incarnations.refuses(hello.node, self.incarnation)

    def on_open(self) -> None:
        self.host = host_of(self.remote_host)
        self.keep_alive(self.hall.limits.dead_after_s)
        self.hall.on_open(self)

    def on_welcome(self) -> None:
        if self.hello is not None and self.hello.node is not None:
            self.sender = self.hello.node
        self.hall.on_welcome(self)

    def on_message_frames(self, frames: list[bytes]) -> None:
        self.hall.on_peer_frames(self, frames)

    def on_violation(self, why: str) -> None:
        self.hall.on_violation(self, why)

    def on_lost(self, why: str) -> None:
        super().on_lost(why)
        self.hall.on_lost(self, why)
