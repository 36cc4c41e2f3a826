"""Trimming: how much of the log a node with an app may drop.

All of these must allow it:

- The app needs no blocks below ``retain_height``, as it said with its last Commit. One that says nothing keeps all; so
  does one that keeps its state in memory, if it knows what it does.
- Evidence may still be of the heights that are kept: their headers and validators are judged by.
- Nodes with more than two thirds of the power have a snapshot of the height where the log would begin, or of a later
  one. So correct nodes with more than a third have; a node that is behind finds one that is up, and the blocks after it
  in every log.

The last rule goes beyond CometBFT, which drops what the app lets go, be there a snapshot or not.

Which snapshot is the newest of a node's app, it says itself (NewestSnapshot), when that changes, and again now and
then.
"""

from __future__ import annotations

from typing import Final

from quorate.kernel import Env
from quorate.protocols.tendermint.app_snapshots import AppSnapshots
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.evidence_pool import EvidencePool
from quorate.protocols.tendermint.sync_messages import NewestSnapshot

TELL_BEATS: Final = 8


class Trimming:
    """``newest``: by node, the height of its newest snapshot. ``retain_height``: as the app said last; 0: keep all."""

    def __init__(self, env: Env, chain: Chain, evidence: EvidencePool, snapshots: AppSnapshots) -> None:
        self._env = env
        self._chain = chain
        self._evidence = evidence
        self._snapshots = snapshots
        self.newest: dict[int, int] = {}
        self.retain_height = 0
        self._beats = 0

    def beat(self) -> None:
        """Tell the others."""
        own = max(self._snapshots.offered, default=0)
        self._beats += 1
        if own and (self._beats >= TELL_BEATS or own != self.newest.get(self._env.id)):
            self._beats = 0
            self.newest[self._env.id] = own
            self._env.send(self._env.others, NewestSnapshot(own))

    def on_newest_snapshot(self, sender: int, m: NewestSnapshot) -> None:
        """Of a node's app."""
        self.newest[sender] = m.height

    def base_max(self) -> int:
        """The highest height after which the log may begin."""
        return min(self.retain_height, self._evidence.oldest, self.helped + 1) - 1

    @property
    def helped(self) -> int:
        """The height at or above which more than two thirds of the power have a snapshot."""
        return self._chain.committee.quorum.reached(self.newest)
