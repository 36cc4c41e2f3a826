"""Holding: the snapshots that travel to other nodes, which are kept as long as they do.

A snapshot may take longer to arrive than the next ones take to come. So the one that a node was offered, or fetches, is
*held*: its file stays, and so does the order after it, with its batches, which the node needs next (``images.py``,
``history.py``). Otherwise a node that is behind would never catch up under load: each transfer would be void before its
end, or the order behind it gone.

Nobody makes others hold much. For each node it is one snapshot; of all that are held there are at most f + 1, so that
f nodes that lie leave room for an honest one; and behind none is more held than ``hold_bytes_max``. It ends a minute
after the node asked for anything of it. Nothing of this is durable: after a restart the transfer goes on from another
node that holds the snapshot, or begins anew.
"""

from __future__ import annotations

from quorate.kernel import Env
from quorate.protocols.pbft.messages import Image
from quorate.protocols.pbft.view import CurrentView

HELD_S = 60.0
"""How long a snapshot is held after a node asked for it: it may have been cut off, or have another source."""


class Holding:
    """For whom which snapshot is held."""

    def __init__(self, env: Env, view: CurrentView) -> None:
        self._env = env
        self._view = view
        self._held: dict[int, tuple[int, float]] = {}
        """By node, the snapshot's sequence number, and when it was asked for last."""

    def of(self, node: int) -> int | None:
        """The number of the one that is held for this node."""
        self._drop_old()
        held = self._held.get(node)
        return None if held is None else held[0]

    @property
    def numbers(self) -> set[int]:
        """The numbers of all that are held."""
        self._drop_old()
        return {sequence for sequence, _ in self._held.values()}

    def offered(self, node: int, image: Image) -> None:
        """It may be the one that the node will fetch, unless that fetches another."""
        if self.of(node) is None:
            self.fetches(node, image)

    def fetches(self, node: int, image: Image) -> None:
        """The node fetches this one, and no other."""
        self._held.pop(node, None)
        others = self.numbers
        if image.sequence in others or len(others) <= self._view.group.quorum.faults:
            self._held[node] = (image.sequence, self._env.now)

    def follows(self, node: int) -> None:
        """The node fetches what was ordered after the snapshot."""
        if (sequence := self.of(node)) is not None:
            self._held[node] = (sequence, self._env.now)

    def release(self, node: int) -> None:
        """The node needs it no more, or it cannot be read."""
        self._held.pop(node, None)

    def _drop_old(self) -> None:
        now = self._env.now
        self._held = {node: held for node, held in self._held.items() if now - held[1] < HELD_S}
