"""Tokens: what `quorate members add` prints, and with which one node joins a cluster once.

How it works. A token has the name of the cluster, the number that the node is to have, and a secret, whose lock the log
has (``parts/log/configuration.py``): where nodes only crash the secret's hash, where they may lie the public key that
belongs to it. With the secret the one that joins has itself introduced, and since it signs with it where nodes may lie,
no node that it asks can use the token in its place. There an administrator also signs the token, together with how many
nodes may lie: whoever joins learns from it how many must agree, and takes no node's word for it.

As text it is base64 with a checksum, so that a character that was lost in copying is noticed. Whoever has the text can
use it: it is for the one who starts the new node.
"""

from __future__ import annotations

import base64
import binascii
import os
from hashlib import blake2b
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quorate.kernel import NODE_ID_MAX, NodeId
from quorate.parts.crypto.keys import Signer, to_sign
from quorate.parts.log.configuration import invitation_lock
from quorate.parts.wire import decode_canonical
from quorate.runtime.handshake import ClusterName

PREFIX: Final = "quorate-"
CHARACTERS_MAX: Final = 2048
SECRET_BYTES: Final = 32
CHECKSUM_BYTES: Final = 8
CONTEXT: Final = "join token"
AGAIN: Final = "copy all that `quorate members add` printed, or have it print another"


class TokenError(ValueError):
    """It cannot be used; the text says why, and what to do."""


class Token(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """``faults``: how many nodes may lie. ``admin``: the public key of who signed, where they may; otherwise empty."""

    cluster: ClusterName
    node: NodeId
    secret: Annotated[bytes, Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
    faults: Annotated[int, Meta(ge=0, le=NODE_ID_MAX)] = 0
    admin: Annotated[bytes, Meta(max_length=SECRET_BYTES)] = b""
    signature: Annotated[bytes, Meta(max_length=64)] = b""

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Token({self.cluster!r}, {self.node})"

    @property
    def is_signed(self) -> bool:
        """Whether it is one for nodes that may lie."""
        return bool(self.admin)

    @property
    def lock(self) -> bytes:
        """What the log has of its invitation."""
        return self.signer().public if self.is_signed else invitation_lock(self.secret)

    def signer(self) -> Signer:
        """What the one that joins signs with, where nodes may lie."""
        from quorate.runtime.keys import Ed25519Signer  # most clusters need none

        return Ed25519Signer(None, self.secret)

    def is_by_admin(self) -> bool:
        """Whether the administrator whom it names has signed it."""
        from quorate.runtime.keys import Ed25519Verifier

        try:
            verifier = Ed25519Verifier(self.admin)
        except ValueError:
            return False
        return verifier.verify(to_sign(self.cluster, CONTEXT, _signed_part(self)), self.signature)


def new_token(cluster: str, node: int, faults: int, admin: Signer | None) -> Token:
    """A fresh one. ``admin``: who signs, where nodes may lie."""
    secret = os.urandom(SECRET_BYTES)
    if admin is None:
        return Token(cluster, node, secret)
    token = Token(cluster, node, secret, faults, admin.public)
    return msgspec.structs.replace(token, signature=admin.within(cluster).sign(CONTEXT, _signed_part(token)))


def to_text(token: Token) -> str:
    """As one word."""
    data = _encode(token)
    return PREFIX + base64.urlsafe_b64encode(data + _checksum(data)).decode().rstrip("=")


def read_token(text: str) -> Token:
    """The token in a text, whose signature is right if it has one. Raises TokenError."""
    word = text.strip()
    if not word.startswith(PREFIX) or len(word) > CHARACTERS_MAX:
        raise TokenError(f"this is not a token, which begins with {PREFIX}: {AGAIN}")
    body = word[len(PREFIX) :]
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):  # of characters outside ASCII
        raise _damaged() from None
    data, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if _checksum(data) != checksum:
        raise _damaged()
    try:
        token: Token = decode_canonical(data, _decode, CHARACTERS_MAX, "no token of this release")
    except ValueError as error:
        raise TokenError(f"{error}: run the release that printed it, or {AGAIN}") from None
    if to_text(token) != word:  # Python reads "/" as "_" too, and whatever the spare bits of the end are
        raise _damaged()
    if token.is_signed and not token.is_by_admin():
        raise TokenError(f"this token is not signed by the administrator whom it names: {AGAIN}")
    return token


def _signed_part(token: Token) -> bytes:
    return _encode((token.node, token.faults, token.signer().public))


def _damaged() -> TokenError:
    return TokenError(f"this token is damaged, a character is missing or another: {AGAIN}")


def _checksum(data: bytes) -> bytes:
    return blake2b(data, digest_size=CHECKSUM_BYTES, person=b"quorate token").digest()


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Token).decode
