"""The time of a command, which is that of the log: every node sees the same, and it never goes back.

Where nodes may lie it is what some caller says, and one that names next year would end every lease and every span. So
there whatever depends on it is refused, here.

Only commands ask for it. A read is in no log, so what it tells of leases is when they end.
"""

from __future__ import annotations

from typing import Final

from quorate.machines.objects.context import is_time_trusted, now
from quorate.machines.objects.kinds import register_type
from quorate.objects.arguments import check_span

LEASE_S_MAX: Final = 366 * 86_400.0


class NoTrustedTime(Exception):
    """What was asked for depends on the time, which nobody can be believed about in this cluster."""


register_type(NoTrustedTime, name="quorate.objects.NoTrustedTime")


def seconds() -> float:
    """Seconds since 1970, by the log. Raises NoTrustedTime where nodes may lie."""
    if not is_time_trusted():
        raise NoTrustedTime(
            "leases and rates need a clock that all believe, and in a cluster whose nodes may lie there is none: run "
            "this object on a protocol for crash faults, such as raft"
        )
    return now().timestamp()


def lease_end(name: str, length_s: float) -> float:
    """When a lease ends that begins now. Raises TypeError and ValueError for a length that is not one.

    ``name`` is what the caller calls the length.
    """
    return seconds() + check_span(name, length_s, LEASE_S_MAX)
