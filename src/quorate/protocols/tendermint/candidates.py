"""Candidates: snapshots that others offered to a node that is behind, and what the others say of where the chain stood.

An offer is taken in if the chain was decided to stand there (``stands.py``). Headers leave some things out, so it may
be used only if nodes with more than a third of the power, a correct one among them, say that the chain stood there.
They need not have the snapshot: every node with the height in its log knows.

The best is the latest, then that of the highest format, then the one that most nodes have, as in CometBFT
(``statesync/snapshots.go``). But before that it is one of a node whose offers the app has rejected least often: else a
liar that goes on making up snapshots would always be tried first.

Bounds: OFFERS_MAX of each node, the latest; what a node says of a height for which it was not asked is dropped.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, TypeAlias

import msgspec

from quorate.kernel import mask_of
from quorate.parts.quorum import QuorumSystem
from quorate.protocols.tendermint.stands import KeptStand
from quorate.protocols.tendermint.sync_messages import OFFERS_MAX, SnapshotOffer, stand_digest

CandidateKey: TypeAlias = bytes
REJECTED_MAX: Final = 1 << 14
"""Of which one remembers that they are of no use."""

_encode: Final = msgspec.msgpack.Encoder().encode


class Candidate:
    """``sources``: who offered it, and would send its chunks."""

    def __init__(self, m: SnapshotOffer) -> None:
        self.snapshot = m.snapshot
        self.kept = KeptStand(m.stand, m.proof.commit)
        self.digest = stand_digest(m.stand)
        self.key = _key(m)
        self.sources: list[int] = []
        self.is_from_one = False
        """Whether all its chunks must come from one node, since with several it was wrong, and nobody knows whose."""

    @property
    def height(self) -> int:
        """After which the state is."""
        return self.snapshot.height


class Candidates:
    """Of one state sync. ``refused`` are nodes that lied, which nothing is taken from."""

    def __init__(self) -> None:
        self.refused: set[int] = set()
        self._known: dict[CandidateKey, Candidate] = {}
        self._rejected: set[CandidateKey] = set()
        self._faults: dict[int, int] = {}
        """By node, how many of its offers the app rejected."""
        self._formats: set[int] = set()
        self._digests: dict[int, dict[int, bytes]] = {}
        """By height and node, where the chain stood."""

    @property
    def known(self) -> list[Candidate]:
        """All that are proven, and not rejected."""
        return list(self._known.values())

    @property
    def heights(self) -> list[int]:
        """Of all that are known."""
        return sorted({candidate.height for candidate in self.known})

    def find(self, m: SnapshotOffer) -> Candidate | None:
        """The one that this offers, if it is known: then it need not be proven again."""
        return self._known.get(_key(m))

    def add(self, sender: int, m: SnapshotOffer) -> None:
        """It is proven; ``sender`` has it."""
        key = _key(m)
        if sender in self.refused or key in self._rejected or m.snapshot.format in self._formats:
            return
        candidate = self._known.setdefault(key, Candidate(m))
        if sender not in candidate.sources:
            candidate.sources.append(sender)
            self._drop_oldest(sender)
        self.said(sender, candidate.height, candidate.digest)

    def _drop_oldest(self, sender: int) -> None:
        its = [candidate for candidate in self.known if sender in candidate.sources]
        for candidate in sorted(its, key=_rank)[: max(0, len(its) - OFFERS_MAX)]:
            self.lose(candidate, sender)

    def said(self, sender: int, height: int, digest: bytes) -> None:
        """A node says where the chain stood."""
        if height in self.heights:
            self._digests.setdefault(height, {})[sender] = digest

    def best(self, quorum: QuorumSystem, is_urgent: bool) -> Candidate | None:
        """The one to try next. If it is not urgent, more than a third of the power must have it: an app that has begun
        with a snapshot cannot begin with the first block any more, and a liar alone must not bring that about."""
        usable = [
            candidate
            for candidate in self.known
            if quorum.is_blocking(self.vouching(candidate))
            and (is_urgent or quorum.is_blocking(mask_of(candidate.sources)))
        ]
        return max(usable, key=lambda candidate: (-self._faults_of(candidate), *_rank(candidate)), default=None)

    def _faults_of(self, candidate: Candidate) -> int:
        return min([self._faults.get(node, 0) for node in candidate.sources], default=0)

    def vouching(self, candidate: Candidate) -> int:
        """The mask of the nodes that say the chain stood there."""
        said = self._digests.get(candidate.height, {})
        return mask_of([node for node, digest in said.items() if digest == candidate.digest])

    # --- what is wrong ---

    def lose(self, candidate: Candidate, node: int) -> None:
        """A node does not have it any more."""
        if node in candidate.sources:
            candidate.sources.remove(node)
        if not candidate.sources:
            self._known.pop(candidate.key, None)

    def refuse(self, node: int) -> None:
        """A node lies: nothing that it has counts."""
        self.refused.add(node)
        for candidate in self.known:
            self.lose(candidate, node)

    def forget(self, candidate: Candidate) -> None:
        """Nobody sends it. It may be offered again."""
        self._known.pop(candidate.key, None)

    def reject(self, candidate: Candidate) -> None:
        """It is of no use."""
        for node in candidate.sources:
            self._faults[node] = self._faults.get(node, 0) + 1
        if len(self._rejected) < REJECTED_MAX:
            self._rejected.add(candidate.key)
        self._known.pop(candidate.key, None)

    def reject_format(self, format: int) -> None:
        """Nor is any other of this format."""
        self._formats.add(format)
        for candidate in self.known:
            if candidate.snapshot.format == format:
                self.reject(candidate)


def _key(m: SnapshotOffer) -> CandidateKey:
    """What is offered, and where the chain is said to have stood, without the proof."""
    return sha256(_encode(m.snapshot) + stand_digest(m.stand)).digest()


def _rank(candidate: Candidate) -> tuple[int, int, int, bytes]:
    snapshot = candidate.snapshot
    return (snapshot.height, snapshot.format, len(candidate.sources), snapshot.hash + candidate.digest)
