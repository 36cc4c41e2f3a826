"""SignatureChecks: requests whose signatures are being checked, off the loop.

What another node passes on is screened first: the App says what its sessions have answered. That takes a look at a
table and no signature, so a node that passes on old requests again and again has nobody check them, or order them.

What is being screened or checked takes up room like what waits, so that nobody fills a node with requests that are not
signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from quorate.kernel import Env, Failed
from quorate.parts.crypto.keys import Signed, Verified, batches
from quorate.parts.log.replicated import Screen, Screened

CHECK = "check"
SCREEN = "screen"
CHECKS_MAX = 4096
"""Jobs that screen requests or check signatures at a time; what comes beyond is refused, and comes again."""


class Check:
    """Values of one job: who brought them, the number they are proposed at if they are, and what the job found."""

    __slots__ = ("failure", "mask", "number", "sender", "sequence", "values")

    def __init__(self, number: int, sender: int, values: Sequence[tuple[bytes, bytes]], sequence: int | None) -> None:
        self.number = number
        self.sender = sender
        self.values = values
        """Digests and values."""
        self.sequence = sequence
        self.mask = 0
        """Which of the values are rightly signed."""
        self.failure: Failed | None = None
        """Why the job could not say."""

    @property
    def is_right(self) -> bool:
        """Whether all values are rightly signed."""
        return self.mask == (1 << len(self.values)) - 1


FreshRequests: TypeAlias = dict[bytes, tuple[bytes, Signed]]
"""By digest, requests and what is to be checked of them."""


class SignatureChecks:
    """The jobs under way, and what they hold."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self.jobs: dict[int, Check] = {}
        self.screenings: dict[int, tuple[int, FreshRequests]] = {}
        """Who passed on what, by job."""
        self.held: dict[bytes, int] = {}
        """Sizes, by digest."""
        self.held_bytes = 0
        self._next_number = 0

    @property
    def is_full(self) -> bool:
        """Whether no more requests are taken in. The checks of pre-prepares are bounded by the water marks."""
        return len(self.jobs) + len(self.screenings) >= CHECKS_MAX

    def hold(self, digest: bytes, value: bytes) -> None:
        """It takes up room while it is being checked."""
        if digest not in self.held:
            self.held[digest] = len(value)
            self.held_bytes += len(value)

    def release(self, digest: bytes) -> bool:
        """It was checked, or executed meanwhile. False if it was not held any more."""
        size = self.held.pop(digest, None)
        self.held_bytes -= size or 0
        return size is not None

    def screen(self, sender: int, fresh: FreshRequests) -> None:
        """Have the App say which of these need not be ordered; the signatures of the others are checked then."""
        for digest, (value, _) in fresh.items():
            self.hold(digest, value)
        self._next_number += 1
        self.screenings[self._next_number] = (sender, fresh)
        self._env.work((SCREEN, self._next_number), Screen(tuple([value for value, _ in fresh.values()])))

    def screened(self, number: int, result: Any) -> None:
        """The App has said it; or it does not know, and all are checked."""
        sender, fresh = self.screenings.pop(number, (0, {}))
        spent = set(result.spent) if isinstance(result, Screened) else set()
        left: FreshRequests = {}
        for place, (digest, claim) in enumerate(fresh.items()):
            if place in spent:
                self.release(digest)
            elif digest in self.held:  # else it was executed meanwhile
                left[digest] = claim
        self.ask(sender, left, None)

    def ask(self, sender: int, fresh: FreshRequests, sequence: int | None) -> set[int]:
        """Have signatures checked of these values, by digest; the numbers of the jobs."""
        for digest, (value, _) in fresh.items():
            self.hold(digest, value)
        items = list(fresh.items())
        place, numbers = 0, set()
        for job in batches([claim for _, (_, claim) in items]):
            part = items[place : place + len(job.items)]
            place += len(job.items)
            self._next_number += 1
            numbers.add(self._next_number)
            values = [(digest, value) for digest, (value, _) in part]
            self.jobs[self._next_number] = Check(self._next_number, sender, values, sequence)
            self._env.work((CHECK, self._next_number), job)
        return numbers

    def done(self, number: int, result: Any) -> Check | None:
        """A job ended."""
        check = self.jobs.pop(number, None)
        if check is not None:
            if isinstance(result, Verified):
                check.mask = result.mask & (1 << len(check.values)) - 1
            elif isinstance(result, Failed):
                check.failure = result
        return check
