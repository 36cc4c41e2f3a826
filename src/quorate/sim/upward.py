"""What a node hands upwards once it is durable: outputs to the App, and jobs, in order.

A Restored is not handed to the App. Its snapshot is loaded aside, which takes time; whatever comes after it waits, and
then the App's state is replaced.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from quorate.kernel import App, Done, Failed, Job, Turn
from quorate.parts.keys import VerifyBatch
from quorate.parts.replicated import Committed, ReadChunk, Restored, TakeSnapshot, WriteChunk
from quorate.sim.checkers.base import Violation

if TYPE_CHECKING:
    from quorate.sim.node import SimNode

JOB_S = 0.002
"""What a job takes on average."""

SNAPSHOTS = "snapshots"


class Upward:
    """The upper edge of one life of a node. ``applied`` is the last index that the App was given."""

    def __init__(self, node: SimNode, app: App) -> None:
        self._node = node
        self._loading: deque[Any] | None = None
        self._restored_index = 0
        self.app = app
        self.applied = 0

    def take(self, turn: Turn) -> None:
        """A Turn's outputs and jobs; in line behind a snapshot that is being loaded."""
        if self._loading is None:
            self._hand_up(deque((*turn.outputs, *turn.jobs)))
            self.app.settle()
        else:
            self._loading.extend(turn.outputs)
            self._loading.extend(turn.jobs)

    def _hand_up(self, waiting: deque[Any]) -> None:
        while waiting:
            item = waiting.popleft()
            if type(item) is Job:
                self._work(item)
                continue
            self._node.saw_output(item)
            if type(item) is Restored:
                self._loading = waiting
                self._load(item.index)
                return
            if type(item) is Committed:
                self.applied = item.first_index + len(item.entries) - 1
            self.app.output(item)

    def _load(self, index: int) -> None:
        data = self._node.snapshots.data(index)
        if data is None:
            raise Violation(SNAPSHOTS, f"node {self._node.id} restores a snapshot at {index} that it does not have")
        adopt = self.app.restore(BytesIO(data))

        def end() -> None:
            adopt()
            self.applied = self._restored_index = index
            waiting, self._loading = self._loading, None
            assert waiting is not None
            self._hand_up(waiting)
            self.app.settle()

        self._later(end)

    def _work(self, job: Job) -> None:
        """Do a job some time later; its result is an input."""
        do = self._begin(job.work)
        self._later(lambda: self._node.inbox.append(Done(job.key, do(), job.path)))

    def _later(self, act: Callable[[], None]) -> None:
        """After the time that work takes, unless the process dies meanwhile."""
        self._node.after(JOB_S * (0.1 + self._node.rng.expovariate(1.0)), act)

    def _begin(self, work: Any) -> Callable[[], Any]:
        """The beginning of a job, now; the returned function ends it with its result."""
        snapshots = self._node.snapshots
        keyring = self._node.world.keyring
        match work:
            case TakeSnapshot():
                return self._take_snapshot(work)
            case VerifyBatch():
                return lambda: keyring.verify_batch(work) if keyring else Failed("this world has no keys")
            case ReadChunk():
                return lambda: snapshots.read(work)
            case WriteChunk():
                return lambda: snapshots.write(work)
            case _:
                return lambda: Failed(f"the simulator has no job {type(work).__name__}")

    def _take_snapshot(self, work: TakeSnapshot) -> Callable[[], Any]:
        index = work.index
        if self.applied != index:
            raise Violation(
                SNAPSHOTS, f"node {self._node.id} takes a snapshot at {index}, but its App is at {self.applied}"
            )
        write = self.app.snapshot()

        def end() -> Any:
            file = BytesIO()
            try:
                write(file)
            except ValueError as error:
                if self._restored_index <= index:
                    raise
                return Failed(str(error))  # the state was replaced meanwhile by a newer one; a real node says the same
            return self._node.snapshots.file(index, work.term, file.getvalue(), work.keep_index)

        return end
