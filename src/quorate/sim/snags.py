"""Snags: what happens to snapshots while they are taken and while they travel.

How it works. Jobs of snapshots pass here on their way to those that do them. Some fail, as on a disk with errors; some
take long, as with a source that is slow or reads nothing more for a while; and during some a node crashes, at either
end, so that a transfer of many pieces is cut in the middle.

A source that is *spent* reads no more pieces in its life, and healing does not help it: its reads fail, or hang. One
node is at a time, so another can serve who lags behind. Only logs with a leader meet this: PBFT's sources may lie too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

from quorate.kernel import Failed, Job
from quorate.parts.log.replicated import ReadChunk, ReadPiece, TakeCommonSnapshot, TakeSnapshot, WriteChunk
from quorate.sim.jobs import JOB_S, Pending, SimDoer, Worker
from quorate.sim.swarm import Snags

FAILED: Final = Failed("input/output error")
NEVER_S: Final = 1e9
HANGS: Final = 0.5
"""How many of the spent sources hang; the reads of the others fail."""


class Snagging:
    """Of one world. ``kill(node)`` has a node crash and restart later; ``count(name)`` counts what happened."""

    def __init__(
        self,
        snags: Snags,
        rng: Random,
        clock: Callable[[], float],
        after: Callable[[float, Callable[[], None]], None],
        kill: Callable[[int], None],
        count: Callable[[str], None],
    ) -> None:
        self._snags = snags
        self._rng = rng
        self._clock = clock
        self._after = after
        self._kill = kill
        self._count = count
        self._slow: dict[int, bool] = {}
        self._dry_until: dict[int, float] = {}
        self._spent: tuple[Worker, int, bool] | None = None
        """The node that is spent, in which life, and whether it hangs."""
        self._is_over = False

    def around(self, doers: Mapping[type, SimDoer]) -> Mapping[type, SimDoer]:
        """The same doers, with snags."""
        return {
            **doers,
            TakeSnapshot: self._taking(doers[TakeSnapshot]),
            TakeCommonSnapshot: self._taking(doers[TakeCommonSnapshot]),
            ReadChunk: self._reading(doers[ReadChunk]),
            ReadPiece: self._reading(doers[ReadPiece]),
            WriteChunk: self._storing(doers[WriteChunk]),
        }

    def finish(self) -> None:
        """All is healed: nothing more happens."""
        self._is_over = True

    def _taking(self, doer: SimDoer) -> SimDoer:
        def take(node: Any, job: Job) -> Pending:
            if self._happens(self._snags.untaken):
                self._count("snapshots failed")
                return Pending(lambda: FAILED)
            return doer(node, job)

        return take

    def _reading(self, doer: SimDoer) -> SimDoer:
        def read(node: Any, job: Job) -> Pending:
            work: ReadChunk | ReadPiece = job.work
            if isinstance(work, ReadChunk) and self._is_spent(node):
                return self._nothing()
            if self._happens(self._snags.failed):
                self._count("pieces failed")
                return Pending(lambda: FAILED)
            if work.offset:
                self._strike(node.id, "sources killed")
            pending = doer(node, job)
            delay_s = self._delay_s(node.id)
            return pending if delay_s is None else Pending(pending.end, delay_s)

        return read

    def _storing(self, doer: SimDoer) -> SimDoer:
        def store(node: Any, job: Job) -> Pending:
            work: WriteChunk = job.work
            if self._happens(self._snags.failed):
                self._count("pieces failed")
                return Pending(lambda: FAILED)
            if work.offset + len(work.data) < work.total_bytes:
                self._strike(node.id, "receivers killed")
            return doer(node, job)

        return store

    def _delay_s(self, source: int) -> float | None:
        """How long a piece takes; None: as long as any job."""
        snags, now = self._snags, self._clock()
        if self._is_over:
            return None
        if self._happens(snags.dry) and self._dry_until.get(source, 0.0) <= now:
            self._count("sources dry")
            self._dry_until[source] = now + self._rng.expovariate(1.0 / snags.dry_s)
        dry_s = max(0.0, self._dry_until.get(source, 0.0) - now)
        if source not in self._slow:
            self._slow[source] = self._rng.random() < snags.slow
        if self._slow[source]:
            return dry_s + self._rng.expovariate(1.0 / snags.slow_s)
        return dry_s + JOB_S if dry_s else None

    def _is_spent(self, node: Worker) -> bool:
        """Whether this node is, or is from now on."""
        spent = self._spent
        if spent is not None and spent[0].up and spent[0].life == spent[1]:
            return node is spent[0]
        if not self._happens(self._snags.spent):
            return False
        self._count("sources dry")
        self._count("sources spent")
        self._spent = node, node.life, self._rng.random() < HANGS
        return True

    def _nothing(self) -> Pending:
        """What a spent source reads."""
        assert self._spent is not None
        return Pending(lambda: FAILED, NEVER_S if self._spent[2] else None)

    def _strike(self, node: int, name: str) -> None:
        """While the job is done, or just after."""
        if self._happens(self._snags.killed):
            self._count(name)
            self._after(self._rng.random() * 4 * JOB_S, lambda: self._kill(node))

    def _happens(self, share: float) -> bool:
        return not self._is_over and share > 0.0 and self._rng.random() < share
