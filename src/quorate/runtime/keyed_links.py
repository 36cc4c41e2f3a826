"""Connections between nodes that have keys: neither side is anybody until it has proved its key.

A caller that has proved nothing changes nothing: it is not counted as a node, and displaces none.
"""

from __future__ import annotations

from quorate.parts.crypto.keys import Keys
from quorate.runtime.peer_handshake import PeerCalled, PeerDialler
from quorate.runtime.peer_links import Hall, Incoming, Outgoing, Way
from quorate.runtime.proving import Mismatch
from quorate.runtime.sealing import Ephemeral


class KeyedOutgoing(Outgoing):
    """Sends to one peer once both have proved their keys."""

    def __init__(self, keys: Keys, way: Way) -> None:
        super().__init__(way)
        self._keys = keys
        self._side: PeerDialler | None = None

    def greet(self) -> None:
        key = self.way.hall.keys.get(self.way.peer)
        if key is None:
            self.cut(f"this node knows no public key of node {self.way.peer}: bring the same keyring to every node")
            return
        hall = self.way.hall
        self._side = PeerDialler(hall.me, self._keys, self.way.peer, key, Ephemeral(), hall.incarnations.own)
        self.send(self._side.opening)

    def on_greeting(self, frame: bytes) -> None:
        assert self._side is not None  # nothing is read before it is open
        try:
            if not self._side.key:
                self.send(self._side.challenged(frame))
            else:
                self._welcomed(self._side.admitted(frame))
        except Mismatch as mismatch:
            self.cut(str(mismatch))

    def _may_follow_greeting(self) -> bool:
        return self.is_welcome


class KeyedIncoming(Incoming):
    """Receives from one peer once both have proved their keys."""

    def __init__(self, keys: Keys, hall: Hall) -> None:
        super().__init__(hall)
        self._keys = keys
        self._side: PeerCalled | None = None
        self._claims = -1
        """Which node it says it is."""

    def on_greeting(self, frame: bytes) -> None:
        try:
            if self._side is None:
                self._on_hello(frame)
            else:
                self._on_proof(self._side, frame)
        except Mismatch as mismatch:
            self.refuse(mismatch.refusal)

    def _on_hello(self, frame: bytes) -> None:
        side = PeerCalled(self.hall.me, self._keys, Ephemeral())
        self._claims = side.greeted(frame, self.hall.keys.get)
        self._side = side
        self.send(side.challenge())

    def _on_proof(self, side: PeerCalled, frame: bytes) -> None:
        side.proved(frame)
        if self.hall.keys.get(self._claims) != side.key:  # it was removed meanwhile, or has another key now
            raise Mismatch("key", f"node {self._claims} is not known by this key any more: call again")
        if (refusal := self.hall.incarnations.refuses(self._claims, side.incarnation)) is not None:
            raise Mismatch(refusal.code, refusal.why)
        channel = side.channel()
        self.sender, self.incarnation = self._claims, side.incarnation
        self.send(side.admission())
        self._welcomed(channel)
