"""What strangers may make a node hold: limits, and frames that do not end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

import msgspec

from quorate.parts.bounds import COUNT_MAX, COUNTS, FRAME_SIZES, GRACES, SIZES, TIMES, BoundedConfig, Bounds
from quorate.runtime.framing import FrameLimits
from quorate.runtime.waiting import Guest

MIB: Final = 1 << 20
TOO_SLOW: Final = "too slow"


class StrangerLimits(BoundedConfig, frozen=True):
    """Bounds and times. All nodes of a network need the same ``frame_size_bytes_max``."""

    bounds: ClassVar[Mapping[str, Bounds]] = {
        "inbound_max": Bounds(0, COUNT_MAX),
        "outbound_max": Bounds(0, COUNT_MAX),
        "callers_max": COUNTS,
        "callers_per_host_max": COUNTS,
        "frame_size_bytes_max": FRAME_SIZES,
        "unfinished_bytes_max": SIZES,
        "backlog_bytes_max": SIZES,
        "backlog_frames_max": COUNTS,
        "handshake_timeout_s": TIMES,
        "dead_after_s": TIMES,
        "close_grace_s": GRACES,
    }

    inbound_max: int = 64
    outbound_max: int = 16
    """Links that this node dialled, and dials under way."""
    callers_max: int = 64
    """Who has called and has not proved a key yet."""
    callers_per_host_max: int = 16
    frame_size_bytes_max: int = 4 * MIB
    unfinished_bytes_max: int = 64 * MIB
    """Received of frames that have begun and not ended, over all connections."""
    backlog_bytes_max: int = 8 * MIB
    """Sent to one link and not taken yet."""
    backlog_frames_max: int = 65536
    handshake_timeout_s: float = 5.0
    dead_after_s: float = 20.0
    close_grace_s: float = 1.0

    @property
    def frames(self) -> FrameLimits:
        """The part that each connection keeps."""
        return FrameLimits(self.frame_size_bytes_max, self.backlog_bytes_max, self.backlog_frames_max)


class StrangerCounters(msgspec.Struct):
    """What happened since the start."""

    calls: int = 0
    dials: int = 0
    met: int = 0
    parted: int = 0
    unmet: int = 0
    refusals: int = 0
    evictions: int = 0
    """Callers who had to make room for newer ones."""
    misbehaved: int = 0


class UnfinishedFrames:
    """What was received of frames that have not ended. Too much in all: the connection that is at it longest goes."""

    def __init__(self, size_bytes_max: int) -> None:
        self.size_bytes = 0
        self._size_bytes_max = size_bytes_max
        self._holding: dict[Guest, tuple[int, float]] = {}
        """How many bytes, and since when."""

    def hold(self, connection: Guest, size_bytes: int, is_new: bool) -> None:
        """So much of a frame waits for its end; ``is_new``: of another frame than before."""
        before, since = self._holding.pop(connection, (0, 0.0))
        if is_new or not before:
            since = connection.loop.time()
        self.size_bytes += size_bytes - before
        if size_bytes:
            self._holding[connection] = (size_bytes, since)
        if self.size_bytes > self._size_bytes_max:
            slowest = min(self._holding, key=lambda each: self._holding[each][1])
            self.size_bytes -= self._holding.pop(slowest)[0]
            slowest.cut(TOO_SLOW)
