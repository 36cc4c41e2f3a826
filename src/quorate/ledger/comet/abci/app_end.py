"""The app's end of one ABCI connection, without a socket: hostile bytes in, requests out, and a clock for what drips.

An engine that asks nothing for days is no mistake; a request that has begun must be whole in time.

Source: CometBFT 0.38, ``spec/abci/abci++_client_server.md``, ``abci/server/socket_server.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from quorate.ledger.comet.abci.contents import ABCI_BYTES_MAX
from quorate.ledger.comet.abci.frames import FrameBuffer
from quorate.ledger.comet.abci.request_messages import REQUEST, Request
from quorate.ledger.comet.abci.response_messages import RESPONSE, Response
from quorate.ledger.comet.wire_reader import delimited
from quorate.parts.bounds import COUNTS, SIZES, TIMES, BoundedConfig, Bounds


class ServeLimits(BoundedConfig, frozen=True):
    """Bounds of an app's port."""

    bounds: ClassVar[Mapping[str, Bounds]] = {
        "connections_max": COUNTS,
        "message_bytes_max": SIZES,
        "unfinished_bytes_max": SIZES,
        "whole_timeout_s": TIMES,
    }

    connections_max: int = 32
    """An engine has four; tools and a second engine that takes over have theirs."""
    message_bytes_max: int = ABCI_BYTES_MAX
    """Of one request."""
    unfinished_bytes_max: int = 2 * ABCI_BYTES_MAX
    """Received of requests that have begun and not ended, over all connections."""
    whole_timeout_s: float = 60.0
    """From the first byte of a request to its last, and for an engine that does not take its answers."""


class AppEnd:
    """One connection. Times are seconds of any clock that only goes forward."""

    def __init__(self, limits: ServeLimits | None = None) -> None:
        self.limits = limits or ServeLimits()
        self._frames = FrameBuffer(self.limits.message_bytes_max)
        self._begun_at = 0.0

    def receive(self, data: bytes, now: float) -> list[Request]:
        """What is asked, in order, flushes too. Raises ValueError for what is no request: hang up then."""
        held_before = self._frames.held_bytes
        frames = self._frames.feed(data)
        if frames or not held_before:
            self._begun_at = now
        return [REQUEST.decode(frame) for frame in frames]

    def answer(self, responses: Iterable[Response]) -> bytes:
        """What to send. Raises ValueError for a number that does not fit its field."""
        return b"".join(delimited(RESPONSE.encode(response)) for response in responses)

    @property
    def unfinished_bytes(self) -> int:
        """Received of a request that has not ended."""
        return self._frames.held_bytes

    def due_at(self) -> float | None:
        """When the request that has begun must be whole; None: there is none."""
        return self._begun_at + self.limits.whole_timeout_s if self._frames.held_bytes else None
