"""Open handshake: two strangers prove to each other who they are, before anything else is believed.

    dialler                                    called
    Knock: network, key, fresh nonce    ---->
                                        <----  Challenge: key, fresh nonce   (or Refused)
    Proof: signature                    ---->
                                        <----  Admitted: signature           (or Refused)

How it works. Each side signs both opening frames, byte for byte, under a context that names its role. So a signature is
good for one network, one pair of keys in these roles, and one pair of nonces. It is worthless when it is replayed (the
other nonce is fresh), reflected (the role differs), or shown to a third (the key differs). The called signs last, so a
caller that proves nothing costs one check of a signature. The first two fields of a Knock never change, so that any two
versions can tell each other that they differ.

What it does not do: what follows is neither encrypted nor signed. Somebody on the path, or whoever passes on every byte
between two nodes, can read and change the frames after the handshake.

All of this is pure: frames in, frames out. Whatever the bytes, nothing but Mismatch is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, TypeAlias

import msgspec

from quorate.parts.crypto.keys import Signer, to_sign
from quorate.runtime.handshake import ClusterName, Opening, Refused, refused
from quorate.runtime.keys import PUBLIC_BYTES, Ed25519Verifier

MAGIC: Final = b"quorate open"
VERSION: Final = 1
NONCE_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
REASON_CHARACTERS_MAX: Final = 200
"""What is repeated of a reason that the other side gave."""

PublicKey: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=PUBLIC_BYTES, max_length=PUBLIC_BYTES)]
Nonce: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
Proven: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
PortNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Knock(msgspec.Struct, frozen=True, array_like=True):
    """The dialler says who it is. ``port``: where it takes calls, on the host that it calls from; 0: nowhere."""

    magic: bytes
    version: int
    network: ClusterName
    key: PublicKey
    nonce: Nonce
    port: PortNumber


class Challenge(msgspec.Struct, frozen=True, array_like=True, tag="challenge"):
    """The called says who it is."""

    key: PublicKey
    nonce: Nonce


class Proof(msgspec.Struct, frozen=True, array_like=True, tag="proof"):
    """The dialler proves its key."""

    signature: Proven


class Admitted(msgspec.Struct, frozen=True, array_like=True, tag="admitted"):
    """The called proves its key, and both have a link."""

    signature: Proven


class Mismatch(Exception):
    """The handshake ends here. ``refusal`` is what to tell the other side; the text is the same."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.refusal = refused(code, why)


_encode = msgspec.msgpack.Encoder().encode
_decode_opening = msgspec.msgpack.Decoder(Opening).decode
_decode_knock = msgspec.msgpack.Decoder(Knock).decode
_decode_proof = msgspec.msgpack.Decoder(Proof).decode
_decode_challenge: Callable[[bytes], Challenge | Refused] = msgspec.msgpack.Decoder(Challenge | Refused).decode
_decode_admitted: Callable[[bytes], Admitted | Refused] = msgspec.msgpack.Decoder(Admitted | Refused).decode
_DECODE_ERRORS: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_DIALLER: Final = "stranger dialler"
_CALLED: Final = "stranger called"


class Myself(msgspec.Struct, frozen=True):
    """Who this node is. ``network`` names the network and its beginning: whoever has another is not of it."""

    network: str
    signer: Signer

    @property
    def key(self) -> bytes:
        """What others know this node by."""
        return self.signer.public


class DiallerSide:
    """One dial: send ``knock``, then what ``challenged`` returns; ``admitted`` ends it. ``nonce`` is fresh."""

    def __init__(self, me: Myself, nonce: bytes, port: int, expected: bytes | None = None) -> None:
        """``expected``: the one key that will do; None: any."""
        self.knock = _encode(Knock(MAGIC, VERSION, me.network, me.key, nonce, port))
        self.key = b""
        """The other side's, once it is challenged; proven when it is admitted."""
        self._me = me
        self._expected = expected
        self._transcript = b""

    def challenged(self, frame: bytes) -> bytes:
        """The Proof for a Challenge. Raises Mismatch."""
        try:
            answer = _decode_challenge(frame)
        except _DECODE_ERRORS as error:
            raise Mismatch("malformed", f"answered with no Challenge: {error}") from None
        if isinstance(answer, Refused):
            raise _said_no(answer)
        if answer.key == self._me.key:
            raise Mismatch("self", "it is this node itself")
        if self._expected not in (None, answer.key):
            raise Mismatch("key", f"it has another key, {answer.key.hex()}")
        self.key = answer.key
        self._transcript = _encode((self.knock, frame))
        return _encode(Proof(self._me.signer.within(self._me.network).sign(_DIALLER, self._transcript)))

    def admitted(self, frame: bytes) -> None:
        """Checks the last frame. Raises Mismatch."""
        try:
            answer = _decode_admitted(frame)
        except _DECODE_ERRORS as error:
            raise Mismatch("malformed", f"did not admit us: {error}") from None
        if isinstance(answer, Refused):
            raise _said_no(answer)
        _check(self._me.network, self.key, _CALLED, self._transcript, answer.signature)


class CalledSide:
    """One call: ``knocked`` judges the first frame; send what ``challenge`` returns; ``proved`` judges the second."""

    def __init__(self, me: Myself, nonce: bytes) -> None:
        self._me = me
        self._knock = b""
        self._challenge = _encode(Challenge(me.key, nonce))
        self.key = b""
        """The caller's, once it has knocked; proven when ``proved`` returns."""

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
        except _DECODE_ERRORS as error:
            raise Mismatch("malformed", f"your first frame is no Knock: {error}") from None
        if knock.network != self._me.network:
            why = (
                f"this is network {self._me.network!r}, you are of {knock.network!r}: check the network in your config"
            )
            raise Mismatch("network", why)
        if knock.key == self._me.key:
            raise Mismatch("self", "this is you yourself: your key is mine")
        self._knock = frame
        self.key = knock.key
        return knock

    def challenge(self) -> bytes:
        """What to answer a Knock."""
        return self._challenge

    def proved(self, frame: bytes) -> None:
        """Checks the Proof. Raises Mismatch."""
        try:
            proof = _decode_proof(frame)
        except _DECODE_ERRORS as error:
            raise Mismatch("malformed", f"your second frame is no Proof: {error}") from None
        _check(self._me.network, self.key, _DIALLER, _encode((self._knock, self._challenge)), proof.signature)

    def admission(self) -> bytes:
        """What to answer a Proof."""
        signer = self._me.signer.within(self._me.network)
        return _encode(Admitted(signer.sign(_CALLED, _encode((self._knock, self._challenge)))))


def _check(network: str, key: bytes, role: str, transcript: bytes, signature: bytes) -> None:
    try:
        is_right = Ed25519Verifier(key).verify(to_sign(network, role, transcript), signature)
    except ValueError as error:
        raise Mismatch("key", f"not a key to be known by: {error}") from None
    if not is_right:
        raise Mismatch("proof", "the signature is not by the key that you name, or not for this handshake")


def _said_no(answer: Refused) -> Mismatch:
    return Mismatch(answer.code, f"refused us: {answer.why[:REASON_CHARACTERS_MAX]!r}")
