"""Submissions: what the App wants decided, until the core gets it.

How it works. Submissions that come while the journal is busy, or while the batch before them is undecided (for GATHER_S
at most), wait and go together: many clients thus share one turn, one fsync and one message a peer, the more the more
there are. A core that only passes them on (``Core.gathers``) gets them at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from quorate.kernel import Path, Submitted

GATHER_S = 0.005
"""How long submissions may wait for the batch before them. Longer than a decision takes on a local network, and short
against one that crosses a continent, where batches are to overlap."""
SUBMITTED_BYTES_MAX = 4 << 20
SUBMITTED_VALUES_MAX = 8192
"""What one turn takes of the App; more waits for the next. What a core makes of it, be it a record or a message, must
fit a journal frame of 64 MiB and a frame to a peer of 16 MiB, and a leader may get as much of each follower at once."""


class Submissions:
    """Those of one node, by the path of the core that they are for. ``wake`` is called when some may go later."""

    def __init__(self, wake: Callable[[], None], *, gathers: bool) -> None:
        self._wake = wake
        self._gathers = gathers
        self._values: dict[Path, list[bytes]] = {}
        self._undecided_since: float | None = None
        """When submissions last went to the core, unless outputs have come since."""
        self._gathering: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return bool(self._values)

    def add(self, values: Sequence[bytes], path: Path) -> None:
        """In line."""
        if values:
            self._values.setdefault(path, []).extend(values)

    def take_all(self) -> dict[Path, list[bytes]]:
        """What waits, by path; nothing does then."""
        taken, self._values = self._values, {}
        return taken

    def decided(self) -> None:
        """An output came: what waits for the batch before it may go."""
        self._undecided_since = None
        if self._values:
            self._wake()

    def take(self, *, is_quiet: bool) -> list[Submitted]:
        """What goes now; ``is_quiet`` says that all that was written is durable."""
        if not self._values or not self._may_go(is_quiet):
            return []
        self._undecided_since = time.monotonic()
        taken = [Submitted(self._take(path), path) for path in list(self._values)]
        if self._values:
            self._wake()
        return taken

    def _may_go(self, is_quiet: bool) -> bool:
        """If not, something that comes will wake the node."""
        if not self._gathers:
            return True
        if not is_quiet:
            return False
        if self._undecided_since is None:
            return True
        waits_until = self._undecided_since + GATHER_S
        if (now := time.monotonic()) >= waits_until:
            return True
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(waits_until - now, self._gathered)
        return False

    def _gathered(self) -> None:
        self._gathering = None
        self._wake()

    def _take(self, path: Path) -> tuple[bytes, ...]:
        """The oldest of a path, as many as fit a turn, but at least one; what is left makes another turn."""
        values = self._values[path]
        count = size_bytes = 0
        for value in values[:SUBMITTED_VALUES_MAX]:
            count += 1
            size_bytes += len(value)
            if size_bytes >= SUBMITTED_BYTES_MAX:
                break
        taken = tuple(values[:count])
        del values[:count]
        if not values:
            del self._values[path]
        return taken
