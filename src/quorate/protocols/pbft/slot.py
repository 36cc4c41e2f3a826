"""Slot: one sequence number in one view, what is proposed there and who voted. Forgotten when the view ends.

Each node has one vote a kind: its first. That bounds what a liar can make us keep, and a second that differs shows it.
"""

from __future__ import annotations

from quorate.parts.certificate import Certificate, Collector
from quorate.protocols.pbft.messages import PrePrepare


class Slot:
    """``digest`` is what this node accepted here; None while it has not."""

    __slots__ = (
        "collectors",
        "commit_of",
        "digest",
        "is_committed",
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
        self.proposals: dict[bytes, tuple[int, bytes]] = {}
        """What backups say that the primary proposed, before this node accepts: by digest, who and its signature."""
        self.waiting: PrePrepare | None = None
        """A pre-prepare whose requests are being checked, and in how many jobs."""
        self.unchecked = 0
        self.prepare_of: dict[int, bytes] = {}
        self.commit_of: dict[int, bytes] = {}
        self.collectors: dict[bytes, Collector] = {}
        self.prepared: Certificate | None = None
        self.is_committed = False
        self.sent_at = 0.0

    def committers(self) -> int:
        """The mask of nodes that committed what this node accepted."""
        mask = 0
        for node, digest in self.commit_of.items():
            if digest == self.digest:
                mask |= 1 << node
        return mask
