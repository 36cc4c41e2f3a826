"""The trace of a run: one line an event, for people.

12.345678  n3   receive     from n1      AppendEntries(term=4, ...)
"""

from collections.abc import Callable
from typing import Any

TEXT_CHARS_MAX = 200


class Trace:
    """Writes lines to ``sink``."""

    def __init__(self, sink: Callable[[str], None]) -> None:
        self._sink = sink

    def line(self, now: float, node: int | None, event: str, subject: Any, what: Any) -> None:
        """One event. ``subject`` is what it is about, a peer as its number."""
        who = "--" if node is None else f"n{node}"
        about = f"n{subject}" if isinstance(subject, int) else str(subject)
        text = what if isinstance(what, str) else repr(what)
        if len(text) > TEXT_CHARS_MAX:
            text = text[: TEXT_CHARS_MAX - 3] + "..."
        self._sink(f"{now:12.6f}  {who:<4}{event:<11} {about:<13} {text}".rstrip())
