"""Open handshake: two strangers, who know each other by a key alone, prove their keys (``proving.py``).

The opening is a Knock. Its first two fields never change, so that any two versions can tell each other that they
differ.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from quorate.parts.crypto.keys import Signer
from quorate.runtime.handshake import ClusterName, Opening
from quorate.runtime.proving import (
    DECODE_ERRORS,
    Mismatch,
    Nonce,
    ProvingCalled,
    ProvingDialler,
    PublicKey,
    Roles,
    Share,
)
from quorate.runtime.sealing import Ephemeral

MAGIC: Final = b"quorate open"
VERSION: Final = 2
"""1 agreed on no keys: its frames were as they are."""
ROLES: Final = Roles("stranger dialler", "stranger called")

PortNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Knock(msgspec.Struct, frozen=True, array_like=True):
    """The dialler says who it is. ``port``: where it takes calls, on the host that it calls from; 0: nowhere."""

    magic: bytes
    version: int
    network: ClusterName
    key: PublicKey
    nonce: Nonce
    port: PortNumber
    share: Share


_encode = msgspec.msgpack.Encoder().encode
_decode_opening = msgspec.msgpack.Decoder(Opening).decode
_decode_knock = msgspec.msgpack.Decoder(Knock).decode


class Myself:
    """Who this node is. ``network`` names the network and its beginning: whoever has another is not of it."""

    def __init__(self, network: str, signer: Signer) -> None:
        self.network = network
        self.signer = signer.within(network)

    @property
    def key(self) -> bytes:
        """What others know this node by."""
        return self.signer.public


class DiallerSide(ProvingDialler):
    """One dial. ``expected``: the one key that will do; None: any."""

    def __init__(self, me: Myself, fresh: Ephemeral, port: int, expected: bytes | None = None) -> None:
        knock = Knock(MAGIC, VERSION, me.network, me.key, fresh.nonce, port, fresh.share)
        super().__init__(me.signer, ROLES, _encode(knock), fresh, expected)


class CalledSide(ProvingCalled):
    """One call: ``knocked`` judges the first frame."""

    def __init__(self, me: Myself, fresh: Ephemeral) -> None:
        super().__init__(me.signer, ROLES, fresh)
        self._myself = me

    def knocked(self, frame: bytes) -> Knock:
        """The Knock, if its sender belongs here. Raises Mismatch."""
        try:
            opening = _decode_opening(frame)
            if opening.magic != MAGIC:
                raise Mismatch("magic", "this is a port of an open Quorate network: check the address")
            if opening.version != VERSION:
                why = f"this node speaks version {VERSION} of the open handshake, you speak {opening.version}"
                raise Mismatch("version", f"{why}: run the same release")
            knock = _decode_knock(frame)
        except DECODE_ERRORS as error:
            raise Mismatch("malformed", f"your first frame is no Knock: {error}") from None
        if knock.network != self._myself.network:
            network = self._myself.network
            why = f"this is network {network!r}, you are of {knock.network!r}: check the network in your config"
            raise Mismatch("network", why)
        if knock.key == self._myself.key:
            raise Mismatch("self", "this is you yourself: your key is mine")
        self._opened(frame, knock.key, knock.share)
        return knock
