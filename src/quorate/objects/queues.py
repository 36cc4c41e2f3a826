"""Queues of jobs that are never lost, and that a worker works on under a lease.

A job is put, taken, and acknowledged. Who takes it has a token, greater than any before, and a lease; when that ends
before ``ack``, by the time of the log, the job goes back to the end of the line of its priority and the token is stale.
So a job may be worked on more than once: pass the token to whatever the work changes, and let that refuse lower tokens
than it has seen. ``take`` does not wait: it returns None from an empty queue, and the worker asks again later.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from quorate.machines.objects.definition import Replicated, command, read
from quorate.objects.arguments import Full, StaleToken, check_int
from quorate.objects.clock import lease_end, seconds
from quorate.objects.heaps import push, remove

SIZE_MAX: Final = 100_000
RECLAIMED_MAX: Final = 8
"""Ended leases that one `take` ends, so that none takes long; each takes at most one job, so none is left for long."""
PRIORITY_MAX: Final = 2**63 - 1


class Delivery(NamedTuple):
    """A job that was taken. ``attempt`` is 1 when it is taken for the first time."""

    token: int
    number: int
    job: Any
    attempt: int


class _Jobs(Replicated):
    """What both queues share: everything but the order of the jobs that wait."""

    def __init__(self) -> None:
        self.size_max = SIZE_MAX
        self.number = 0
        self.token = 0
        self.jobs: dict[int, Any] = {}
        self.attempts: dict[int, int] = {}
        self.taken: dict[int, int] = {}  # token to number
        self.leases: list[tuple[float, int]] = []  # a heap of ends and tokens
        self.lease_places: dict[int, int] = {}

    def _enqueue(self, number: int) -> None:
        """The job is the last of its line."""
        raise NotImplementedError

    def _dequeue(self) -> int | None:
        """The first job that waits, which no longer does."""
        raise NotImplementedError

    def _add(self, job: Any) -> int:
        if len(self.jobs) >= self.size_max:
            raise Full(
                f"the queue has {len(self.jobs)} jobs and its size_max is {self.size_max}: try again when workers "
                "have acknowledged some, or raise it with configure(size_max)"
            )
        self.number += 1
        self.jobs[self.number] = job
        return self.number

    @command
    def configure(self, size_max: int) -> None:
        """Set how many jobs there may be at a time, taken ones included. Those that are there stay."""
        self.size_max = check_int("size_max", size_max, 1)

    @command
    def take(self, lease_s: float = 60.0) -> Delivery | None:
        """Take the first job that waits, for so long; None if there is none."""
        ends = lease_end("lease_s", lease_s)
        self._reclaim()
        number = self._dequeue()
        if number is None:
            return None
        self.token += 1
        self.taken[self.token] = number
        push(self.leases, self.lease_places, (ends, self.token))
        self.attempts[number] = self.attempts.get(number, 0) + 1
        return Delivery(self.token, number, self.jobs[number], self.attempts[number])

    @command
    def renew(self, token: int, lease_s: float = 60.0) -> None:
        """Let the lease end so long from now. Raises StaleToken."""
        ends = lease_end("lease_s", lease_s)
        self._check(token)
        remove(self.leases, self.lease_places, token)
        push(self.leases, self.lease_places, (ends, token))

    @command
    def ack(self, token: int) -> None:
        """The job is done and leaves the queue. Raises StaleToken: then another worker has it, or will."""
        self._check(token)
        number = self._give_back(token)
        del self.jobs[number], self.attempts[number]

    @command
    def nack(self, token: int) -> None:
        """The job is not done and waits again, at the end of its line. Raises StaleToken."""
        self._check(token)
        self._enqueue(self._give_back(token))

    @read
    def __len__(self) -> int:
        return len(self.jobs)

    @read
    def waiting(self) -> int:
        """How many jobs nobody has taken. One whose lease has ended counts when `take` has noticed."""
        return len(self.jobs) - len(self.taken)

    def _check(self, token: int) -> None:
        if token not in self.taken:
            raise StaleToken(f"token {token} stands for no job: it was acknowledged or given back, or its lease ended")
        if self.leases[self.lease_places[token]][0] <= seconds():
            raise StaleToken(f"the lease of token {token} has ended, and its job goes to another worker")

    def _give_back(self, token: int) -> int:
        remove(self.leases, self.lease_places, token)
        return self.taken.pop(token)

    def _reclaim(self) -> None:
        now = seconds()
        for _ in range(RECLAIMED_MAX):
            if not self.leases or self.leases[0][0] > now:
                return
            self._enqueue(self._give_back(self.leases[0][1]))


class Queue(_Jobs):
    """Jobs in the order in which they were put: first in, first out."""

    def __init__(self) -> None:
        super().__init__()
        self.line: dict[int, int] = {}  # place to number: what is taken from a dict's front moves nothing
        self.head = 0
        self.tail = 0

    @command
    def put(self, job: Any) -> int:
        """Add a job; return its number. Raises Full."""
        number = self._add(job)
        self._enqueue(number)
        return number

    def _enqueue(self, number: int) -> None:
        self.line[self.tail] = number
        self.tail += 1

    def _dequeue(self) -> int | None:
        if self.head == self.tail:
            return None
        self.head += 1
        return self.line.pop(self.head - 1)


class PriorityQueue(_Jobs):
    """Jobs with the lowest priority number first, and first in, first out among equals. O(log n) for each command."""

    def __init__(self) -> None:
        super().__init__()
        self.priorities: dict[int, int] = {}
        self.line: list[tuple[int, int, int]] = []  # a heap of priorities, places and numbers
        self.line_places: dict[int, int] = {}
        self.tail = 0

    @command
    def put(self, job: Any, priority: int = 0) -> int:
        """Add a job; return its number. Raises Full."""
        check_int("priority", priority, -PRIORITY_MAX, PRIORITY_MAX)
        number = self._add(job)
        self.priorities[number] = priority
        self._enqueue(number)
        return number

    @command
    def ack(self, token: int) -> None:
        """The job is done and leaves the queue. Raises StaleToken: then another worker has it, or will."""
        number = self.taken.get(token)
        super().ack(token)
        if number is not None:
            del self.priorities[number]

    def _enqueue(self, number: int) -> None:
        push(self.line, self.line_places, (self.priorities[number], self.tail, number))
        self.tail += 1

    def _dequeue(self) -> int | None:
        if not self.line:
            return None
        number = self.line[0][-1]
        remove(self.line, self.line_places, number)
        return number
