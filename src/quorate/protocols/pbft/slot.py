"""Slot: one sequence number in one view, what is proposed there and who prepared. Forgotten when the view ends.

Each node has one vote a kind: its first that is rightly signed. That bounds what a liar can make us keep.
"""

from __future__ import annotations

from quorate.parts.quorum import Byzantine
from quorate.parts.votes.certificate import Certificate, Collector
from quorate.protocols.pbft.messages import PrePrepare


class Slot:
    """``digest`` is what this node accepted here; None while it has not."""

    __slots__ = (
        "collectors",
        "digest",
        "prepare_of",
        "prepared",
        "proposal",
        "proposals",
        "sent_at",
        "sequence",
        "unchecked",
        "waiting",
    )

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.digest: bytes | None = None
        self.proposal = b""
        """The primary's signature of it."""
        self.proposals: dict[bytes, bytes] = {}
        """What backups prepared: by digest, the primary's signature of it. It is one digest, or the primary lies."""
        self.waiting: PrePrepare | None = None
        """A pre-prepare whose requests are being checked, and by which jobs."""
        self.unchecked: set[int] = set()
        self.prepare_of: dict[int, bytes] = {}
        self.collectors: dict[bytes, Collector] = {}
        self.prepared: Certificate | None = None
        self.sent_at = 0.0


class Commits:
    """Who committed what at one sequence number, in whatever view: a quorum that says the same has decided.

    This outlives views. A node that has left a view does not vote there any more, but what the others decide in it is
    decided for it too. Of each node the commit of its highest view counts.
    """

    __slots__ = ("_quorum", "_said", "_told", "decided")

    def __init__(self, quorum: Byzantine) -> None:
        self._quorum = quorum
        self._told: dict[int, bytes] = {}
        self._said: dict[int, tuple[int, bytes]] = {}
        self.decided: bytes | None = None
        """The digest of the batch."""

    def known(self, node: int) -> tuple[int, bytes]:
        """View and digest of the node's commit; below all views where there is none."""
        return self._said.get(node, (-1, b""))

    def add(self, node: int, view: int, digest: bytes) -> None:
        """Count one that is not below what the node said before."""
        self._said[node] = (view, digest)
        if self.decided is None and self._quorum.is_quorum(self._alike(view, digest)):
            self.decided = digest

    def _alike(self, view: int, digest: bytes) -> int:
        """The mask of those who committed this in this view. Commits of two views never add up: that some prepared a
        batch in one and some in another keeps no later view from choosing another."""
        mask, this = 0, (view, digest)
        for node, said in self._said.items():
            if said == this:
                mask |= 1 << node
        return mask

    def tell(self, node: int, digest: bytes) -> bool:
        """A node executed it. False where it said otherwise before."""
        if self._told.setdefault(node, digest) != digest:
            return False
        if self.decided is None:
            mask = sum(1 << n for n, told in self._told.items() if told == digest)
            if self._quorum.weak.is_quorum(mask):
                self.decided = digest
        return True
