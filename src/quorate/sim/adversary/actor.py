"""Who plays which lie when: the liars of one node, some at a time, others later."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final

from quorate.kernel import Received, Turn
from quorate.sim.adversary.liar import Liar, Means, to_others
from quorate.sim.options import OptionsError

EVERY_S: Final = 1.0
"""How long one set of liars is active, on average."""
AT_ONCE_MAX: Final = 3
SHARE: Final = 0.5
"""Of the runs that may have a liar, those that do."""
SURE: Final = 0.95
"""The same where what it needs is there."""
PATIENT: Final = 0.85
"""Of those, the runs in which they do nothing else: nobody falls behind where a liar keeps all from going on."""


class Adversary:
    """A function from Turn to Turn that changes over time. ``kinds`` are the liars that this node may be.

    Each run has its own selection of them (swarm testing), each stretch of time one to three of these. With one kind
    alone it is always that one. Those that wait for something rare are active all the time. Those that lie to nodes
    which catch up are there nearly always in a run with many of these (``laggards``).
    """

    def __init__(self, kinds: Sequence[type[Liar]], means: Means, *, laggards: bool = False) -> None:
        self.means = means
        shares = {kind: SURE if laggards and kind.needs_laggards else SHARE for kind in kinds}
        chosen = [kind for kind, share in shares.items() if means.chance(share)] or list(kinds)
        self.kinds = [kind for kind in chosen if not kind.is_rare]
        self.waiting = [kind(means) for kind in chosen if kind.is_rare]
        if laggards and self.waiting and means.chance(PATIENT):
            self.kinds = []
        self.liars: list[Liar] = []
        self._until = 0.0

    def act(self, turn: Turn, now: float, core: Any) -> Turn:
        """What the world gets to see of a Turn. ``now`` in virtual seconds."""
        means = self.means
        means.now, means.core = now, core
        if now >= self._until:
            self._switch(now)
        for send in (*turn.early, *turn.sends):
            others, _ = to_others(send, means.node)
            if others is not None:
                means.said.append(others)
        for liar in self.liars:
            turn = _ask(liar, liar.lie, turn)
        return turn

    def hear(self, item: Received) -> None:
        """A message of another node came in."""
        self.means.heard.append(item)
        for liar in self.liars:
            _ask(liar, liar.hear, item)

    def answer(self, response: Any) -> Any:
        """What a client is told; None: nothing."""
        for liar in self.liars:
            if response is None:
                return None
            response = _ask(liar, liar.answer, response)
        return response

    def _switch(self, now: float) -> None:
        means = self.means
        self._until = now + EVERY_S * (0.1 + 2.0 * means.rng.random())
        count = 1 + int(means.rng.random() * AT_ONCE_MAX)
        chosen: list[type[Liar]] = []
        for _ in range(count if self.kinds else 0):
            kind = means.pick(self.kinds)
            if kind not in chosen:
                chosen.append(kind)
        self.liars = [*self.waiting, *(kind(means) for kind in chosen)]


def _ask(liar: Liar, ask: Callable[[Any], Any], about: Any) -> Any:
    """What a liar makes of it. Raises OptionsError where one from a file raises anything."""
    try:
        return ask(about)
    except Exception as error:  # whatever the author of a liar got wrong
        if not liar.is_brought:
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.name}, {frame.filename.rpartition('/')[2]}:{frame.lineno}"
        raise OptionsError(f"the liar {liar.name} raised {type(error).__name__}: {error} ({place})") from error
