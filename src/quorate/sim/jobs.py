"""What a simulated node does besides its steps: jobs, and snapshots that are loaded. All of it takes time.

How it works. A job's type has a doer: the runtime's (snapshots, signatures) and the Subject's are in the World's table
``doers``, those of the App are in ``App.works`` and are done step by step. A doer begins a job at once and ends it some
time later, unless the process dies or the core cancels it. A job that nobody does ends in a Failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from random import Random
from typing import Any, TypeAlias
from typing import Protocol as Interface

import msgspec

from quorate.kernel import App, Done, Failed, Job, Key, Path, Shell, StateMark
from quorate.kernel.work import Work
from quorate.parts.crypto.keys import Keyring, VerifyBatch
from quorate.parts.log.replicated import (
    ReadChunk,
    ReadPiece,
    SnapshotInfo,
    TakeCommonSnapshot,
    TakeSnapshot,
    WriteChunk,
    marks_of,
)
from quorate.sim.checkers.base import Violation
from quorate.sim.damage import CORRUPT
from quorate.sim.snapshot_store import SimSnapshots, Spoiled

JOB_S = 0.002
"""What a job takes on average, where its doer does not say."""

SNAPSHOTS = "snapshots"


class Pending(msgspec.Struct, frozen=True):
    """A job that has begun. ``end`` gives its result when ``delay_s`` have passed (None: as long as any job takes)."""

    end: Callable[[], Any]
    delay_s: float | None = None


class Worker(Interface):
    """A node, as far as its jobs go (``node.py``)."""

    id: int
    life: int
    up: bool
    rng: Random
    inbox: list[Any]
    app: App
    shell: Shell
    jobs: SimJobs

    @property
    def doers(self) -> Mapping[type, Callable[[Any, Job], Pending]]:
        """By type, how jobs are done that are not the App's."""

    @property
    def keyring(self) -> Keyring | None:
        """The keys of all nodes, where they sign."""

    def snapshots_of(self, path: Path) -> SimSnapshots:
        """Those of the core at a path."""

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        """Have the process do something later, unless it dies first."""

    def end(self, why: str) -> None:
        """The disk cannot be trusted: the process ends, and says why."""


SimDoer: TypeAlias = Callable[[Worker, Job], Pending]
"""Begins a job on a node."""


class SimJobs:
    """The jobs and snapshots of one life of a node. ``applied`` has by path the last index that the App was given."""

    def __init__(self, node: Worker, app: App) -> None:
        self._node = node
        self._app = app
        self._work = Work(app)
        self._is_working = False
        self._underway: dict[tuple[Path, Key], list[int]] = {}
        self._begun = 0
        self.applied: dict[Path, int] = {}
        self.restored: dict[Path, int] = {}
        self._named: dict[Path, int] = {}
        self._taken: dict[Path, int] = {}
        self.marks: dict[tuple[Path, int], StateMark] = {}
        """Those of this life, by path and index."""
        self._begun_marks: set[Path] = set()

    def begin(self, job: Job) -> None:
        """Begin a job, or cancel the one of its key."""
        if job.work is None:
            self._underway.pop((job.path, job.key), None)
            self._work.cancel(job.path, job.key)
        elif type(job.work) in self._app.works:
            self._ended(self._work.begin(job))
            self._step_later()
        else:
            doer = self._node.doers.get(type(job.work))
            pending = _nobody(job) if doer is None else doer(self._node, job)
            self._end_later(job, pending)

    def load(self, index: int, path: Path) -> None:
        """Load a snapshot aside, and have it adopted."""
        node = self._node
        is_marked = self._begin_marks(path, index)
        snapshots = node.snapshots_of(marks_of(path) if is_marked else path)
        try:
            data = snapshots.data(index)
        except Spoiled as error:
            why = str(error)
            self._later(lambda: node.end(why))
            return
        if index in snapshots.spoiled:
            raise Violation(CORRUPT, f"node {node.id} restores its snapshot at {index}, which is spoiled")
        if data is None:
            raise Violation(SNAPSHOTS, f"node {node.id} restores a snapshot at {index} that it does not have")
        self._named[path] = max(self._named.get(path, 0), index)
        adopt = self._reopen(index, path, data) if is_marked else self._app.restore(BytesIO(data), path)

        def end() -> None:
            self.applied[path] = self.restored[path] = index
            node.shell.loaded(adopt, path)

        self._later(end)

    def _reopen(self, index: int, path: Path, data: bytes) -> Callable[[], None]:
        reopened = self._app.reopen(BytesIO(data), path)

        def adopt() -> None:
            self.marks[path, index] = reopened()

        return adopt

    def _begin_marks(self, path: Path, index: int) -> bool:
        """The first time: remove the marks of earlier lives but that one, as real nodes do. Whether it is there."""
        if path in self._begun_marks:
            return False
        self._begun_marks.add(path)
        marks = self._node.snapshots_of(marks_of(path))
        marks.keep_alone(index)
        return index in marks.indexes

    def take_mark(self, job: Job) -> tuple[StateMark, SimSnapshots] | None:
        """The App's mark, and where it goes; None where the App takes none."""
        mark = None if isinstance(job.work, TakeCommonSnapshot) else self._app.mark(job.path)
        if mark is None:
            return None
        self._begin_marks(job.path, self.newest_named(job.path))
        return mark, self._node.snapshots_of(marks_of(job.path))

    def marked(self, job: Job, mark: StateMark, named: int) -> None:
        """It has its file; those below the one that the journal names have none any more."""
        self.marks[job.path, job.work.index] = mark
        for key in [key for key in self.marks if key[0] == job.path and key[1] < named]:
            self.marks.pop(key).close()

    def newest_named(self, path: Path) -> int:
        """The newest snapshot that the journal is known to name, as a job begins: all earlier records are durable, and
        so what the core made of the last snapshot that was taken."""
        named = self._named[path] = max(self._named.get(path, 0), self._taken.get(path, 0))
        return named

    def took(self, path: Path, index: int) -> None:
        """A snapshot was taken, and its core is about to hear of it."""
        self._taken[path] = index

    def _end_later(self, job: Job, pending: Pending) -> None:
        self._begun += 1
        number = self._begun
        name = (job.path, job.key)
        self._underway.setdefault(name, []).append(number)

        def end() -> None:
            numbers = self._underway.get(name, [])
            if number in numbers:  # else it was cancelled
                numbers.remove(number)
                if not numbers:
                    del self._underway[name]
                self._ended(Done(job.key, pending.end(), job.path))

        if pending.delay_s is None:
            self._later(end)
        else:
            self._node.after(pending.delay_s, end)

    def _step_later(self) -> None:
        """The next step of the App's jobs, one at a time."""
        if self._is_working or self._work.is_idle:
            return
        self._is_working = True

        def step() -> None:
            self._is_working = False
            for done in self._work.step():
                self._ended(done)
            self._step_later()

        self._later(step)

    def _ended(self, done: Done | None) -> None:
        if done is not None and self._node.up:
            self._node.inbox.append(done)

    def _later(self, act: Callable[[], None]) -> None:
        """After the time that work takes, unless the process dies meanwhile."""
        self._node.after(JOB_S * (0.1 + self._node.rng.expovariate(1.0)), act)


