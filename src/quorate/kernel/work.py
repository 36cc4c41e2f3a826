"""Work: the jobs that an App does for its core, a step at a time, so that nothing else waits long.

Pure: the shell of the machine calls ``step`` while there is something to do, a real one between other things, a
simulated one at virtual times. Jobs that ask for order are done one after the other; the others take turns with them.
"""

from collections import deque

from quorate.kernel.app import App, Steps
from quorate.kernel.ids import Key, Path
from quorate.kernel.inputs import Done, Failed
from quorate.kernel.turn import Job

JOBS_MAX = 4096
"""Under way or in line. A core that asks for more gets a Failed."""


class _Underway:
    """A job that may have begun."""

    __slots__ = ("_app", "_steps", "job")

    def __init__(self, app: App, job: Job) -> None:
        self.job = job
        self._app = app
        self._steps: Steps | None = None

    def step(self) -> Done | None:
        """Its first step or the next; a Done when that was the last."""
        job = self.job
        try:
            if self._steps is None:
                self._steps = self._app.work(job.work)
            next(self._steps)
        except StopIteration as end:
            return Done(job.key, end.value, job.path)
        except ValueError as error:
            return Done(job.key, Failed(str(error)), job.path)
        return None

    def close(self) -> None:
        """Stop it between two steps."""
        if self._steps is not None:
            self._steps.close()


class Work:
    """The jobs of one App. ``step`` and ``begin`` return what ended."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._line: deque[Job] = deque()
        self._ordered: _Underway | None = None
        self._others: deque[_Underway] = deque()

    def __len__(self) -> int:
        """How many are under way or in line."""
        return len(self._line) + len(self._others) + (self._ordered is not None)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not len(self)

    def begin(self, job: Job) -> Done | None:
        """Take a job on and do its first step, unless it must wait for others."""
        if len(self) >= JOBS_MAX:
            return Done(job.key, Failed(f"more than {JOBS_MAX} jobs are under way"), job.path)
        if not self._app.in_order(job.work):
            underway = _Underway(self._app, job)
            done = underway.step()
            if done is None:
                self._others.append(underway)
            return done
        self._line.append(job)
        return self._next() if self._ordered is None else None

    def cancel(self, path: Path, key: Key) -> None:
        """Stop a job, or take it out of the line."""

        def is_it(job: Job) -> bool:
            return job.path == path and job.key == key

        self._line = deque(job for job in self._line if not is_it(job))
        for underway in [each for each in self._others if is_it(each.job)]:
            underway.close()
            self._others.remove(underway)
        if self._ordered is not None and is_it(self._ordered.job):
            self._ordered.close()
            self._ordered = None

    def step(self) -> list[Done]:
        """One step of each job that is under way."""
        ended = []
        for _ in range(len(self._others)):
            underway = self._others.popleft()
            done = underway.step()
            if done is None:
                self._others.append(underway)
            else:
                ended.append(done)
        if self._ordered is not None:
            done = self._ordered.step()
            if done is not None:
                self._ordered = None
                ended.append(done)
        elif self._line and (done := self._next()) is not None:
            ended.append(done)
        return ended

    def close(self) -> None:
        """Stop everything."""
        for underway in (*self._others, *([self._ordered] if self._ordered else ())):
            underway.close()
        self._line.clear()
        self._others.clear()
        self._ordered = None

    def _next(self) -> Done | None:
        underway = _Underway(self._app, self._line.popleft())
        done = underway.step()
        if done is None:
            self._ordered = underway
        return done
