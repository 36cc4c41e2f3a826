"""What a node finds about something that another one sent: taken, not yet, or wrong and by how much."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

POINTS_OF_A_BAN: Final = 100
"""Whoever sent something that only a liar sends has gathered enough of them to be parted with."""


class Ruling(msgspec.Struct, frozen=True, gc=False):
    """``later``: may become right with time; ``orphan``: its parent is unknown; ``bad``: never right."""

    kind: Literal["ok", "later", "orphan", "bad"] = "ok"
    why: str = ""
    points: int = 0
    """Against the sender: 0 for what an honest node may send, ``POINTS_OF_A_BAN`` for what none does."""
    poisons: bool = False
    """Whether what was sent is wrong under its own id, so that the id need never be looked at again. A wrong body under
    a good header is not: the right body may come yet."""

    @property
    def is_ok(self) -> bool:
        """Whether it was taken."""
        return self.kind == "ok"


OK: Final = Ruling()
