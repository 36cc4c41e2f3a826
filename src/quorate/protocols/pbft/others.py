"""Others: the nodes but this one. Whom to send to, whom to ask, whom to blame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quorate.kernel import Env


class Others:
    """Those that this node knows now."""

    def __init__(self, env: Env) -> None:
        self._env = env

    def send(self, message: Any) -> None:
        """To all of them."""
        self._env.send(self._env.others, message)

    def any_one(self, among: Sequence[int] | None = None) -> int:
        """One by chance, of these or of all, to ask for something; this node itself if there is no other."""
        others = self._env.others if among is None else among
        return others[int(self._env.rng.random() * len(others))] if others else self._env.id

    def blame(self, node: int, why: str) -> None:
        """Drop what it sent, and say why. This node never blames itself."""
        if node != self._env.id:
            self._env.blame(node, why)

    def suspect(self, node: int, why: str) -> None:
        """It left out what it should have done, or cannot do it now."""
        if node != self._env.id:
            self._env.suspect(node, why)
