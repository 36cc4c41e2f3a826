"""Sealing: frames of a connection, encrypted and authenticated under keys that its two sides agreed on.

How it works. Each side makes a fresh X25519 key (RFC 7748) for one handshake. The secret that both come to, and the
transcript of the handshake, make one key for each direction. Under it each frame is sealed with AES-256-GCM (NIST SP
800-38D); the nonce is the number of the frame, so that a frame that was changed, left out, repeated or put elsewhere
does not open. Keys live as long as the connection.

Why it encrypts: a MAC alone costs more here (docs/adr/0015).
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES: Final = 32
SHARE_BYTES: Final = 32
_COUNT_BYTES: Final = 12


class Ephemeral:
    """What one side makes for one handshake, and uses for no other: a nonce, and a key to agree on a secret.

    ``nonce`` and ``secret``, of 32 bytes each, are for tests; else they come from the system's source of randomness.
    """

    def __init__(self, nonce: bytes | None = None, secret: bytes | None = None) -> None:
        self.nonce = secrets.token_bytes(NONCE_BYTES) if nonce is None else nonce
        self._private = X25519PrivateKey.from_private_bytes(secret or secrets.token_bytes(32))
        self.share = self._private.public_key().public_bytes_raw()
        """The public half."""

    def agree(self, share: bytes) -> bytes:
        """The secret of this one and the other side's. Raises ValueError for a share that makes it anybody's."""
        return self._private.exchange(X25519PublicKey.from_public_bytes(share))


class Seal:
    """Seals the frames of one direction, in order."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._count = 0

    def __call__(self, payload: bytes) -> bytes:
        """The frame of a payload."""
        self._count += 1
        return self._cipher.encrypt(self._count.to_bytes(_COUNT_BYTES, "big"), payload, None)


class Unseal:
    """Opens the frames of one direction, in order."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._count = 0

    def __call__(self, frame: bytes) -> bytes:
        """The payload in a frame. Raises ValueError for anything but the next frame that the other side sealed."""
        self._count += 1
        try:
            payload = self._cipher.decrypt(self._count.to_bytes(_COUNT_BYTES, "big"), frame, None)
        except InvalidTag:
            payload = b""
        if not payload:
            raise ValueError(f"frame {self._count} was not sealed by the other side of the handshake")
        return payload


class SealedChannel(NamedTuple):
    """The two directions of one connection, as one side has them."""

    seal: Seal
    unseal: Unseal


def sealed_channel(secret: bytes, transcript: bytes, *, is_dialler: bool) -> SealedChannel:
    """Of the secret that both sides agreed on, in a handshake in which they saw this."""
    dialler, called = (_key(secret, transcript, person) for person in (b"dialler", b"called"))
    return SealedChannel(Seal(dialler), Unseal(called)) if is_dialler else SealedChannel(Seal(called), Unseal(dialler))


def _key(secret: bytes, transcript: bytes, person: bytes) -> bytes:
    return blake2b(transcript, key=secret, person=person, digest_size=32).digest()
