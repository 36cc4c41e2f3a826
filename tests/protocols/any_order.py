"""Any inputs in any order to one node: a runner that carries out its jobs and looks at its state after each step."""

from typing import Any

from quorate.kernel import Done, Failed, Fired, Input, Received
from quorate.parts.log.replicated import Chunk, ReadChunk, SnapshotInfo, TakeSnapshot, WriteChunk, Written

from tests.protocols.stepped import SteppedNode

SNAPSHOT_BYTES = 10
HELPS = ("election", "agree", "job")
"""Steps that a run of chance seldom takes: a time-out, whatever the node waits for, the result of its oldest job."""


def job_result(work: Any) -> Any:
    """What a store with one short snapshot gives for a job."""
    if isinstance(work, TakeSnapshot):
        return SnapshotInfo(work.index, work.term, SNAPSHOT_BYTES, b"d" * 32)
    if isinstance(work, WriteChunk):
        end = work.offset + len(work.data)
        return Written(work.index, work.term, end, end >= work.total_bytes)
    assert isinstance(work, ReadChunk)
    if work.offset >= SNAPSHOT_BYTES:
        return Failed("outside")
    return Chunk(work.index, 1, work.offset, b"data", SNAPSHOT_BYTES)


class Watched:
    """A node with a leader and a log, its pending jobs, and what must never go back."""

    def __init__(self, node: SteppedNode) -> None:
        self.node = node
        self.jobs: list[Any] = []
        self._marks: tuple[Any, ...] | None = None

    def take(self, step: Any) -> None:
        """One input or one help, and a look at the state after it."""
        for item in [step] if not isinstance(step, str) else self._help(step):
            self.jobs += self.node.step(item).jobs
            self.look()

    def agreement(self) -> list[Any]:
        """The messages that give the node all it may wait for."""
        raise NotImplementedError

    def look(self) -> None:
        """Raises AssertionError where something went back or is out of bounds."""
        raise NotImplementedError

    def only_forward(self, *marks: Any) -> None:
        """Numbers that never fall."""
        before = self._marks or marks
        assert all(new >= old for new, old in zip(marks, before, strict=True)), (before, marks)
        self._marks = marks

    def _help(self, step: str) -> list[Input]:
        if step == "election":
            self.node.now += 3.0
            return [Fired("election")]
        if step == "agree":
            return [Received(peer, message) for peer in (1, 2) for message in self.agreement()]
        return [Done(job.key, job_result(job.work)) for job in [self.jobs.pop(0)]] if self.jobs else []


def check_kept(kept: dict[int, Any], log: Any, last: int) -> None:
    """The entries of ``log`` up to ``last`` are those that ``kept`` knows; it learns the new, forgets the compacted."""
    for index in [index for index in kept if index <= log.base_index]:
        del kept[index]
    for index, known in kept.items():
        assert log.slice(index, index) == [known], f"entry {index} was agreed on and replaced"
    for index in range(max(log.base_index, max(kept, default=0)) + 1, last + 1):
        kept[index] = log.slice(index, index)[0]
