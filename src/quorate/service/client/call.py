"""ClientCall: one thing that a program asked its client for, from its beginning to its one end."""

from __future__ import annotations

from math import inf
from typing import Any, Final

from quorate.service.client.errors import QuorateError
from quorate.service.client.session import ClientSession
from quorate.service.requests import REMAINING_MS_MAX, Failure

COMMAND: Final = 0
QUERY: Final = 1
LOCAL: Final = 2
"""A query that any node may answer from its own state, however old."""
READS: Final = (QUERY, LOCAL)
CHANGE: Final = 3
"""A change of the members."""
OPENING: Final = 4
"""The opening of a session: the client's own call, of which no program hears."""


class ClientCall:
    """``body`` is opaque. ``waiter`` is the shell's: whoever waits for the end. Times are the client's monotonic ones.

    Once ``is_over``, it has a ``result`` or an ``error``, unless its caller gave it up.
    """

    __slots__ = (
        "body",
        "deadline",
        "entry",
        "error",
        "id",
        "is_over",
        "kind",
        "may_happen",
        "payload",
        "resend_at",
        "result",
        "sent",
        "sent_at",
        "serial",
        "session",
        "silences",
        "waiter",
        "why",
    )

    def __init__(self, kind: int, body: bytes, deadline: float, waiter: Any = None) -> None:
        self.kind = kind
        self.body = body
        self.deadline = deadline
        self.waiter = waiter
        self.is_over = False
        self.result: bytes | None = None
        self.error: QuorateError | None = None
        self.session: ClientSession | None = None
        """Of a command that has a serial."""
        self.serial = 0
        self.entry = body
        """What goes into the log."""
        self.id = 0
        """Of its newest request; of a read in the log, the same however often it is asked."""
        self.payload = b""
        self.resend_at = 0.0
        self.sent = False
        """On its way, and not refused."""
        self.sent_at = 0.0
        """The last time, where one node is asked at a time."""
        self.silences: int | None = None
        """How many nodes had been silent before the first that was silent about this; None: none was."""
        self.may_happen = False
        """An earlier sending was not answered, so it may have been taken in."""
        self.why: Failure | None = None
        """The newest reason why there is no answer yet."""

    def remaining_ms(self, now: float) -> int:
        """How long somebody still waits, for a request that is sent now; 0: for ever."""
        left_s = self.deadline - now
        return 0 if left_s == inf else max(1, min(int(left_s * 1000), REMAINING_MS_MAX))
