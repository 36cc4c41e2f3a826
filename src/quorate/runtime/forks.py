"""Forks: a forked child keeps neither a node's lock, nor its files, nor its connections.

How it works. A fork copies all descriptors, and a lock or a connection lasts as long as any copy: the child of a node
that was killed would keep the folder locked and the ports taken. Every descriptor of a node or a client is therefore
known here, and in a child each is replaced by one of /dev/null. The number stays taken, so that whatever closes it
later closes nothing else. The child must not close connections in the usual way: the parent's epoll would lose them.
"""

from __future__ import annotations

import os
from contextlib import suppress

_kept: dict[int, None] = {}


def not_for_forks(descriptor: int) -> None:
    """A forked child is not to have this one."""
    _kept[descriptor] = None


def let_go(descriptor: int) -> None:
    """It is about to be closed."""
    _kept.pop(descriptor, None)


def _drop_all() -> None:
    descriptors = list(_kept)
    _kept.clear()
    if not descriptors:
        return
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        with suppress(OSError):
            os.dup2(null, descriptor, inheritable=False)
    os.close(null)


os.register_at_fork(after_in_child=_drop_all)
