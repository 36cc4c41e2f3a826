"""Nodes with keys, for the tests of their links: a cluster of Peers, and raw callers that prove what they can."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from quorate.parts.crypto.keys import Keys
from quorate.runtime.handshake import LocalNode
from quorate.runtime.keys import Ed25519
from quorate.runtime.peer_handshake import PeerCalled, PeerDialler
from quorate.runtime.peer_links import PeerLimits
from quorate.runtime.sealing import Ephemeral

from tests.wire.harness import FAST, Cluster, RawCaller, call, framed

NODES = (0, 1, 2, 3)
SCHEME = Ed25519(NODES, "c")


def local(node: int, cluster: str = "c") -> LocalNode:
    return LocalNode(cluster, "raft", node, frozenset(NODES))


def dialler(node: int, target: int, *, by: int | None = None, cluster: str = "c") -> PeerDialler:
    """A dial of ``node``, signed by node ``by``, if that is another."""
    keys = SCHEME.keys(node if by is None else by).within(cluster)
    key = SCHEME.keyring().public(target)
    return PeerDialler(local(node, cluster), keys, target, key, Ephemeral())


def called(node: int, cluster: str = "c") -> PeerCalled:
    return PeerCalled(local(node, cluster), SCHEME.keys(node).within(cluster), Ephemeral())


def key_of(node: int) -> bytes | None:
    return SCHEME.keyring().public(node) if node in NODES else None


class RawPeer:
    """A caller that keeps to the handshake for as long as the test wants, with bare sockets."""

    def __init__(self, caller: RawCaller, side: PeerDialler) -> None:
        self.caller = caller
        self.side = side

    async def prove(self) -> bytes:
        """Up to the Proof; what comes back."""
        await self.caller.write(framed(self.side.opening))
        await self.caller.write(framed(self.side.challenged(await self.caller.frame())))
        return await self.caller.frame()

    async def enter(self) -> None:
        """The whole handshake."""
        self.channel = self.side.admitted(await self.prove())

    async def say(self, *payloads: bytes) -> None:
        """Frames, sealed."""
        await self.caller.write(framed(*map(self.channel.seal, payloads)))


async def raw_peer(cluster: Cluster, node: int, target: int, **changes: Any) -> RawPeer:
    """A raw caller of a node's port."""
    return RawPeer(await call(cluster.addresses[target][1]), dialler(node, target, **changes))


def keys_of(node: int) -> Keys:
    return SCHEME.keys(node)


@asynccontextmanager
async def keyed_cluster(running: int = 4, limits: PeerLimits = FAST) -> AsyncIterator[Cluster]:
    """Four nodes with keys, the first of which run and see each other."""
    made = Cluster(4, limits)
    for node in range(running):
        made.make(node, keys=keys_of(node))
    await made.start(*range(running))
    await made.connected()
    try:
        yield made
    finally:
        for peers in made.peers.values():
            await peers.stop()
        for sock in made.sockets:
            sock.close()
