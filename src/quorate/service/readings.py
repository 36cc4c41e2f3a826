"""Readings: the queries that this node answers from its state machine, so that none of them keeps others waiting.

How it works. Most queries are answered at once, in the order in which they became due, as many in one pass as give
``PASS_BYTES`` of answers. One that takes more than a step (``StateMachine.query_steps``) goes on between other things,
in turns with its like, from the state at its first step. That state is as new as the read needed, so the answer is as
good as one given at once.

What nobody waits for any more is dropped: its deadline is past, or its client's link is gone. The client may just have
turned to another link, so what is under way goes on for ``RETURN_TICKS``. A call that is asked again while it is under
way is not begun again: what asks again and again would else fill all places, and the machine with work for nobody. The
call is older than its first request, so the first answer is as new as it must be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Final, NamedTuple

from quorate.kernel import Requester
from quorate.kernel.app import Steps
from quorate.service.deadlines import NEVER, Deadlines
from quorate.service.requests import Code, Query, Response, Result, Results

PASS_BYTES: Final = 256 << 10
"""Answers of one pass; a query that is not answered by then counts for half of it. A few milliseconds."""
PAUSE_S: Final = 0.001
"""Between two steps: others have their turn, and a simulated node applies commands."""
READINGS_MAX: Final = 32
"""Queries under way at once; each may hold an answer of 2 MiB."""
RETURN_TICKS: Final = 3
GO_ON: Final = "reads go on"
"""The key of the App's timer."""
LATE: Final = "nobody waits for this any more"
TOO_MANY: Final = f"{READINGS_MAX} large reads are under way already"
REPLACED: Final = "this node has just fetched its state"


class Waiting(NamedTuple):
    """A request that waits for an answer. ``place``: of the answer among those to a signed request."""

    client: Requester
    request: int
    place: int | None = None

    def response(self, answer: bytes) -> Response:
        """The answer, in a frame."""
        if self.place is None:
            return Result(self.request, answer)
        return Results(self.request, (Result(self.place, answer),))


class Call(NamedTuple):
    """What a client calls for, told from all its other calls, and from those of others."""

    asker: int
    """What tells its client from others."""
    id: int
    query: bytes

    @classmethod
    def of(cls, query: Query) -> Call | None:
        """The call that a query is for; None where it does not say."""
        return cls(query.asker, query.id, query.query) if query.asker else None


class Reading:
    """A query that takes several steps. ``call`` is None where nothing tells it from others."""

    __slots__ = ("answer", "call", "query", "steps", "until", "waiting")

    def __init__(
        self, waiting: list[Waiting], query: bytes, steps: Steps, until: int = NEVER, call: Call | None = None
    ) -> None:
        self.waiting = waiting
        self.query = query
        self.steps = steps
        self.until = until
        self.call = call
        self.answer: bytes | None = None
        """Of one that was done while nobody waited."""


