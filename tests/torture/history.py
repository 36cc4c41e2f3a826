"""Recorder: what clients asked and were told, in memory and line by line in a file that `quorate check` reads."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from quorate.sim.history import Event, format_event
from quorate.sim.history.events import EventType


class Recorder:
    """A history as it grows. The file has every event the moment that it happened; one thread writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[Event] = []
        self.counts: dict[EventType, int] = {"invoke": 0, "ok": 0, "fail": 0, "info": 0}
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._began_ns = time.monotonic_ns()

    @property
    def began_at(self) -> float:
        """When its times are 0, in seconds of the monotonic clock."""
        return self._began_ns / 1e9

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, type_: EventType, process: int, f: str, key: str, value: Any) -> None:
        """One event, now."""
        now_ns = time.monotonic_ns() - self._began_ns
        event = Event(type_, process, f, value, key, index=len(self.events), time=now_ns)
        self.events.append(event)
        self.counts[type_] += 1
        self._file.write(format_event(event) + "\n")
