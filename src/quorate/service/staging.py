"""Staging: a command that takes long is applied in steps, and whatever the log has after it waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from quorate.kernel import Requester
from quorate.kernel.app import Steps
from quorate.parts.log.entries import Entry
from quorate.service.requests import Apply
from quorate.service.sessions import Session

STAGE: Final = "stage"
"""The key of the App's timer."""
STAGE_S: Final = 0.001
"""Between two steps: others have their turn."""
FULL_S: Final = 1.0
"""Between two looks at a disk that is full."""


class Staging(NamedTuple):
    """The command, who waits for it, and the entries from ``next_index`` on that were decided together with it."""

    command: Apply
    session: Session
    waiting: tuple[Requester, int, int] | None
    steps: Steps
    next_index: int
    rest: Sequence[Entry]