class Readings:
    """Of one node. ``begin`` has the state machine answer a query; ``reply`` and ``refuse`` answer a client."""

    def __init__(
        self,
        begin: Callable[[bytes], Steps],
        reply: Callable[[Requester, Response], None],
        refuse: Callable[[Requester, int, Code, str], None],
        deadlines: Deadlines,
    ) -> None:
        self._begin = begin
        self._reply = reply
        self._refuse = refuse
        self._deadlines = deadlines
        self._due: deque[tuple[Requester, Query, int]] = deque()
        self._readings: deque[Reading] = deque()

    def __len__(self) -> int:
        """How many are due or under way."""
        return len(self._due) + len(self._readings)

    @property
    def has_due(self) -> bool:
        """Whether a pass would do anything."""
        return bool(self._due)

    @property
    def pause_s(self) -> float | None:
        """How long to wait before the next pass, or the next ``step``; None: there is nothing to go on with."""
        if self._due:
            return 0.0
        if self._readings and any(reading.answer is None for reading in self._readings):
            return PAUSE_S
        return None

    def due(self, waiting: Iterable[tuple[Requester, Query, int]]) -> None:
        """These are to be answered from the state as it is, or a newer one. The last number is the deadline's tick."""
        self._due.extend(waiting)

    def refuse_due(self, why: str) -> None:
        """The state cannot be asked: a full disk."""
        due, self._due = self._due, deque()
        for client, query, _ in due:
            self._refuse(client, query.id, Code.STORAGE, why)

    def take(self) -> None:
        """One pass over what is due."""
        due, now = self._due, self._deadlines.now
        room = PASS_BYTES
        while due and room > 0:
            client, query, until = due.popleft()
            if until <= now:
                self._refuse(client, query.id, Code.UNAVAILABLE, LATE)
                continue
            steps = self._begin(query.query)
            try:
                next(steps)
            except StopIteration as end:
                # One by one to the shell, which bounds what waits for a client: many small questions of one that
                # does not read can have answers that fill the memory.
                self._reply(client, Result(query.id, end.value))
                room -= len(end.value)
                continue
            room -= PASS_BYTES // 2
            reading = Reading([Waiting(client, query.id)], query.query, steps, until, Call.of(query))
            if not self.go_on(reading):
                self._refuse(client, query.id, Code.BUSY, TOO_MANY)

    def go_on(self, reading: Reading) -> bool:
        """With one that has had its first step. False where too many are under way: it is dropped."""
        if len(self._readings) >= READINGS_MAX:
            reading.steps.close()
            return False
        self._readings.append(reading)
        return True

    def step(self) -> None:
        """The next step of one of them."""
        readings = self._readings
        for _ in range(len(readings)):
            reading = readings.popleft()
            if reading.answer is not None:
                readings.append(reading)
                continue
            try:
                next(reading.steps)
                readings.append(reading)
            except StopIteration as end:
                for waiting in reading.waiting:
                    self._reply(waiting.client, waiting.response(end.value))
                if not reading.waiting:
                    reading.answer = end.value
                    readings.append(reading)
            return

    def returns(self, call: Call | None, waiting: Sequence[Waiting], until: int) -> bool:
        """Whether this call was asked before and is under way, or done: who waits for it has the answer of that."""
        if call is None:
            return False
        for reading in self._readings:
            if reading.call != call:
                continue
            if reading.answer is not None:
                self._readings.remove(reading)
                for each in waiting:
                    self._reply(each.client, each.response(reading.answer))
                return True
            reading.waiting += waiting  # twice from one link: each request has an answer
            reading.until = until
            return True
        return False

    def closed(self, client: Requester) -> None:
        """Its link is gone. What is under way may be asked for again."""
        for reading in list(self._readings):
            if not any(waiting.client == client for waiting in reading.waiting):
                continue
            reading.waiting = [waiting for waiting in reading.waiting if waiting.client != client]
            if not reading.waiting:
                reading.until = min(reading.until, self._deadlines.now + RETURN_TICKS)
                if reading.call is None:
                    self._drop(reading)

    def forget(self, gone: Set[Requester]) -> None:
        """These have gone: what they asked for is not begun."""
        self._due = deque(waiting for waiting in self._due if waiting[0] not in gone)

    def tick(self) -> None:
        """Time has passed: drop what nobody waits for."""
        for reading in [each for each in self._readings if each.until <= self._deadlines.now]:
            self._drop(reading)

    def restart(self) -> None:
        """The state is about to be replaced by a newer one, from which what is under way is asked for anew."""
        readings, self._readings = self._readings, deque()
        for reading in readings:
            reading.steps.close()
            for client, request, place in reading.waiting:
                if place is None:
                    asker = reading.call.asker if reading.call else 0
                    self._due.append((client, Query(request, reading.query, asker=asker), reading.until))
                else:
                    self._refuse(client, request, Code.UNAVAILABLE, REPLACED)

    def _drop(self, reading: Reading) -> None:
        reading.steps.close()
        self._readings.remove(reading)
        for client, request, _ in reading.waiting:  # or it would count among what its link asks for
            self._refuse(client, request, Code.UNAVAILABLE, LATE)
