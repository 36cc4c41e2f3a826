"""Descriptors: how the file descriptors that a process may have are shared out, so that connections take no file's.

A node needs a few for its journal, its snapshots and its store, at any time: a new segment begins with a new file. Each
peer takes two, and callers at the peer port one each. Clients get the rest.
"""

from __future__ import annotations

import errno
import resource
from typing import Final

import msgspec

DESCRIPTORS_MAX: Final = 65_536
"""As many as a node asks the system for; no node of ours has more connections."""
FILES: Final = 64
"""Journal, snapshots, store, log, look-ups of names, and what the interpreter and the loop have."""
CALLERS_SHARE: Final = 8
"""One in so many is for callers at the peer port, up to what is usual there."""
LEAST: Final = 16
"""So many clients and callers there may be, however few descriptors there are."""
NONE_LEFT: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""What the system says when the process, or the machine, has no descriptor left."""


class Shares(msgspec.Struct, frozen=True):
    """How many connections there may be at each port, besides those of the peers."""

    clients: int
    callers: int


def shares(limit: int, peers: int, clients_max: int, callers_max: int) -> Shares:
    """Of so many descriptors in all; more than the two maxima is never given."""
    callers = max(LEAST, min(callers_max, limit // CALLERS_SHARE))
    clients = limit - FILES - callers - 2 * peers
    return Shares(max(LEAST, min(clients_max, clients)), callers)


def limit_now() -> int:
    """How many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS_MAX if soft == resource.RLIM_INFINITY else soft


def raise_limit() -> int:
    """Have as many as the system allows without asking anybody; how many that is.

    The soft limit is low for the sake of programs that use select(), which this is not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit_now()