def _nobody(job: Job) -> Pending:
    return Pending(lambda: Failed(f"the simulator has no job {type(job.work).__name__}"))


def _verify(node: Worker, job: Job) -> Pending:
    keyring = node.keyring
    return Pending(lambda: keyring.verify_batch(job.work) if keyring else Failed("this world has no keys"))


def _read(node: Worker, job: Job) -> Pending:
    return _serve(node, job, node.snapshots_of(job.path).read)


def _read_piece(node: Worker, job: Job) -> Pending:
    return _serve(node, job, node.snapshots_of(job.path).read_piece)


def _serve(node: Worker, job: Job, read: Callable[[Any], Any]) -> Pending:
    """Read what is for others; a damaged file ends the node."""

    def end() -> Any:
        snapshots, work = node.snapshots_of(job.path), job.work
        if work.index not in snapshots.indexes and (job.path, work.index) in node.jobs.marks:
            made = _make_stream(node, job.path, work.index)
            if isinstance(made, Failed):
                return made
        try:
            piece = read(work)
        except Spoiled as error:
            node.end(str(error))
            return Failed(str(error))
        if not isinstance(piece, Failed) and work.index in snapshots.spoiled:
            raise Violation(CORRUPT, f"node {node.id} serves its snapshot at {work.index}, which is spoiled")
        return piece

    return Pending(end)


def _make_stream(node: Worker, path: Path, index: int) -> SnapshotInfo | Failed:
    """What others are sent of a state that this node has marked."""
    file = BytesIO()
    try:
        node.jobs.marks[path, index].stream()(file)
    except ValueError as error:  # another state has taken its place
        return Failed(str(error))
    term = node.snapshots_of(marks_of(path)).term(index)
    return node.snapshots_of(path).file(index, term, file.getvalue())


def _write(node: Worker, job: Job) -> Pending:
    return Pending(lambda: node.snapshots_of(job.path).write(job.work))


def _take_snapshot(node: Worker, job: Job) -> Pending:
    work: TakeSnapshot = job.work
    index, jobs = work.index, node.jobs
    applied = jobs.applied.get(job.path, 0)
    if applied != index:
        raise Violation(SNAPSHOTS, f"node {node.id} takes a snapshot at {index}, but its App is at {applied}")
    named = jobs.newest_named(job.path)
    marked = jobs.take_mark(job)
    write = node.app.snapshot(job.path) if marked is None else marked[0].write
    snapshots = node.snapshots_of(job.path) if marked is None else marked[1]

    def end() -> Any:
        file = BytesIO()
        try:
            write(file)
        except ValueError as error:
            if jobs.restored.get(job.path, 0) <= index:
                raise
            return Failed(str(error))  # the state was replaced meanwhile by a newer one; a real node says the same
        piece_bytes = work.piece_bytes if isinstance(work, TakeCommonSnapshot) else 0
        keep_index = named if work.keep_index is None else work.keep_index
        held = () if marked is not None else work.held or ()
        info = snapshots.file(index, work.term, file.getvalue(), keep_index, piece_bytes, held)
        if isinstance(info, SnapshotInfo):
            jobs.took(job.path, index)
            if marked is not None:
                jobs.marked(job, marked[0], named)
                node.snapshots_of(job.path).discard(keep_index, work.held or ())
        return info

    return Pending(end)


DOERS: Mapping[type, SimDoer] = {
    TakeSnapshot: _take_snapshot,
    TakeCommonSnapshot: _take_snapshot,
    VerifyBatch: _verify,
    ReadChunk: _read,
    ReadPiece: _read_piece,
    WriteChunk: _write,
}
"""What the runtime of a real node does as well."""
