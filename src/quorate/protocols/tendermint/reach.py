"""Reach: whether the blocks that this node lacks are still in anybody's log.

A node that is asked for blocks which it has dropped says so (Forgotten). If nodes with more than a third of the power
do, a correct one among them, and nobody sends any for HELPLESS_BEATS, the node is stranded. An app that has a state can
take over no other, so a person has to empty it; then the node takes over another's.

Durable: Stranded, as an app that keeps nothing would run the blocks of this log again, and be no further.
"""

from __future__ import annotations

from typing import Final

from quorate.kernel import Env, mask_of
from quorate.protocols.tendermint.app_messages import BeyondReach
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.sync_messages import Forgotten, Stranded

HELPLESS_BEATS: Final = 25
EMPTY_APP: Final = "empty the app (the node's folder stays as it is), and start both again"


class Reach:
    """``stranded`` may be read."""

    def __init__(self, env: Env, committee: Committee) -> None:
        self._env = env
        self._committee = committee
        self.stranded: Stranded | None = None
        self._forgotten: dict[int, int] = {}
        """By node, where its log begins."""
        self._beats = 0

    @property
    def low(self) -> int:
        """The least height of a snapshot that would help; 0: blocks do."""
        return 0 if self.stranded is None else self.stranded.height + 1

    def restore(self, record: Stranded) -> None:
        """One that was durable."""
        self.stranded = record

    def on_forgotten(self, sender: int, m: Forgotten) -> None:
        """A node cannot help."""
        self._forgotten[sender] = m.base

    def is_at(self, height: int) -> None:
        """The log begins there now."""
        if height >= self.low:
            self.stranded = None

    def are_gone(self, need: int) -> bool:
        """Whether a correct node has dropped this height."""
        self._forgotten = {node: base for node, base in self._forgotten.items() if base >= need}
        return self._committee.quorum.is_blocking(mask_of(tuple(self._forgotten)))

    def beat(self, need: int) -> None:
        """``need``: the first height that is not here."""
        if not self.are_gone(need):
            self._beats = 0
            return
        self._beats += 1
        if self._beats == HELPLESS_BEATS:
            self._strand(need - 1)

    def _strand(self, height: int) -> None:
        if self.stranded is None:
            self.stranded = Stranded(height)
            self._env.persist(self.stranded)
        base = min(self._forgotten.values())
        why = f"the app is at height {height}, and the other nodes have dropped the blocks up to {base}"
        self._env.deliver(BeyondReach(f"{why}. What to do: {EMPTY_APP}: it takes over the state of another"))
