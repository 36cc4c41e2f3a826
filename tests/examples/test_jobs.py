"""examples/jobs: workers are killed and suspended; no job is lost, and no stale result replaces a newer one."""

from __future__ import annotations

import re
import signal
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from quorate import connect
from quorate.objects import Queue

from tests.cluster import until
from tests.examples.programs import EXAMPLES, PATIENCE_S, Program, nodes, program

WORKERS = 3
KILLS = 20
LINE = re.compile(r"(took|stored|done|refused) job (\d+) with token (\d+)")
LEASE_S = "2"


class Line:
    """What a worker printed."""

    def __init__(self, text: str) -> None:
        found = LINE.match(text)
        assert found is not None, text
        self.what, self.job, self.token = found[1], int(found[2]), int(found[3])


class Jobs:
    """The queue's nodes, its store, and workers that come and go."""

    def __init__(self, folder: Path, endpoints: str, queue: Queue) -> None:
        self.folder = folder
        self.queue = queue
        self.store = folder / "results.sqlite"
        self.texts: dict[int, str] = {}
        self.stored: dict[int, list[int]] = defaultdict(list)
        """By job, the tokens with which workers say that they have stored it."""
        self.env = {"ENDPOINTS": endpoints, "STORE": str(self.store), "LEASE_S": LEASE_S}
        self._started = 0

    def worker(self, work_s: float) -> Program:
        """One more. The caller ends it."""
        self._started += 1
        log = self.folder / f"w{self._started}.log"
        return Program([str(EXAMPLES / "jobs" / "worker.py")], log, WORK_S=f"{work_s}", **self.env)

    def put(self) -> int:
        """One more job; its number."""
        text = f"text {len(self.texts)}"
        number = self.queue.put(text)
        self.texts[number] = text
        return number

    def feed(self) -> None:
        """There is something to do for every worker."""
        while self.queue.waiting() < 2 * WORKERS:
            self.put()

    def has_begun(self, worker: Program) -> bool:
        """Whether a worker has printed something, with jobs for it to take."""
        self.feed()
        return bool(self.read(worker.new_lines()))

    def read(self, texts: list[str]) -> list[Line]:
        """What workers have printed, and note of what they stored."""
        lines = [Line(text) for text in texts]
        for line in lines:
            if line.what == "stored":
                self.stored[line.job].append(line.token)
        return lines

    def results(self, timeout_s: float = PATIENCE_S) -> dict[int, tuple[int, str]]:
        """Of each job, the token and the result. Raises sqlite3.OperationalError if somebody writes for so long."""
        with closing(sqlite3.connect(self.store, timeout=timeout_s, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            return {job: (token, result) for job, token, result in db.execute("SELECT job, token, result FROM results")}

    def assert_all_done(self) -> None:
        """Every job has its result, by the newest of the deliveries that stored one."""
        until(lambda: not len(self.queue), "all jobs are acknowledged", PATIENCE_S)
        results = self.results()
        assert {job: result for job, (_, result) in results.items()} == {
            job: text.upper() for job, text in self.texts.items()
        }
        for job, tokens in self.stored.items():
            assert results[job][0] >= max(tokens), f"job {job} was stored with tokens {tokens}"


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with (
        nodes("quorate.objects:Queue", tmp_path) as endpoints,
        connect(Queue, endpoints, timeout_s=PATIENCE_S) as queue,
    ):
        yield Jobs(tmp_path, endpoints, queue)


@pytest.mark.slow
def test_twenty_workers_are_killed_at_work_and_no_job_is_lost(jobs: Jobs) -> None:
    """Each has taken a job and not acknowledged it; by turns it has stored the result or not."""
    workers = [jobs.worker(0.02) for _ in range(WORKERS)]
    hit = tried = 0
    try:
        while hit < KILLS:
            what, place = ("took", "stored")[tried % 2], tried % WORKERS
            tried += 1
            seen: list[Line] = []

            def at_that_step(what: str = what, place: int = place, seen: list[Line] = seen) -> bool:
                jobs.feed()
                seen += jobs.read(workers[place].new_lines())
                return bool(seen) and seen[-1].what == what

            until(at_that_step, f"worker {place} {what} a job", PATIENCE_S)
            seen += jobs.read(workers[place].kill())
            hit += seen[-1].what in ("took", "stored")
            workers[place] = jobs.worker(0.02)
        for worker in workers:  # one that is still starting would not know what the signal means
            until(lambda worker=worker: jobs.has_begun(worker), "it takes a job", PATIENCE_S)
        jobs.assert_all_done()
        for worker in workers:
            assert worker.stop() == 0, worker.log()
    finally:
        for worker in workers:
            worker.kill()


def test_what_is_put_is_done_and_a_worker_stops_in_order(jobs: Jobs) -> None:
    texts = ["some text", "another text"]
    with program(str(EXAMPLES / "jobs" / "put.py"), *texts, log=jobs.folder / "put.log", **jobs.env) as put:
        assert put.line("job 2") == "job 2: another text"
    jobs.texts = dict(enumerate(texts, 1))
    worker = jobs.worker(0)
    try:
        jobs.assert_all_done()
        assert worker.stop() == 0, worker.log()
    finally:
        worker.kill()


def suspend_at_work(jobs: Jobs, worker: Program) -> Line:
    """Suspend a worker that has taken a job and not stored it; what it took."""
    while True:
        jobs.put()
        line = until(lambda: next(iter(jobs.read(worker.new_lines())), None), "it takes a job", PATIENCE_S)
        worker.suspend()
        try:
            if line.what == "took" and line.job not in jobs.results(timeout_s=0):
                return line
        except sqlite3.OperationalError:
            pass  # in the middle of a write
        worker.signal(signal.SIGCONT)


def test_a_suspended_worker_comes_too_late(jobs: Jobs) -> None:
    first = jobs.worker(0.5)
    try:
        late = suspend_at_work(jobs, first)
        second = jobs.worker(0)
        try:
            second.line(f"done job {late.job} ")
            newer = jobs.results()[late.job][0]
            assert newer > late.token
            first.signal(signal.SIGCONT)
            refused = Line(first.line("refused"))
            assert (refused.job, refused.token) == (late.job, late.token)
            jobs.assert_all_done()
            assert jobs.results()[late.job][0] == newer
        finally:
            second.kill()
    finally:
        first.kill()
