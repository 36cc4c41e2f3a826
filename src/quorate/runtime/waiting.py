"""Waiting: callers who have not proved yet who they are. There are never many, and none keeps out another for long."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import Counter
from collections.abc import Collection
from typing import Protocol as Interface


class Guest(Interface):
    """A connection, as far as limits go."""

    host: str
    """Where the other side is, as limits count hosts."""
    loop: AbstractEventLoop

    def cut(self, why: str) -> None:
        """Hang up at once."""


class WaitingLimits(Interface):
    """How many may wait."""

    @property
    def callers_max(self) -> int:
        """In all."""

    @property
    def callers_per_host_max(self) -> int:
        """From one host."""


class Evictions(Interface):
    """Where it is counted."""

    evictions: int
    """Callers who had to make room for newer ones."""


class WaitingRoom:
    """A new caller takes the place of the oldest from the host that has most.

    So whoever comes gets a chance, and a host that holds many places loses its own.
    """

    def __init__(self, limits: WaitingLimits, counters: Evictions) -> None:
        self._limits = limits
        self._counters = counters
        self._callers: dict[Guest, None] = {}  # in the order in which they came

    def enter(self, caller: Guest) -> None:
        """Take a caller in; another may have to go."""
        self._callers[caller] = None
        hosts = Counter(other.host for other in self._callers)
        if hosts[caller.host] > self._limits.callers_per_host_max:
            self._evict({caller.host})
        elif len(self._callers) > self._limits.callers_max:
            most = max(hosts.values())
            self._evict({host for host, count in hosts.items() if count == most})

    def leave(self, caller: Guest) -> None:
        """It has a link, or is gone."""
        self._callers.pop(caller, None)

    def __len__(self) -> int:
        return len(self._callers)

    def _evict(self, hosts: Collection[str]) -> None:
        oldest = next(caller for caller in self._callers if caller.host in hosts)
        del self._callers[oldest]
        self._counters.evictions += 1
        oldest.cut("made room for a newer caller")
