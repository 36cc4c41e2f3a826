"""Times as people write them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

_SECONDS: Final = re.compile(r"\d{1,10}(\.\d{1,9})?")


def parse_time(text: str) -> int:
    """Nanoseconds since 1970, of seconds since then or of ISO 8601 with its zone. Raises ValueError."""
    if _SECONDS.fullmatch(text):
        seconds, _, fraction = text.partition(".")
        return int(seconds) * 10**9 + int(fraction.ljust(9, "0"))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time: write 2026-12-01T10:30:00Z, or the seconds since 1970") from None
    if found.tzinfo is None:
        raise ValueError(f"{text!r} does not say in which zone: write {text}Z for UTC, or {text}+01:00")
    span = found - datetime(1970, 1, 1, tzinfo=UTC)
    if span.days < 0:
        raise ValueError(f"{text!r} is before 1970")
    return ((span.days * 86_400 + span.seconds) * 10**6 + span.microseconds) * 1000


def format_time(time_ns: int) -> str:
    """UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_ns // 10**9))
