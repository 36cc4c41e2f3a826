"""Jobs of any type: those that are registered, in threads and processes; those that are cancelled or fail."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.kernel import Failed, Job
from quorate.runtime.errors import StorageError
from quorate.runtime.files import Identity
from quorate.runtime.jobs import Jobs
from quorate.runtime.stores import SnapshotStores

from tests.kernel.machine import Outputs
from tests.runtime.servers import run, until

pytestmark = [
    pytest.mark.filterwarnings("error::RuntimeWarning"),  # a coroutine that nobody awaited
    pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning"),
]
CHILD = (("child", 1),)


class Square(msgspec.Struct, frozen=True):
    """A job."""

    number: int


class Bench:
    """Jobs, and what came of them by path and key."""

    def __init__(self, folder: Path) -> None:
        self.jobs = Jobs(SnapshotStores(folder, Identity("c", 1)), Outputs())
        self.results: list[tuple[Any, Any, Any]] = []

    def start(self, work: Any, key: Any = "k", path: Any = ()) -> None:
        self.jobs.start(Job(path, key, work), lambda result: self.results.append((path, key, result)))

    async def results_of(self, count: int) -> list[Any]:
        await until(lambda: len(self.results) >= count)
        return [result for _, _, result in self.results]


def with_bench(folder: Path, body: Any) -> None:
    """Run a coroutine function with a Bench."""

    async def main() -> None:
        bench = Bench(folder)
        await body(bench)
        await bench.jobs.stop()

    run(main())


def square(number: int) -> int:
    return number * number


def process_of(number: int) -> tuple[int, int]:
    return os.getpid(), square(number)


def test_a_registered_doer_does_its_type_in_a_thread(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        threads = []

        def slowly(number: int) -> int:
            threads.append(threading.current_thread())
            return square(number)

        bench.jobs.register(Square, lambda job: bench.jobs.in_thread(lambda: slowly(job.work.number)))
        for number in range(20):
            bench.start(Square(number), ("k", number))
        assert sorted(await bench.results_of(20)) == [square(number) for number in range(20)]
        assert threading.main_thread() not in threads
        assert all(key[1] ** 2 == result for _, key, result in bench.results)

    with_bench(tmp_path, body)


def test_what_holds_the_interpreter_goes_to_another_process(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        bench.jobs.register(Square, lambda job: bench.jobs.in_process(process_of, job.work.number))
        bench.start(Square(7))
        [(process, result)] = await bench.results_of(1)
        assert result == 49
        assert process != os.getpid()

    with_bench(tmp_path, body)


def test_a_job_that_nobody_does_is_a_failed(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        bench.start(Square(7))
        [result] = await bench.results_of(1)
        assert isinstance(result, Failed)
        assert "Square" in result.why

    with_bench(tmp_path, body)


@pytest.mark.parametrize("kind", [ValueError, TypeError, OSError, StorageError, KeyError])
@pytest.mark.parametrize("at_once", [True, False])
def test_what_a_doer_raises_is_a_failed(tmp_path: Path, kind: type[Exception], at_once: bool) -> None:
    async def later(job: Job) -> Any:
        raise kind("no")

    def now(job: Job) -> Any:
        raise kind("no")

    async def body(bench: Bench) -> None:
        bench.jobs.register(Square, now if at_once else later)
        bench.start(Square(7))
        [result] = await bench.results_of(1)
        assert isinstance(result, Failed)
        assert "no" in result.why

    with_bench(tmp_path, body)


def test_a_job_that_is_cancelled_as_soon_as_it_is_begun_never_begins(tmp_path: Path) -> None:
    """A core may ask for both in one step."""

    async def body(bench: Bench) -> None:
        begun: list[int] = []
        bench.jobs.register(Square, lambda job: bench.jobs.in_thread(lambda: begun.append(job.work.number)))
        bench.start(Square(1))
        bench.jobs.cancel((), "k")
        bench.start(Square(2), "other")
        await bench.results_of(1)
        assert begun == [2]
        assert [key for _, key, _ in bench.results] == ["other"]

    with_bench(tmp_path, body)


def test_a_job_under_way_is_cancelled_by_path_and_key(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        stopped: list[int] = []
        gate = asyncio.Event()

        async def waits(job: Job) -> int:
            try:
                await gate.wait()
            except asyncio.CancelledError:
                stopped.append(job.work.number)
                raise
            return square(job.work.number)

        bench.jobs.register(Square, waits)
        bench.start(Square(1))
        bench.start(Square(2), path=CHILD)
        bench.start(Square(3), "other")
        bench.start(Square(4), path=CHILD)
        await asyncio.sleep(0)
        bench.jobs.cancel(CHILD, "k")
        bench.jobs.cancel(CHILD, "never begun")
        gate.set()
        assert sorted(await bench.results_of(2)) == [1, 9]
        assert stopped == [2, 4]
        bench.start(Square(5), path=CHILD)
        assert (await bench.results_of(3))[-1] == 25, "a key may be used again"

    with_bench(tmp_path, body)


def test_a_stop_ends_what_waits_and_tells_nobody(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        async def forever(job: Job) -> None:
            await asyncio.get_running_loop().create_future()

        bench.jobs.register(Square, forever)
        bench.start(Square(1))
        await asyncio.sleep(0)
        bench.start(Square(2), "not begun")
        await bench.jobs.stop()
        assert bench.results == []

    with_bench(tmp_path, body)
