"""Work: the App's own jobs, a step at a time: their order, and what becomes of one that is cancelled or fails."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from quorate.kernel import Done, Failed, Job, Path
from quorate.kernel.app import Steps
from quorate.kernel.work import JOBS_MAX, Work

from tests.kernel.machine import Outputs

GROUP: Path = (("group", 1),)


class Task(msgspec.Struct, frozen=True):
    """So many steps; the result is the name."""

    name: str
    steps: int = 3
    ordered: bool = True
    raises: Exception | None = None


class Refused(Task, frozen=True):
    """A job that the App will not even begin."""


class Worker(Outputs):
    """Lists each step of each job, and which were closed before their end."""

    works = (Task, Refused)

    def __init__(self) -> None:
        super().__init__()
        self.did: list[str] = []
        self.closed: list[str] = []
        self.made: list[Steps] = []
        """Held, so that none is closed only because nobody has it any more."""

    def work(self, job: Any) -> Steps:
        if isinstance(job, Refused):
            raise ValueError("not this one")
        self.made.append(self._steps(job))
        return self.made[-1]

    def _steps(self, task: Task) -> Steps:
        try:
            for number in range(task.steps):
                self.did.append(f"{task.name}{number}")
                if task.raises is not None and number == task.steps - 1:
                    raise task.raises
                if number < task.steps - 1:
                    yield
        except GeneratorExit:
            self.closed.append(task.name)
            raise
        return task.name

    def in_order(self, job: Any) -> bool:
        return bool(job.ordered)


class Bench:
    """The jobs of a Worker. What ended is listed by key."""

    def __init__(self) -> None:
        self.app = Worker()
        self.work = Work(self.app)
        self.ended: list[tuple[Any, Any]] = []

    def begin(self, name: str, steps: int = 3, *, path: Path = (), **options: Any) -> None:
        self._note(self.work.begin(Job(path, name, Task(name, steps, **options))))

    def step(self) -> None:
        for done in self.work.step():
            self._note(done)

    def finish(self) -> None:
        while not self.work.is_idle:
            self.step()

    def did(self) -> list[str]:
        did, self.app.did = self.app.did, []
        return did

    def _note(self, done: Done | None) -> None:
        if done is not None:
            self.ended.append((done.key, done.result))


def test_a_job_does_its_first_step_at_once_and_the_others_one_by_one() -> None:
    bench = Bench()
    bench.begin("a")
    assert (bench.did(), bench.ended) == (["a0"], [])
    bench.step()
    assert (bench.did(), bench.ended) == (["a1"], [])
    bench.step()
    assert (bench.did(), bench.ended) == (["a2"], [("a", "a")])
    assert bench.work.is_idle
    bench.step()
    assert bench.did() == []


def test_a_job_of_one_step_ends_as_it_begins() -> None:
    bench = Bench()
    done = bench.work.begin(Job(GROUP, ("k", 1), Task("a", 1)))
    assert done == Done(("k", 1), "a", GROUP)
    assert bench.work.is_idle


def test_jobs_in_order_are_done_one_after_the_other() -> None:
    bench = Bench()
    for name in "abc":
        bench.begin(name, 2)
    assert bench.did() == ["a0"]
    bench.finish()
    assert bench.did() == ["a1", "b0", "b1", "c0", "c1"]
    assert bench.ended == [("a", "a"), ("b", "b"), ("c", "c")]


def test_a_short_job_does_not_overtake_those_in_line() -> None:
    bench = Bench()
    bench.begin("a", 2)
    bench.begin("b", 1)
    bench.step()  # a ends, and b has not begun
    bench.begin("c", 1)
    bench.finish()
    assert bench.ended == [("a", "a"), ("b", "b"), ("c", "c")]


def test_jobs_without_order_take_turns_with_the_others() -> None:
    bench = Bench()
    bench.begin("a", 3)
    bench.begin("x", 3, ordered=False)
    bench.begin("b", 1)
    bench.begin("y", 2, ordered=False)
    assert bench.did() == ["a0", "x0", "y0"]
    bench.step()
    assert bench.did() == ["x1", "y1", "a1"]
    bench.finish()
    assert bench.did() == ["x2", "a2", "b0"]
    assert [key for key, _ in bench.ended] == ["y", "x", "a", "b"]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_job_under_way_is_closed_when_it_is_cancelled_and_ends_in_nothing(ordered: bool) -> None:
    bench = Bench()
    bench.begin("a", ordered=ordered)
    bench.begin("b", 1)
    bench.work.cancel((), "a")
    assert bench.app.closed == ["a"]
    bench.finish()
    assert bench.did() == ["a0", "b0"], "the line goes on"
    assert bench.ended == [("b", "b")]


def test_a_job_in_line_is_never_begun_when_it_is_cancelled() -> None:
    bench = Bench()
    for name in "abc":
        bench.begin(name, 2)
    bench.work.cancel((), "b")
    bench.finish()
    assert bench.did() == ["a0", "a1", "c0", "c1"]
    assert bench.app.closed == []


def test_a_job_is_cancelled_by_path_and_key() -> None:
    bench = Bench()
    for path in ((), GROUP):
        bench.begin("a", path=path)
        bench.begin("x", path=path, ordered=False)
    for key in ("a", "x", "never begun"):
        bench.work.cancel(GROUP, key)
    bench.finish()
    assert sorted(bench.ended) == [("a", "a"), ("x", "x")]
    bench.begin("a", 1)
    assert bench.ended[-1] == ("a", "a"), "a key may be used again"


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_value_error_makes_it_a_failed_and_the_line_goes_on(ordered: bool, steps: int) -> None:
    bench = Bench()
    bench.begin("a", steps, ordered=ordered, raises=ValueError("no such block"))
    bench.begin("b", 2)
    bench.finish()
    assert bench.ended == [("a", Failed("no such block")), ("b", "b")]


def test_a_value_error_before_the_first_step_makes_it_a_failed_too() -> None:
    bench = Bench()
    bench.begin("a", 2)
    assert bench.work.begin(Job((), "r", Refused("r", ordered=False))) == Done("r", Failed("not this one"))
    assert bench.work.begin(Job((), "s", Refused("s"))) is None
    bench.finish()
    assert bench.ended == [("a", "a"), ("s", Failed("not this one"))]


def test_another_error_is_our_own_mistake() -> None:
    bench = Bench()
    with pytest.raises(KeyError):
        bench.begin("a", 1, raises=KeyError("ours"))


def test_more_jobs_than_the_limit_fail_and_the_others_go_on() -> None:
    bench = Bench()
    for number in range(JOBS_MAX):
        bench.begin(f"{number}/", 2, ordered=number % 2 == 0)
    assert (len(bench.work), bench.ended) == (JOBS_MAX, [])
    for ordered in (True, False):
        bench.begin("more", 1, ordered=ordered)
    why = Failed(f"more than {JOBS_MAX} jobs are under way")
    assert bench.ended == [("more", why), ("more", why)]
    bench.work.cancel((), "4/")
    bench.begin("again", 1)
    bench.finish()
    assert bench.ended[-1] == ("again", "again")
    assert len(bench.ended) == JOBS_MAX + 2


def test_close_stops_everything() -> None:
    bench = Bench()
    for name, ordered in (("a", True), ("b", True), ("x", False), ("y", False)):
        bench.begin(name, ordered=ordered)
    bench.work.close()
    assert sorted(bench.app.closed) == ["a", "x", "y"]
    assert bench.work.is_idle
    assert bench.work.step() == []
    bench.work.close()


def test_an_app_that_does_no_jobs_says_so() -> None:
    steps: Iterator[None] = Outputs().work(Task("a"))
    with pytest.raises(NotImplementedError, match="Outputs does no Task"):
        next(steps)
