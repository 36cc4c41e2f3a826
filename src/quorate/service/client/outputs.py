"""Outputs: what a client core wants done outside. The parts of the core write, the shell reads and clears."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol, TypeAlias

from quorate.service.client.call import ClientCall
from quorate.service.client.errors import QuorateError

Finish: TypeAlias = Callable[[ClientCall, bytes | None, QuorateError | None], None]
"""Takes the end of a call: its result or its error."""
Silence: TypeAlias = tuple[bool, bool, str]
"""Of a call without an answer: whether it may take effect, whether a node refused it for now, and why, in words."""


class Sendable(Protocol):
    """What has a frame to send."""

    payload: bytes


class Unasked:
    """A frame that no call waits for."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


class Outputs:
    """Act in this order: ``sends``, ``hangups``, ``dials``. A number is the place of an address among the endpoints.

    There is one link to an address at most; one that is hung up on, or is being dialled, is gone at once.
    """

    __slots__ = ("_requests", "dials", "finished", "hangups", "now", "sends", "wake_at")

    def __init__(self) -> None:
        self.sends: list[tuple[int, Sendable]] = []
        self.hangups: list[tuple[int, str, bool]] = []
        """Which link, why, and whether at once; otherwise what was sent leaves first."""
        self.dials: list[int] = []
        self.finished: list[ClientCall] = []
        self.wake_at = inf
        """When to call ``tick``, at the latest."""
        self.now = 0.0
        """The time of the newest input."""
        self._requests = 0

    def wake(self, at: float) -> None:
        """Have ``tick`` called by then."""
        if at < self.wake_at:
            self.wake_at = at

    def request_id(self) -> int:
        """One that was never used."""
        self._requests += 1
        return self._requests
