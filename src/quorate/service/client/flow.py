"""Flow: how many calls a client has on its link at once. Pure.

How it works. What is not sent yet costs a busy cluster nothing, and nobody need wonder what became of it. So a client
that is refused as too much, or gets no answers to many calls, sends half as many at once, and one more for each round
of answers (Jacobson 1988). The others wait here, and the newest is sent first: if there are always more, the oldest
would be sent just before nobody waits for them any more, and nothing would be done in time. They end as calls that were
not sent.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
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
        self.quiet_until = -inf
        """Until then a busy node is left alone."""
        self.held: dict[int, ClientCall] = {}
        """Calls that wait for their turn, by id."""
        self._calls_max = calls_max
        self._open: set[int] = set()  # ids of calls that were sent on this link and not answered
        self._halved_at = -inf
        self._deadlines: list[tuple[float, int]] = []  # of those that wait, as a heap; some have gone
        self._refusals = 0  # since the last result, one for each time that it tried again

    def has_room(self, now: float) -> bool:
        """Whether another may be sent."""
        return len(self._open) < self.window and now >= self.quiet_until

    def sent(self, call: ClientCall) -> None:
        """On this link."""
        self.held.pop(call.id, None)
        self._open.add(call.id)

    def hold(self, call: ClientCall) -> None:
        """Until there is room."""
        self.held[call.id] = call
        heappush(self._deadlines, (call.deadline, call.id))
        call.why = self.why

    @property
    def next_deadline(self) -> float:
        """Of those that wait; one that has gone may count."""
        return self._deadlines[0][0] if self._deadlines else inf

    def overdue(self, now: float) -> list[ClientCall]:
        """Those whose time is up. They wait no more."""
        late: list[ClientCall] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            call = self.held.pop(heappop(self._deadlines)[1], None)
            if call is not None:
                late.append(call)
        return late

    def next(self) -> ClientCall:
        """Whose turn it is."""
        return next(reversed(self.held.values()))

    def closed(self, call: ClientCall) -> None:
        """A node has refused it; that copy is done with."""
        self._open.discard(call.id)

    def over(self, call: ClientCall) -> None:
        """It is answered, or nobody waits for it."""
        self._open.discard(call.id)
        self.held.pop(call.id, None)

    def answered(self) -> None:
        """A call had its result."""
        self._refusals = 0
        if self.window < self._calls_max:
            self.window = min(self._calls_max, self.window + 1 / self.window)

    def refused(self, call: ClientCall, failure: Failure, now: float, delay_s: Callable[[int], float]) -> None:
        """A node says that this is too much. ``delay_s`` gives how long to leave it alone, by how often it said so."""
        self.why = failure
        self._halve(now)
        self._open.discard(call.id)
        if now >= self.quiet_until:
            self.quiet_until = now + delay_s(self._refusals)
            self._refusals += 1

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
