"""Flow: how many calls a client has on its link at once. Pure.

How it works. What is not sent yet costs a busy cluster nothing, and nobody need wonder what became of it. So a client
that is refused as too much, or gets no answers to many calls, sends half as many at once, and one more for each round
of answers (Jacobson 1988). The others wait here, and the newest is sent first: if there are always more, the oldest
would be sent just before nobody waits for them any more, and nothing would be done in time. They end as calls that were
not sent.
"""

from __future__ import annotations

from math import inf
from typing import Final

from quorate.service.client.call import ClientCall
from quorate.service.requests import Failure

ROUND_S: Final = 0.2
"""What was sent before the window was halved is refused for that long without it being halved again."""
FEW: Final = 16
"""So many calls without an answer are not what makes a node slow."""


class Flow:
    """Of one client, whose link changes. ``why``: the newest reason for which it sends less than it could."""

    def __init__(self, calls_max: int) -> None:
        self.window = float(calls_max)
        self.why: Failure | None = None
        self.held: dict[int, ClientCall] = {}
        """Calls that wait for their turn, by id."""
        self._calls_max = calls_max
        self._open: set[int] = set()  # ids of calls that were sent on this link and not answered
        self._halved_at = -inf

    @property
    def has_room(self) -> bool:
        """Whether another may be sent."""
        return len(self._open) < self.window

    def sent(self, call: ClientCall) -> None:
        """On this link."""
        self.held.pop(call.id, None)
        self._open.add(call.id)

    def hold(self, call: ClientCall) -> None:
        """Until there is room."""
        self.held[call.id] = call
        call.resend_at = inf
        call.why = self.why

    def next(self) -> ClientCall:
        """Whose turn it is."""
        return next(reversed(self.held.values()))

    def over(self, call: ClientCall) -> None:
        """It is answered, or nobody waits for it."""
        self._open.discard(call.id)
        self.held.pop(call.id, None)

    def answered(self) -> None:
        """A call had its result."""
        if self.window < self._calls_max:
            self.window = min(self._calls_max, self.window + 1 / self.window)

    def refused(self, call: ClientCall, failure: Failure, now: float) -> None:
        """A node says that this is too much."""
        self.why = failure
        self._halve(now)
        self._open.discard(call.id)

    def silent(self, now: float) -> None:
        """A call had no answer in time."""
        if len(self._open) > FEW:
            self._halve(now)

    def left(self) -> None:
        """The link is gone."""
        self._open.clear()

    def _halve(self, now: float) -> None:
        if now - self._halved_at > ROUND_S:
            self._halved_at = now
            self.window = max(1.0, min(self.window, len(self._open)) / 2)
