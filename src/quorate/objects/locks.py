"""A lock and an election: one holder at a time, under a lease that ends by the time of the log.

A holder that stalls does not notice that its lease has ended, so a lease alone protects nothing. Each grant has a
fencing token, greater than any before: pass it to whatever is protected, and let that refuse lower tokens than it has
seen. Nothing here waits: who is told None asks again later.
"""

from __future__ import annotations

from typing import NamedTuple

from quorate.machines.objects.definition import Replicated, command, read
from quorate.objects.arguments import StaleToken, check_name
from quorate.objects.clock import lease_end, seconds


class Holder(NamedTuple):
    """Who was granted what, and until when, in seconds since 1970 by the log. The lease may have ended since."""

    name: str
    token: int
    ends_s: float


class _Leased(Replicated):
    """What one may hold at a time."""

    def __init__(self) -> None:
        self.token = 0
        self.name: str | None = None
        self.ends_s = 0.0

    @command
    def renew(self, token: int, ttl_s: float = 30.0) -> None:
        """Let the lease end so long from now. Raises StaleToken if it has ended: stop what it was for."""
        ends_s = lease_end("ttl_s", ttl_s)
        self._check(token)
        self.ends_s = ends_s

    def _grant(self, name: str, ttl_s: float) -> int | None:
        ends_s = lease_end("ttl_s", ttl_s)
        if self.name is not None and seconds() < self.ends_s:
            return None
        self.token += 1
        self.name, self.ends_s = name, ends_s
        return self.token

    def _give_back(self, token: int) -> None:
        self._check(token)
        self.name = None

    def _holder(self) -> Holder | None:
        return None if self.name is None else Holder(self.name, self.token, self.ends_s)

    def _check(self, token: int) -> None:
        if token != self.token or self.name is None:
            raise StaleToken(f"token {token} holds nothing: it was given back, or its lease ended and another followed")
        if self.ends_s <= seconds():
            raise StaleToken(f"the lease of token {token} has ended")


class Lock(_Leased):
    """A lock. It is not reentrant: the holder's name is for people to read, its token is the proof."""

    @command
    def acquire(self, owner: str, ttl_s: float = 30.0) -> int | None:
        """A fencing token if nobody holds the lock, otherwise None."""
        return self._grant(check_name("owner", owner), ttl_s)

    @command
    def release(self, token: int) -> None:
        """Give the lock back. Raises StaleToken."""
        self._give_back(token)

    @read
    def holder(self) -> Holder | None:
        """Who acquired the lock last and has not released it."""
        return self._holder()


class Election(_Leased):
    """A leader, elected for a term that ends unless it is renewed. The token is the number of the term."""

    @command
    def campaign(self, candidate: str, ttl_s: float = 30.0) -> int | None:
        """The token of a new term if nobody leads, otherwise None."""
        return self._grant(check_name("candidate", candidate), ttl_s)

    @command
    def resign(self, token: int) -> None:
        """End one's own term. Raises StaleToken."""
        self._give_back(token)

    @read
    def leader(self) -> Holder | None:
        """Who was elected last and has not resigned."""
        return self._holder()

    @read
    def observe(self, token: int) -> bool:
        """Whether the token is that of the newest term: a leader with another has been deposed."""
        return self.name is not None and token == self.token
