"""Watchdog: tells when the event loop was held up, for how long and where.

How it works. A thread looks some twenty times a second whether the loop waits for something to do. If it does not, the
thread asks it to answer. An answer that is out for ``SUSPECT_S`` means that something runs for too long, and the thread
looks what that is; when the answer comes, it logs where the loop was, and for how long. So each stall of 100 ms is
seen, and none below ``SUSPECT_S`` is called one.

Waking is most of what an idle node costs. So the thread looks about once a second while it finds the loop
waiting: what holds up a loop that had nothing to do is seen for certain if it takes a second.

The thread cannot look while the loop's thread holds the interpreter (a long call of a C function), or while the whole
process is stopped; then it says that what it saw is what came afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from pathlib import Path
from traceback import walk_stack
from types import FrameType
from typing import Final

log = logging.getLogger("quorate.watchdog")

PERIOD_S: Final = 0.05
SUSPECT_S: Final = 0.05
"""With the period a tenth of a second: longer stalls cannot be missed."""
IDLE_PERIOD_S: Final = 0.9
LATE_S: Final = 0.05
"""A look that comes so much too late is no look at what held the loop up."""
FRAMES_MAX: Final = 8
OUTERMOST: Final = " _run"
"""What calls a callback in asyncio's own loop; the rest is the same always."""
IDLE_IN: Final = ("/selectors.py", "/asyncio/runners.py")
LOG_EVERY_S: Final = 10.0
"""The stalls in between are counted, and the longest is told with the next."""


class Watchdog:
    """Of one loop. ``start`` it on the loop's thread."""

    def __init__(self) -> None:
        self.stalls = 0
        """So many since the start."""
        self.longest_s = 0.0
        self._is_stopped = False
        self._thread: threading.Thread | None = None
        self._untold = 0
        self._untold_longest_s = 0.0
        self._told_at = -LOG_EVERY_S

    def start(self) -> None:
        """Watch the running loop."""
        loop, watched = asyncio.get_running_loop(), threading.get_ident()
        self._thread = threading.Thread(target=self._watch, args=(loop, watched), name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look away. Harmless twice, and without a start."""
        self._is_stopped = True

    def _watch(self, loop: asyncio.AbstractEventLoop, watched: int) -> None:
        answered = threading.Lock()
        answered.acquire()
        period_s = PERIOD_S
        while not self._is_stopped:
            time.sleep(period_s)
            if _is_idle(sys._current_frames().get(watched)):
                period_s = IDLE_PERIOD_S
                continue
            period_s = PERIOD_S
            asked_at = time.monotonic()
            try:
                loop.call_soon_threadsafe(answered.release)
            except RuntimeError:
                return  # the loop is closed
            if answered.acquire(timeout=SUSPECT_S):
                continue
            looked_at = time.monotonic()
            where = place_of(sys._current_frames().get(watched))
            if looked_at - asked_at > SUSPECT_S + LATE_S:
                where = f"unknown, in a long call of C code or with the process stopped; then in {where}"
            while not answered.acquire(timeout=1.0):
                if self._is_stopped or loop.is_closed():
                    return
            self.stalled(time.monotonic(), time.monotonic() - asked_at, where)

    def stalled(self, now: float, stall_s: float, where: str) -> None:
        """The loop was held up for so long."""
        self.stalls += 1
        self.longest_s = max(self.longest_s, stall_s)
        if now - self._told_at < LOG_EVERY_S:
            self._untold += 1
            self._untold_longest_s = max(self._untold_longest_s, stall_s)
            return
        more = ""
        if self._untold:
            more = f"; {self._untold} more stalls since the last report, of up to {self._untold_longest_s:.2f} s"
        log.warning("the event loop was held up for %.2f s in %s%s", stall_s, where, more)
        self._told_at, self._untold, self._untold_longest_s = now, 0, 0.0


def _is_idle(frame: FrameType | None) -> bool:
    """Whether the loop waits: in its selector, or in none of Python's functions but the one that runs it."""
    return frame is not None and frame.f_code.co_filename.endswith(IDLE_IN)


def place_of(frame: FrameType | None) -> str:
    """What a thread does, the innermost call first."""
    if frame is None:
        return "a thread that is gone"
    calls = []
    for caller, line in walk_stack(frame):
        file = Path(caller.f_code.co_filename)
        calls.append(f"{file.parent.name}/{file.name}:{line} {caller.f_code.co_name}")
        if len(calls) == FRAMES_MAX or calls[-1].endswith(OUTERMOST):
            break
    return " < ".join(calls)
