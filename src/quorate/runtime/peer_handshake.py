"""Peer handshake: two nodes of a cluster whose nodes have keys prove them to each other (``proving.py``).

The opening is a Hello with a nonce and a share. It names the cluster, the protocol, the caller and whom it calls; the
keys of both are those that the roster has for these numbers. A caller that brings no nonce is refused, whoever it says
it is, and a called node that asks for no proof is hung up on: neither side can be talked out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from quorate.parts.crypto.keys import Keys
from quorate.runtime.handshake import Hello, LocalNode, Refused, judge
from quorate.runtime.incarnations import Incarnation
from quorate.runtime.proving import DECODE_ERRORS, Mismatch, Nonce, ProvingCalled, ProvingDialler, Roles, Share
from quorate.runtime.sealing import Ephemeral

ROLES: Final = Roles("peer dialler", "peer called")


class KeyedHello(Hello, frozen=True, array_like=True):
    """A Hello of a node that will prove its key. A node without keys sends no nonce."""

    nonce: Nonce = b""
    share: Share = b""
    incarnation: Incarnation = b""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(KeyedHello).decode


class PeerDialler(ProvingDialler):
    """One dial to ``target``, which must prove ``key``."""

    def __init__(
        self, me: LocalNode, keys: Keys, target: int, key: bytes, fresh: Ephemeral, incarnation: bytes = b""
    ) -> None:
        plain = me.hello(target)
        fields = {name: getattr(plain, name) for name in plain.__struct_fields__}
        hello = KeyedHello(**fields, nonce=fresh.nonce, share=fresh.share, incarnation=incarnation)
        super().__init__(keys, ROLES, _encode(hello), fresh, key)


class PeerCalled(ProvingCalled):
    """One call."""

    def __init__(self, me: LocalNode, keys: Keys, fresh: Ephemeral) -> None:
        super().__init__(keys, ROLES, fresh)
        self._local = me
        self.incarnation = b""
        """The caller's, once it has opened; as good as its proof."""

    def greeted(self, frame: bytes, key_of: Callable[[int], bytes | None]) -> int:
        """Which node calls, if it may; ``key_of`` has the keys of the roster. Raises Mismatch."""
        judged = judge(frame, self._local, "peer")
        if isinstance(judged, Refused):
            raise Mismatch(judged.code, judged.why)
        try:
            hello = _decode(frame)
        except DECODE_ERRORS as error:
            raise Mismatch("malformed", f"your first frame is no Hello: {error}") from None
        assert hello.node is not None  # judged
        if not (hello.nonce and hello.share):
            why = f"nodes of {self._local.protocol} prove their keys, and you bring no nonce: run the same release"
            raise Mismatch("proof", why)
        key = key_of(hello.node)
        if key is None:
            why = f"this node knows no public key of node {hello.node}: bring the same keyring to every node"
            raise Mismatch("key", why)
        self._opened(frame, key, hello.share)
        self.incarnation = hello.incarnation
        return hello.node
