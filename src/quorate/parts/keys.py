"""Keys: who may sign, who checks, and a scheme that costs next to nothing for simulations.

How it works. A core gets a Signer, which signs as one node, and a Keyring, which knows how to check every node. Neither
shows a secret, so a lying core with its own Signer can repeat what others signed but cannot sign as them. What is
signed is a message under a context, one context a message kind: a vote is never taken for a proposal of the same bytes.
The signature binds neither cluster nor slot; a message that must not count elsewhere names them.

The real scheme, Ed25519, is in ``runtime/keys.py``. Symbolic here is for the simulator: its dealer holds all secrets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import Annotated, Any, Final, Self, TypeAlias

import msgspec
from msgspec import Meta

from quorate.kernel import NodeId

CONTEXT_BYTES_MAX: Final = 32
MESSAGE_BYTES_MAX: Final = 1 << 20
"""Of what is signed. Sign the digest of something larger."""
SIGNATURE_BYTES_MAX: Final = 96
"""Ed25519 has 64, BLS12-381 has 48 or 96."""
BATCH_ITEMS_MAX: Final = 63
"""As many as a mask of 64 bits without a sign can say something about."""

Context: TypeAlias = Annotated[str, Meta(min_length=1, max_length=CONTEXT_BYTES_MAX)]
Signature: TypeAlias = Annotated[bytes, Meta(max_length=SIGNATURE_BYTES_MAX)]

_PREFIX: Final = b"quorate signed\0"


def to_sign(context: str, message: bytes) -> bytes:
    """What a scheme signs. No two pairs of context and message give the same bytes.

    Raises ValueError for a context that is not 1 to 32 characters of ASCII, or a message of more than 1 MiB.
    """
    if not (1 <= len(context) <= CONTEXT_BYTES_MAX and context.isascii()):
        raise ValueError(f"a context has 1 to {CONTEXT_BYTES_MAX} characters of ASCII: {context[:40]!r}")
    if len(message) > MESSAGE_BYTES_MAX:
        raise ValueError(f"{len(message)} bytes to sign, at most {MESSAGE_BYTES_MAX}: sign their digest")
    return b"%b%c%b%b" % (_PREFIX, len(context), context.encode(), message)


class _Shared:
    """Never changes, so the copy of a Host shares it. Its repr shows no secret."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class Signer(_Shared, ABC):
    """Signs as one node."""

    node: int

    def sign(self, context: str, message: bytes) -> bytes:
        """The node's signature of the message under the context. Raises ValueError as ``to_sign`` does."""
        return self._sign(to_sign(context, message))

    @abstractmethod
    def _sign(self, data: bytes) -> bytes: ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.node})"


class Verifier(_Shared, ABC):
    """Checks the signatures of one node."""

    @property
    @abstractmethod
    def public(self) -> bytes:
        """What tells this key from others."""

    @abstractmethod
    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether the signature is this node's, of exactly what ``to_sign`` made. Never raises, whatever the bytes."""


class Signed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A claim: this node signed this message under this context."""

    node: NodeId
    context: Context
    message: Annotated[bytes, Meta(max_length=MESSAGE_BYTES_MAX)]
    signature: Signature


class VerifyBatch(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A job: check these claims off the loop, with ``Keyring.verify_batch``. Result: Verified.

    Raises ValueError for more than 63 of them; ``batches`` makes as many jobs as it takes.
    """

    items: Annotated[tuple[Signed, ...], Meta(max_length=BATCH_ITEMS_MAX)]

    def __post_init__(self) -> None:
        if len(self.items) > BATCH_ITEMS_MAX:
            raise ValueError(f"{len(self.items)} claims in a batch, at most {BATCH_ITEMS_MAX}")


class Verified(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The result of a VerifyBatch: bit i is set where item i holds."""

    mask: Annotated[int, Meta(ge=0, le=2**BATCH_ITEMS_MAX - 1)]


def batches(items: Sequence[Signed]) -> Iterator[VerifyBatch]:
    """The claims, in order, in jobs of at most 63."""
    for start in range(0, len(items), BATCH_ITEMS_MAX):
        yield VerifyBatch(tuple(items[start : start + BATCH_ITEMS_MAX]))


class Keyring(_Shared):
    """How to check every node's signatures."""

    def __init__(self, verifiers: Mapping[int, Verifier]) -> None:
        """Raises ValueError where two nodes have one key: one node would count as two."""
        self._verifiers = dict(sorted(verifiers.items()))
        owners: dict[bytes, int] = {}
        for node, verifier in self._verifiers.items():
            if owners.setdefault(verifier.public, node) != node:
                raise ValueError(f"nodes {owners[verifier.public]} and {node} have the same key: give each its own")

    def __repr__(self) -> str:
        return f"Keyring({list(self._verifiers)})"

    @property
    def nodes(self) -> tuple[int, ...]:
        """Whose signatures it can check, ascending."""
        return tuple(self._verifiers)

    def public(self, node: int) -> bytes:
        """A node's public key. Raises KeyError for a stranger."""
        return self._verifiers[node].public

    def verify(self, node: int, context: str, message: bytes, signature: bytes) -> bool:
        """Whether the node signed the message under the context. False, and no exception, for whatever is amiss."""
        verifier = self._verifiers.get(node)
        if verifier is None or len(signature) > SIGNATURE_BYTES_MAX:
            return False
        try:
            data = to_sign(context, message)
        except ValueError:
            return False
        return verifier.verify(data, signature)

    def verify_batch(self, batch: VerifyBatch) -> Verified:
        """Do the job, in whichever thread this is called."""
        mask = 0
        for position, item in enumerate(batch.items):
            mask |= self.verify(item.node, item.context, item.message, item.signature) << position
        return Verified(mask)


class Scheme(ABC):
    """The keys of a whole group, made in one place: for simulations and tests. Real nodes read theirs from files."""

    @abstractmethod
    def signer(self, node: int) -> Signer:
        """What this node alone may hold. Raises KeyError for a stranger."""

    @abstractmethod
    def keyring(self) -> Keyring:
        """What every node may hold."""


class Symbolic(Scheme):
    """A dealer whose signatures are keyed BLAKE2b: cheap, the same in every run, and not to be guessed.

    Signing and checking use the same secret, so this is safe only where the dealer and the keyring keep it to
    themselves: in one process, among cores that use what they were handed through its public methods.
    """

    def __init__(self, nodes: Iterable[int], seed: bytes = b"") -> None:
        self._secrets = {
            node: blake2b(b"%d" % node, key=blake2b(seed).digest(), digest_size=32).digest() for node in nodes
        }

    def signer(self, node: int) -> Signer:
        """As the base says."""
        return _SymbolicSigner(node, self._secrets[node])

    def keyring(self) -> Keyring:
        """As the base says."""
        return Keyring({node: _SymbolicVerifier(secret) for node, secret in self._secrets.items()})


class _SymbolicSigner(Signer):
    def __init__(self, node: int, secret: bytes) -> None:
        self.node = node
        self._secret = secret

    def _sign(self, data: bytes) -> bytes:
        return blake2b(data, key=self._secret, digest_size=32).digest()


class _SymbolicVerifier(Verifier):
    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @property
    def public(self) -> bytes:
        return blake2b(self._secret, digest_size=32, person=b"public").digest()

    def verify(self, data: bytes, signature: bytes) -> bool:
        return compare_digest(blake2b(data, key=self._secret, digest_size=32).digest(), signature)
