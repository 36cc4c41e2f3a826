"""Callbacks: functions that want to hear of something. They are never called on a node's own loop, which must not wait.

Without an event loop of their program's they are called in a thread of their own, with one they are called there; one
after another in either case, in the order in which things happened. What one raises is logged, and the next is called.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TypeVar

log = logging.getLogger("quorate.objects")
F = TypeVar("F", bound=Callable[..., object])
PENDING_MAX: Final = 1000
"""A callback that hangs must not make the news pile up; what comes beyond that is dropped, and it is logged."""


class Callbacks:
    """``tell`` may be called in any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._functions: list[Callable[..., object]] = []
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def add(self, function: F) -> F:
        """From now on it hears; the function itself, so that this can stand as a decorator above it."""
        self._functions.append(function)
        return function

    def on_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Where to call; None: in a thread."""
        self._loop = loop

    def tell(self, value: Any) -> None:
        """Have every function called with it, soon."""
        if not self._functions:
            return
        if self._loop is not None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._call, value)
            return
        if self._queue.qsize() >= PENDING_MAX:
            log.error("%s: %d calls wait, and this one is dropped: %r", self._name, PENDING_MAX, value)
            return
        self._queue.put(value)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            self._call(self._queue.get())
            with self._lock:
                if self._queue.empty():
                    self._thread = None
                    return

    def _call(self, value: Any) -> None:
        for function in list(self._functions):
            try:
                function(value)
            except Exception:
                log.exception("%s: %r failed", self._name, function)
