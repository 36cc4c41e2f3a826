"""VoteKeeper: the newest signed vote of each node, of one kind, and the certificate once a quorum votes alike.

For protocols in heights and rounds that say their last votes again. Of a node only its newest vote counts, and of two
in one round the first, so that what a liar can fill is bounded, and what it says in far rounds is its own loss.

A vote signs its height, its round and the digest of what it is for, under the kind as context.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from quorate.kernel import mask_of
from quorate.parts.crypto.keys import Keys
from quorate.parts.quorum import QuorumSystem
from quorate.parts.votes.certificate import Certificate, verify


class Kept(NamedTuple):
    """A vote whose signature is right."""

    height: int
    round: int
    digest: bytes
    signature: bytes


class VoteKeeper:
    """Votes of one ``kind``."""

    def __init__(self, kind: str, keys: Keys, quorum: QuorumSystem) -> None:
        self._kind = kind
        self._keys = keys
        self.quorum = quorum
        self._newest: dict[int, Kept] = {}

    def sign(self, height: int, round: int, digest: bytes) -> bytes:
        """This node's signature of a vote."""
        return self._keys.sign(self._kind, statement_of(height, round, digest))

    def keep(self, node: int, height: int, round: int, digest: bytes, signature: bytes) -> bool:
        """Whether there is nothing wrong with a vote of the node; it is kept if it is its newest."""
        known = self._newest.get(node)
        if known is not None and (height, round) <= (known.height, known.round):
            return True
        if not self._keys.verify(node, self._kind, statement_of(height, round, digest), signature):
            return False
        self._newest[node] = Kept(height, round, digest, signature)
        return True

    def certificates(self, height: int) -> Iterator[tuple[int, bytes, Certificate]]:
        """Round, digest and proof of what a quorum votes alike for at this height."""
        alike: dict[tuple[int, bytes], list[tuple[int, bytes]]] = {}
        for node, vote in sorted(self._newest.items()):
            if vote.height == height:
                alike.setdefault((vote.round, vote.digest), []).append((node, vote.signature))
        for (round, digest), signed in alike.items():
            if self.quorum.is_quorum(mask_of([node for node, _ in signed])):
                yield round, digest, Certificate(self._kind, statement_of(height, round, digest), tuple(signed))

    def proves(self, proof: Certificate | None, height: int, round: int, digest: bytes) -> bool:
        """Whether the certificate shows that a quorum voted so. No content of it raises."""
        if proof is None or (proof.context, proof.statement) != (self._kind, statement_of(height, round, digest)):
            return False
        return verify(proof, self._keys.keyring, self.quorum)


def statement_of(height: int, round: int, digest: bytes) -> bytes:
    """What a vote signs."""
    return msgspec.msgpack.encode((height, round, digest))
