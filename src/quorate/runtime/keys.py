"""Ed25519 (RFC 8032) behind the interface of ``parts/crypto/keys.py``. A secret is the 32-byte seed of the RFC.

The library gives the interpreter lock free while it checks, so a VerifyBatch in a worker thread does not hold up the
event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b, sha512
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from quorate.parts.crypto.keys import Keyring, Scheme, Signer, Verifier
from quorate.parts.crypto.zip215 import verify_zip215

SECRET_BYTES: Final = 32
PUBLIC_BYTES: Final = 32
_PRIME: Final = 2**255 - 19
_ANY_SECRET: Final = X25519PrivateKey.from_private_bytes(bytes(32))


def generate_secret() -> bytes:
    """A fresh one, from the system's source of randomness."""
    return Ed25519PrivateKey.generate().private_bytes_raw()


class Ed25519Signer(Signer):
    """Signs as one node, or as a client (None), with its secret."""

    def __init__(self, node: int | None, secret: bytes) -> None:
        """Raises ValueError unless the secret has 32 bytes."""
        self.node = node
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self._public = self._key.public_key().public_bytes_raw()

    @property
    def public(self) -> bytes:
        """As the base says."""
        return self._public

    def agree(self, public: bytes) -> bytes:
        """As the base says: X25519 (RFC 7748) between the same two keys in the curve's other form.

        The scalar is the one that RFC 8032, section 5.1.5, makes of the seed; the two curves are one group.
        """
        _check_length(public)  # else what is longer would pass for the key of the same number
        scalar = sha512(self._key.private_bytes_raw()).digest()[:32]
        shared = X25519PrivateKey.from_private_bytes(scalar).exchange(_other_form(public))
        return blake2b(shared, digest_size=32, person=b"quorate agreed").digest()

    def _sign(self, data: bytes) -> bytes:
        return self._key.sign(data)


class Ed25519Verifier(Verifier):
    """Checks against one public key."""

    def __init__(self, public: bytes) -> None:
        """Raises ValueError unless the key has 32 bytes and is one for which nobody can forge."""
        _check_length(public)
        if _has_small_order(public):
            raise ValueError("this public key belongs to no secret, and anybody could sign for it: make a new one")
        self._public = public
        self._key = Ed25519PublicKey.from_public_bytes(public)

    @property
    def public(self) -> bytes:
        """As the file has it."""
        return self._public

    def verify(self, data: bytes, signature: bytes) -> bool:
        """As the base says."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def verify_canonical(self, data: bytes, signature: bytes) -> bool:
        """As the base says, by ZIP-215."""
        return verify_zip215(self._public, data, signature)


def _check_length(public: bytes) -> None:
    if len(public) != PUBLIC_BYTES:
        raise ValueError(f"a public key has {PUBLIC_BYTES} bytes, not {len(public)}")


def _has_small_order(public: bytes) -> bool:
    """Whether eight times the point is zero: signatures "by" such a key can be made up, and zeros are one.

    RFC 7748 multiplies by eight and the library refuses to hand out a zero, so one exchange tells.
    """
    try:
        _ANY_SECRET.exchange(_other_form(public))
    except ValueError:
        return True
    return False


def _other_form(public: bytes) -> X25519PublicKey:
    """The point on the curve's other form, u = (1 + y) / (1 - y). Raises ValueError for the one that has none."""
    y = int.from_bytes(public, "little") % 2**255 % _PRIME
    if y == 1:
        raise ValueError("this public key is the zero of the curve")
    u = (1 + y) * pow(1 - y, -1, _PRIME) % _PRIME
    return X25519PublicKey.from_public_bytes(u.to_bytes(32, "little"))


def keyring_of(publics: Mapping[int, bytes], cluster: str = "") -> Keyring:
    """Node to public key. Raises ValueError for a key that is none, and for one that two nodes have."""
    return Keyring({node: Ed25519Verifier(public) for node, public in publics.items()}, Ed25519Verifier, cluster)


class Ed25519(Scheme):
    """Fresh keys for a group, in memory: for tests and benchmarks."""

    def __init__(self, nodes: Iterable[int], cluster: str = "") -> None:
        self.cluster = cluster
        self._signers = {node: Ed25519Signer(node, generate_secret()).within(cluster) for node in nodes}
        self._clients: dict[int, Ed25519Signer] = {}

    def signer(self, node: int) -> Ed25519Signer:
        """As the base says."""
        return self._signers[node]

    def client(self, number: int) -> Ed25519Signer:
        """As the base says."""
        return self._clients.setdefault(number, Ed25519Signer(None, generate_secret()).within(self.cluster))

    def keyring(self) -> Keyring:
        """As the base says."""
        return keyring_of({node: signer.public for node, signer in self._signers.items()}, self.cluster)
