"""Certificate: a quorum's signed votes for one statement, which convinces whoever holds the keyring.

How it works. A Collector takes signatures one by one, whoever brings them, and makes the certificate when a quorum has
signed. A certificate from a peer is a claim until ``verify`` says True. Signatures are in the order of their nodes, so
that a certificate has one encoding; one that is out of order or too large cannot be made, nor decoded.

A statement is what each node signed: mostly a digest, together with the view, height or round it holds for. That it is
the statement which the protocol asks for is for the caller to compare.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from quorate.kernel import NODE_ID_MAX, NodeId, mask_of
from quorate.parts.crypto.keys import Context, Keyring, Signature, Signed, to_sign
from quorate.parts.quorum import QuorumSystem
from quorate.parts.wire import decode_canonical

STATEMENT_BYTES_MAX: Final = 4096
ENCODED_BYTES_MAX: Final = 1 << 17

Statement: TypeAlias = Annotated[bytes, Meta(max_length=STATEMENT_BYTES_MAX)]


class Certificate(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """These nodes signed the statement under the context: a claim, until it is verified.

    Raises ValueError where nodes are not strictly ascending, or the statement is too large.
    """

    context: Context
    statement: Statement
    signatures: Annotated[tuple[tuple[NodeId, Signature], ...], Meta(max_length=NODE_ID_MAX + 1)]

    def __post_init__(self) -> None:
        if len(self.statement) > STATEMENT_BYTES_MAX:
            raise ValueError(_too_large(self.statement))
        if any(one >= two for (one, _), (two, _) in pairwise(self.signatures)):
            raise ValueError("the nodes of a certificate must be in ascending order, each once")

    def nodes(self) -> tuple[int, ...]:
        """Who is said to have signed, ascending."""
        return tuple([node for node, _ in self.signatures])

    def signed(self) -> tuple[Signed, ...]:
        """The claims in it, for a VerifyBatch; ``has_quorum`` is to be asked besides."""
        return tuple([Signed(node, self.context, self.statement, signature) for node, signature in self.signatures])


def _too_large(statement: bytes) -> str:
    return f"a statement of {len(statement)} bytes, at most {STATEMENT_BYTES_MAX}: use a digest"


def has_quorum(certificate: Certificate, quorum: QuorumSystem) -> bool:
    """Whether those said to have signed are members, and a quorum of them. Looks at no signature."""
    nodes = certificate.nodes()
    if not nodes or nodes[0] < 0 or nodes[-1] > NODE_ID_MAX:
        return False
    mask = mask_of(nodes)
    return mask & ~quorum.members == 0 and quorum.is_quorum(mask)


def verify(certificate: Certificate, keyring: Keyring, quorum: QuorumSystem) -> bool:
    """Whether a quorum signed, and every signature is right. Cheap checks first; no content makes it raise."""
    return has_quorum(certificate, quorum) and all(
        keyring.verify(node, certificate.context, certificate.statement, signature)
        for node, signature in certificate.signatures
    )


def encode_certificate(certificate: Certificate) -> bytes:
    """The one encoding of it, in msgpack."""
    return msgspec.msgpack.encode(certificate)


def decode_certificate(data: bytes | memoryview) -> Certificate:
    """What ``encode_certificate`` made, still to be verified. Raises ValueError for anything else."""
    return decode_canonical(data, _decode, ENCODED_BYTES_MAX, "no certificate")


_decode: Final = msgspec.msgpack.Decoder(Certificate).decode


class Collector:
    """Gathers the signatures of one statement. ``certificate`` is None until a quorum has signed, and then stays."""

    __slots__ = ("_blame", "_keyring", "_mask", "_quorum", "_signatures", "certificate", "context", "statement")

    def __init__(
        self, context: str, statement: bytes, keyring: Keyring, quorum: QuorumSystem, blame: Callable[[int, str], None]
    ) -> None:
        """``blame(node, why)``: as ``Env.blame``. Raises ValueError for a statement that nobody could sign."""
        to_sign("", context, statement)
        if len(statement) > STATEMENT_BYTES_MAX:
            raise ValueError(_too_large(statement))
        self.certificate: Certificate | None = None
        self.context = context
        self.statement = statement
        self._keyring = keyring
        self._quorum = quorum
        self._blame = blame
        self._mask = 0
        self._signatures: dict[int, bytes] = {}

    def add(self, node: int, signature: bytes, sender: int | None = None) -> bool:
        """Take the signature of ``node``; True only for the one that completes the certificate.

        A second one of the same node is ignored. A wrong one is blamed on ``sender``, who brought it (the node itself,
        if not given): a liar must not get others blamed by inventing their signatures.
        """
        if self._done_with(node):
            return False
        bringer = node if sender is None else sender
        if not self._has_vote(node):
            self._blame(bringer, f"sent a {self.context} signature of a node that has no vote")
            return False
        if not self._keyring.verify(node, self.context, self.statement, signature):
            self._blame(bringer, f"sent a {self.context} signature that is wrong")
            return False
        return self._take(node, signature)

    def nodes(self) -> tuple[int, ...]:
        """Whose signatures it has, in the order in which they came."""
        return tuple(self._signatures)

    def add_verified(self, node: int, signature: bytes) -> bool:
        """As ``add``, for a signature that a VerifyBatch found right for this context and statement."""
        if self._done_with(node) or not self._has_vote(node):
            return False
        return self._take(node, signature)

    def _done_with(self, node: int) -> bool:
        return self.certificate is not None or node in self._signatures

    def _has_vote(self, node: int) -> bool:
        return node >= 0 and bool(self._quorum.members >> node & 1)

    def _take(self, node: int, signature: bytes) -> bool:
        self._signatures[node] = signature
        self._mask |= 1 << node
        if not self._quorum.is_quorum(self._mask):
            return False
        self.certificate = Certificate(self.context, self.statement, tuple(sorted(self._signatures.items())))
        return True
