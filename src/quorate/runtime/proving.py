"""Proving: both sides of a connection prove their keys and agree on keys for its frames, before anything is believed.

    dialler                                          called
    opening: ..., fresh nonce and share   ---->
                                          <----      Challenge: key, fresh nonce and share   (or Refused)
    Proof: signature                      ---->
                                          <----      Admitted: signature                     (or Refused)

How it works. There are two openings: the Knock of a stranger (``open_handshake.py``) and the Hello of a node of a
cluster whose nodes have keys (``peer_handshake.py``). Each names the cluster or network. Each side signs both opening
frames, byte for byte, under a context that names its role and the opening, and for the cluster. So a signature is good
for one cluster, one pair of keys in these roles, one pair of nonces and one pair of shares. It is worthless when it is
replayed (the other nonce is fresh), reflected (the role differs), or shown to a third (the key differs). The called
signs last, so a caller that proves nothing costs one check of a signature.

Whoever passes on every byte of a handshake learns nothing of the keys that seal what follows (``sealing.py``), since
both shares are signed: it can cut the connection, and that is all. (The shape is that of SIGMA, Krawczyk 2003, with the
names of both sides in what each signs.)

All of this is pure but for what is fresh: frames in, frames out. Whatever the bytes, nothing but Mismatch is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, NamedTuple, TypeAlias
from typing import Protocol as Interface

import msgspec

from quorate.parts.crypto.keys import to_sign
from quorate.runtime.handshake import Refused, refused
from quorate.runtime.keys import PUBLIC_BYTES, Ed25519Verifier
from quorate.runtime.sealing import NONCE_BYTES, SHARE_BYTES, Ephemeral, SealedChannel, sealed_channel

SIGNATURE_BYTES: Final = 64
REASON_CHARACTERS_MAX: Final = 200
"""What is repeated of a reason that the other side gave."""

PublicKey: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=PUBLIC_BYTES, max_length=PUBLIC_BYTES)]
Nonce: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
Share: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=SHARE_BYTES, max_length=SHARE_BYTES)]
Proven: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class Challenge(msgspec.Struct, frozen=True, array_like=True, tag="challenge"):
    """The called says who it is."""

    key: PublicKey
    nonce: Nonce
    share: Share


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


DECODE_ERRORS: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_encode = msgspec.msgpack.Encoder().encode
_decode_proof = msgspec.msgpack.Decoder(Proof).decode
_decode_challenge: Callable[[bytes], Challenge | Refused] = msgspec.msgpack.Decoder(Challenge | Refused).decode
_decode_admitted: Callable[[bytes], Admitted | Refused] = msgspec.msgpack.Decoder(Admitted | Refused).decode


class Roles(NamedTuple):
    """The contexts under which the two sides sign, other ones for each kind of opening."""

    dialler: str
    called: str


class Signs(Interface):
    """Who can sign: a Signer or a node's Keys, for the cluster or network."""

    cluster: str

    @property
    def public(self) -> bytes:
        """The public key."""

    def sign(self, context: str, message: bytes) -> bytes:
        """A signature for the cluster."""


class ProvingDialler:
    """The side that dials: send ``opening``, then what ``challenged`` returns; ``admitted`` ends it."""

    def __init__(self, me: Signs, roles: Roles, opening: bytes, fresh: Ephemeral, expected: bytes | None) -> None:
        """``expected``: the one key that will do; None: any."""
        self.opening = opening
        self.key = b""
        """The other side's, once it is challenged; proven when it is admitted."""
        self._me = me
        self._roles = roles
        self._fresh = fresh
        self._expected = expected
        self._transcript = b""
        self._secret = b""

    def challenged(self, frame: bytes) -> bytes:
        """The Proof for a Challenge. Raises Mismatch."""
        try:
            answer = _decode_challenge(frame)
        except DECODE_ERRORS as error:
            raise Mismatch("malformed", f"answered with no Challenge: {error}") from None
        if isinstance(answer, Refused):
            raise _said_no(answer)
        if answer.key == self._me.public:
            raise Mismatch("self", "it is this node itself")
        if self._expected not in (None, answer.key):
            raise Mismatch("key", f"it has another key, {answer.key.hex()}")
        self._secret = _agree(self._fresh, answer.share)
        self.key = answer.key
        self._transcript = _encode((self.opening, frame))
        return _encode(Proof(self._me.sign(self._roles.dialler, self._transcript)))

    def admitted(self, frame: bytes) -> SealedChannel:
        """Checks the last frame; what seals those that follow. Raises Mismatch."""
        try:
            answer = _decode_admitted(frame)
        except DECODE_ERRORS as error:
            raise Mismatch("malformed", f"did not admit us: {error}") from None
        if isinstance(answer, Refused):
            raise _said_no(answer)
        _check(self._me.cluster, self.key, self._roles.called, self._transcript, answer.signature)
        return sealed_channel(self._secret, self._transcript, is_dialler=True)


class ProvingCalled:
    """The side that is called. A subclass judges the opening frame, and calls ``_opened``; then send ``challenge``,
    and have ``proved`` judge the second frame."""

    def __init__(self, me: Signs, roles: Roles, fresh: Ephemeral) -> None:
        self.key = b""
        """The caller's, once it has opened; proven when ``proved`` returns."""
        self._me = me
        self._roles = roles
        self._fresh = fresh
        self._opening = b""
        self._share = b""
        self._challenge = _encode(Challenge(me.public, fresh.nonce, fresh.share))

    def _opened(self, frame: bytes, key: bytes, share: bytes) -> None:
        self._opening = frame
        self.key = key
        self._share = share

    def challenge(self) -> bytes:
        """What to answer an opening."""
        return self._challenge

    def proved(self, frame: bytes) -> None:
        """Checks the Proof. Raises Mismatch."""
        try:
            proof = _decode_proof(frame)
        except DECODE_ERRORS as error:
            raise Mismatch("malformed", f"your second frame is no Proof: {error}") from None
        _check(self._me.cluster, self.key, self._roles.dialler, self._transcript, proof.signature)

    def admission(self) -> bytes:
        """What to answer a Proof."""
        return _encode(Admitted(self._me.sign(self._roles.called, self._transcript)))

    def channel(self) -> SealedChannel:
        """What seals the frames that follow. Raises Mismatch for a share with which they would be anybody's."""
        return sealed_channel(_agree(self._fresh, self._share), self._transcript, is_dialler=False)

    @property
    def _transcript(self) -> bytes:
        return _encode((self._opening, self._challenge))


def _agree(fresh: Ephemeral, share: bytes) -> bytes:
    try:
        return fresh.agree(share)
    except ValueError as error:
        raise Mismatch("share", f"not a share to agree on keys with: {error}") from None


def _check(cluster: str, key: bytes, role: str, transcript: bytes, signature: bytes) -> None:
    try:
        is_right = Ed25519Verifier(key).verify(to_sign(cluster, role, transcript), signature)
    except ValueError as error:
        raise Mismatch("key", f"not a key to be known by: {error}") from None
    if not is_right:
        raise Mismatch("proof", "the signature is not by the key that you name, or not for this handshake")


def _said_no(answer: Refused) -> Mismatch:
    return Mismatch(answer.code, f"refused us: {answer.why[:REASON_CHARACTERS_MAX]!r}")
