"""A loop in a thread: whoever waits for it is woken, whatever ends it."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from quorate.service.client.errors import BlocksLoop, NotRunning
from quorate.service.client.loop_thread import LoopThread


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    made = LoopThread("quorate-test", "thing")
    yield made
    made.stop()


async def sleep(seconds: float = 60.0) -> str:
    await asyncio.sleep(seconds)
    return "slept"


def test_it_runs_coroutines_until_it_is_stopped(thread: LoopThread) -> None:
    assert thread.run(sleep(0)) == "slept"
    with pytest.raises(ZeroDivisionError):
        thread.run(divide(0))
    thread.stop()
    thread.stop()
    assert thread.is_over
    with pytest.raises(NotRunning, match=r"^this thing is closed$"):
        thread.run(sleep())


async def divide(by: int) -> float:
    return 1 / by


def test_a_limit_of_time_cancels_what_takes_longer(thread: LoopThread) -> None:
    with pytest.raises(TimeoutError):
        thread.run(sleep(), 0.01)
    assert thread.run(others()) == 0


async def others() -> int:
    await asyncio.sleep(0)
    return len(asyncio.all_tasks()) - 1


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_ends_the_thread_wakes_those_who_wait(thread: LoopThread, error: type[BaseException]) -> None:
    found: list[BaseException] = []

    def wait() -> None:
        try:
            thread.run(sleep())
        except BaseException as caught:
            found.append(caught)

    def end() -> None:
        raise error("a bug")

    waiting = threading.Thread(target=wait)
    waiting.start()
    while thread.run(others()) == 0:
        time.sleep(0.001)
    thread.loop.call_soon_threadsafe(end)
    waiting.join(5)
    assert not waiting.is_alive()
    for caught in (*found, refusal(thread)):
        assert type(caught) is NotRunning
        assert str(caught) == f"the thread of this thing has ended: {error.__name__}: a bug"
    thread.stop()


def refusal(thread: LoopThread) -> BaseException | None:
    try:
        thread.run(sleep())
    except NotRunning as error:
        return error
    return None


def test_a_call_on_its_own_thread_is_refused(thread: LoopThread) -> None:
    async def call() -> None:
        thread.run(sleep())

    with pytest.raises(BlocksLoop, match="a call of the thing on its own thread would wait for itself"):
        thread.run(call())
