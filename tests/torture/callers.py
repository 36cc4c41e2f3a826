"""Callers of the ports of a cluster that runs, with bare sockets: greeted as clients, as nodes, or as liars."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final, TypeAlias

from quorate.cli.folder import KEYS_FOLDER
from quorate.parts.crypto.keys import Keys
from quorate.runtime import key_files
from quorate.runtime.handshake import LocalNode, Welcome, answer_in, client_hello, encode
from quorate.runtime.peer_handshake import PeerDialler
from quorate.runtime.sealing import Ephemeral

from tests.cluster import LocalCluster
from tests.wire.harness import framed

TIMEOUT_S: Final = 10.0

Sealing: TypeAlias = Callable[[bytes], bytes]
"""What goes into a frame of a payload."""
Opener: TypeAlias = Callable[[socket.socket], Sealing]
"""Does a handshake."""


class HungUp(Exception):
    """The other side did."""


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise HungUp("the node hung up")
        data += more
    return data


def read_frame(sock: socket.socket) -> bytes:
    return read_exactly(sock, int.from_bytes(read_exactly(sock, 4), "little"))


def local(cluster: LocalCluster, node: int) -> LocalNode:
    layout = cluster.layout
    return LocalNode(layout.cluster, layout.protocol, node, frozenset(cluster.ids))


def hello_of(cluster: LocalCluster, sender: int, node: int) -> bytes:
    """A node's to another, without keys."""
    return framed(encode(local(cluster, sender).hello(node)))


def greets(hello: bytes) -> Opener:
    """Says a Hello that is right where nodes have no keys, and reads the Welcome."""

    def opens(sock: socket.socket) -> Sealing:
        sock.sendall(hello)
        assert isinstance(answer_in(read_frame(sock)), Welcome)
        return bytes

    return opens


def client() -> Opener:
    """Whoever it is."""
    return greets(framed(encode(client_hello())))


def dial(cluster: LocalCluster, sender: int, node: int, by: int) -> PeerDialler:
    """A node's dial to another, signed with the key of a third, perhaps."""
    folder = cluster.folder / KEYS_FOLDER
    keyring = key_files.read_keyring(folder / key_files.KEYRING_NAME)
    keys = Keys(key_files.read_private_key(folder / key_files.private_key_name(by)), keyring)
    return PeerDialler(
        local(cluster, sender), keys.within(cluster.layout.cluster), node, keyring.public(node), Ephemeral()
    )


def proves(cluster: LocalCluster, sender: int, node: int) -> Opener:
    """A node that proves its key."""

    def opens(sock: socket.socket) -> Sealing:
        side = dial(cluster, sender, node, sender)
        sock.sendall(framed(side.opening))
        sock.sendall(framed(side.challenged(read_frame(sock))))
        return side.admitted(read_frame(sock)).seal

    return opens


def peer(cluster: LocalCluster, sender: int, node: int) -> Opener:
    """A node, as nodes of this cluster call each other."""
    if (cluster.folder / KEYS_FOLDER).exists():
        return proves(cluster, sender, node)
    return greets(hello_of(cluster, sender, node))
