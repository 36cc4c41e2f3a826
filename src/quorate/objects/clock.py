"""The time of a command, which is that of the log: every node sees the same, and it never goes back.

Only commands ask for it. A read is in no log, so what it tells of leases is when they end.
"""

from __future__ import annotations

from typing import Final

from quorate.machines.objects.context import now
from quorate.objects.arguments import check_span

LEASE_S_MAX: Final = 366 * 86_400.0


def seconds() -> float:
    """Seconds since 1970, by the log. Raises RuntimeError if it does not say."""
    return now().timestamp()


def lease_end(name: str, length_s: float) -> float:
    """When a lease ends that begins now. Raises TypeError and ValueError for a length that is not one.

    ``name`` is what the caller calls the length.
    """
    return seconds() + check_span(name, length_s, LEASE_S_MAX)
