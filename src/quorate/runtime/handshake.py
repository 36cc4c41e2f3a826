"""Handshake: who is calling, and is it for us. The first frame each way, before anything else is believed.

How it works. The caller sends a Hello; the called answers with a Welcome, or with a Refused that says what to do, and
then hangs up. Both are small frames with a time limit, so that a silent caller holds a connection for seconds at most.
The first two fields of a Hello never change, so that any two versions can tell each other that they differ.

This keeps apart what was never meant to meet (two clusters, two protocols, two versions, a mistaken address). It is no
proof of identity: whoever reaches the peer port can claim to be a node. Where nodes have keys, they prove them first
(``peer_handshake.py``); elsewhere that is TLS's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec

from quorate.kernel.ids import NODE_ID_MAX, NodeId

MAGIC = b"quorate"
VERSION = 1
HELLO_SIZE_BYTES_MAX = 2048
WHY_BYTES_MAX = 1024

Role: TypeAlias = Literal["peer", "client"]
ClusterName: TypeAlias = Annotated[str, msgspec.Meta(max_length=196)]
ProtocolName: TypeAlias = Annotated[str, msgspec.Meta(max_length=64)]


class Opening(msgspec.Struct, frozen=True, array_like=True):
    """What every version's Hello begins with."""

    magic: Annotated[bytes, msgspec.Meta(max_length=16)]
    version: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The caller: a peer says who it is and whom it wants; a client may leave all but the role empty."""

    magic: bytes
    version: int
    role: Role
    protocol: ProtocolName = ""
    cluster: ClusterName = ""
    node: NodeId | None = None
    target: NodeId | None = None


class Bears(msgspec.Struct, frozen=True, array_like=True):
    """So many of so many nodes may lie. Their clients sign. Raises ValueError for more than a third."""

    liars: Annotated[int, msgspec.Meta(ge=0)]
    nodes: Annotated[int, msgspec.Meta(ge=1, le=NODE_ID_MAX + 1)]

    def __post_init__(self) -> None:
        if 3 * self.liars >= self.nodes:
            raise ValueError(f"{self.nodes} nodes do not bear {self.liars} that lie")


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag="welcome"):
    """The called is the right one. ``bears``: what a cluster of nodes that may lie bears; None: it bears crashes alone.

    One node's word for it is worth as much as its word for anything.
    """

    version: int
    protocol: ProtocolName
    cluster: ClusterName
    node: NodeId
    bears: Bears | None = None


class Greeted(NamedTuple):
    """What a client goes by of a Welcome: which cluster its requests are for, and what that bears."""

    cluster: str
    bears: Bears | None


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """The called hangs up; ``why`` is for the person who runs the caller and says what to do."""

    code: Annotated[str, msgspec.Meta(max_length=32)]
    why: Annotated[str, msgspec.Meta(max_length=WHY_BYTES_MAX)]


_encode = msgspec.msgpack.Encoder().encode
_decode_opening = msgspec.msgpack.Decoder(Opening).decode
_decode_hello = msgspec.msgpack.Decoder(Hello).decode
_decode_answer: Callable[[bytes], Welcome | Refused] = msgspec.msgpack.Decoder(Welcome | Refused).decode


class LocalNode(msgspec.Struct, frozen=True):
    """Who this node is, and whom it knows.

    ``members`` holds the ids of all nodes, its own among them; ``removed`` says of those that were members why they are
    no longer. The owner of both may change them at any time: what they say when a Hello comes is what counts.
    """

    cluster: str
    protocol: str
    node: int
    members: Set[int]
    bears: Bears | None = None
    removed: Mapping[int, str] = {}

    def hello(self, target: int) -> Hello:
        """What this node says when it calls a peer."""
        return Hello(MAGIC, VERSION, "peer", self.protocol, self.cluster, self.node, target)

    def welcome(self) -> Welcome:
        """What this node says to the right caller."""
        return Welcome(VERSION, self.protocol, self.cluster, self.node, self.bears)


def client_hello(cluster: str = "", protocol: str = "", target: int | None = None) -> Hello:
    """What a client says; empty fields mean any."""
    return Hello(MAGIC, VERSION, "client", protocol, cluster, None, target)


def judge(frame: bytes, me: LocalNode, role: Role) -> Hello | Refused:
    """The Hello in the first frame if its caller is welcome on a port for ``role``; never raises."""
    try:
        opening = _decode_opening(frame)
        if opening.magic != MAGIC:
            return refused("magic", f"this is a Quorate {role} port; you do not speak its protocol: check the address")
        if opening.version != VERSION:
            why = f"this node speaks version {VERSION} of the wire, you speak {opening.version}: run the same release"
            return refused("version", why)
        hello = _decode_hello(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return refused("malformed", f"your first frame is no Hello: {error}")
    return _judge_hello(hello, me, role) or hello


def _judge_hello(hello: Hello, me: LocalNode, role: Role) -> Refused | None:
    is_peer = role == "peer"
    if hello.role != role:
        return refused("role", f"this is the {role} port, you are a {hello.role}: check the port in your config")
    if hello.cluster != me.cluster and (is_peer or hello.cluster):
        why = f"this is cluster {me.cluster!r}, you are of cluster {hello.cluster!r}: check `cluster` in your config"
        return refused("cluster", why)
    if hello.protocol != me.protocol and (is_peer or hello.protocol):
        why = f"this node runs {me.protocol!r}, you run {hello.protocol!r}: check `protocol` in your config"
        return refused("protocol", why)
    if hello.target != me.node and (is_peer or hello.target is not None):
        why = f"this is node {me.node}, you want node {hello.target}: check the addresses of the nodes in your config"
        return refused("target", why)
    if is_peer and hello.node == me.node:
        return refused("node", f"I am node {me.node} myself: give every node its own id, and its own address")
    if is_peer and hello.node is not None and (removed := me.removed.get(hello.node)) is not None:
        rule = "never start it again: a new node has another number"
        return refused("removed", f"node {hello.node} was removed from this cluster: {removed}; {rule}")
    if is_peer and hello.node not in me.members:
        known = ", ".join(map(str, sorted(me.members)))
        return refused("node", f"you are node {hello.node}, this cluster has {known}: check the ids in your config")
    return None


def refused(code: str, why: str) -> Refused:
    """What it quotes may be long, and the caller takes a small frame only."""
    return Refused(code, why.encode(errors="replace")[:WHY_BYTES_MAX].decode(errors="ignore"))


def answer_in(frame: bytes) -> Welcome | Refused:
    """What the called said. Raises ValueError where it is neither, or not what this version understands."""
    try:
        answer = _decode_answer(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(f"answered with no Welcome: {error}; check that the address is a Quorate node's") from error
    if isinstance(answer, Welcome) and answer.version != VERSION:
        raise ValueError(f"speaks version {answer.version} of the wire, we speak {VERSION}: run the same release")
    return answer


def encode(greeting: Hello | Welcome | Refused) -> bytes:
    """The frame of a greeting."""
    return _encode(greeting)
