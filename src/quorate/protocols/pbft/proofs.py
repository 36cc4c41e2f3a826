"""ProofChecks: the signatures in view-changes and new views, checked off the loop.

A view-change lists up to a window of certificates, and a new view a quorum of view-changes: thousands of signatures,
during which a node that checked them itself would do nothing else. So their claims go to jobs (``VerifyBatch``), and
what rests on them is taken up when all have come back.

Of each sender and kind one message is checked at a time, and the newest of those that came meanwhile after it. So what
one node sends is checked in order, takes bounded room, and holds up no other's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from quorate.kernel import Env
from quorate.parts.crypto.keys import BATCH_ITEMS_MAX, Signed, Verified, batches
from quorate.protocols.pbft.messages import NewView, ViewChange

PROVE = "prove"

Proof: TypeAlias = ViewChange | NewView
Lane: TypeAlias = tuple[int, type[Any]]
"""Sender and kind."""


class CheckedProof(NamedTuple):
    """All that could be found out about a message."""

    sender: int
    message: Proof
    wrong: int | None
    """The first claim that does not hold; None where all do."""


class _Underway:
    """A message whose claims are being checked."""

    __slots__ = ("has_failed", "jobs", "message", "wrong")

    def __init__(self, message: Proof) -> None:
        self.message = message
        self.jobs: dict[int, tuple[int, int]] = {}
        """By number, which claim is the first of the job, and how many it has."""
        self.wrong: int | None = None
        self.has_failed = False


class ProofChecks:
    """What is being checked, and what waits for that."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._underway: dict[Lane, _Underway] = {}
        self._waiting: dict[Lane, tuple[Proof, Sequence[Signed]]] = {}
        self._lanes: dict[int, Lane] = {}
        """By job."""
        self._next_number = 0

    def __len__(self) -> int:
        """Messages under way and waiting."""
        return len(self._underway) + len(self._waiting)

    def ask(self, sender: int, message: Proof, claims: Sequence[Signed]) -> None:
        """Have the claims of this message checked, at least one."""
        lane = (sender, type(message))
        if (underway := self._underway.get(lane)) is None:
            self._begin(lane, message, claims)
        elif underway.message != message:
            self._waiting[lane] = (message, claims)

    def _begin(self, lane: Lane, message: Proof, claims: Sequence[Signed]) -> None:
        underway = self._underway[lane] = _Underway(message)
        for place, job in enumerate(batches(claims)):
            self._next_number += 1
            underway.jobs[self._next_number] = (place * BATCH_ITEMS_MAX, len(job.items))
            self._lanes[self._next_number] = lane
            self._env.work((PROVE, self._next_number), job)

    def done(self, number: int, result: Any) -> CheckedProof | None:
        """A job ended: what is known of its message, if it was the last and none failed. One that failed says nothing
        about the message, which comes again."""
        lane = self._lanes.pop(number, None)
        if lane is None:
            return None
        underway = self._underway[lane]
        first, count = underway.jobs.pop(number)
        if not isinstance(result, Verified):
            underway.has_failed = True
        elif wrong := ~result.mask & (1 << count) - 1:
            place = first + (wrong & -wrong).bit_length() - 1
            underway.wrong = place if underway.wrong is None else min(place, underway.wrong)
        if underway.jobs:
            return None
        del self._underway[lane]
        if (waiting := self._waiting.pop(lane, None)) is not None:
            self._begin(lane, *waiting)
        return None if underway.has_failed else CheckedProof(lane[0], underway.message, underway.wrong)
