"""LoopThread: an event loop in a thread, for callers that block; and where they must not.

How it works. A call is a coroutine that runs on the loop while its caller waits. Whoever waits is woken in every case:
by the result, by a limit of time, or by the end of the thread, whatever ended it. Three callers would wait for ever, or
make others wait, and get an error at once instead: one in a forked process, where the thread does not exist; one on the
loop's own thread; and one whose thread runs another event loop, which would stand still.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from quorate.service.client.errors import BlocksLoop, Forked, NotRunning, QuorateError

STOP_GRACE_S: Final = 5.0
COROUTINE_FLAGS: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

T = TypeVar("T")
_BARRED: ContextVar[str] = ContextVar("barred", default="")


@contextmanager
def no_loop_threads(why: str) -> Iterator[None]:
    """While it lasts nobody here can begin one: a program's file is loaded that was not meant to run."""
    token = _BARRED.set(why)
    try:
        yield
    finally:
        _BARRED.reset(token)


class LoopThread:
    """An event loop that runs in a thread. ``what`` is whose it is, for errors."""

    def __init__(self, name: str, what: str = "client") -> None:
        """Raises NotRunning within ``no_loop_threads``."""
        if why := _BARRED.get():
            raise NotRunning(why)
        self.loop = asyncio.new_event_loop()
        self.pid = os.getpid()
        self.what = what
        self._why = f"this {what} is closed"
        self._is_over = False
        self._waiting: set[Future[Any]] = set()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine there and wait for it, so long at most. Raises TimeoutError, Forked, NotRunning."""
        try:
            self.check()
        except QuorateError:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        self._waiting.add(future)
        if self._is_over:  # it ended meanwhile, perhaps before it saw this future
            self._abandon()
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()  # the time is up, or somebody pressed Ctrl-C
            raise
        finally:
            self._waiting.discard(future)

    def check(self) -> None:
        """Raises Forked, NotRunning where nothing can run there; BlocksLoop on the thread itself."""
        check_process(self.pid, self.what)
        if self._is_over or self.loop.is_closed():
            raise NotRunning(self._why)
        if threading.current_thread() is self._thread:
            raise BlocksLoop(f"a call of the {self.what} on its own thread would wait for itself")

    @property
    def is_over(self) -> bool:
        """Whether nothing runs there any more; in a fork nothing ever did."""
        return self._is_over or self.loop.is_closed() or os.getpid() != self.pid

    def stop(self) -> None:
        """End the loop and its thread, when what still runs there has ended: others wait for it."""
        if self.loop.is_closed() or os.getpid() != self.pid:
            return  # a fork has the loop's memory and no thread: closing would take the parent's descriptors
        if not self._is_over:
            self.run(_end_tasks())
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _main(self) -> None:
        try:
            self.loop.run_forever()
        except BaseException as error:
            # An interrupt or SystemExit out of a callback: nobody above takes it, and callers must not wait for ever.
            self._why = f"the thread of this {self.what} has ended: {type(error).__name__}: {error}"
            raise
        finally:
            self._is_over = True
            self._abandon()

    def _abandon(self) -> None:
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(NotRunning(self._why))


async def _end_tasks() -> None:
    """A coroutine that never ends would leave the thread that waits for it waiting for ever."""
    running = asyncio.all_tasks() - {asyncio.current_task()}
    if running:
        _, late = await asyncio.wait(running, timeout=STOP_GRACE_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def check_process(pid: int, what: str) -> None:
    """Raises Forked where this is not the process in which it was made."""
    if (here := os.getpid()) != pid:
        raise Forked(
            f"this {what} was made in process {pid}, and this is its fork {here}, without its threads and connections: "
            f"make a {what} in each process, after the fork (gunicorn: in post_fork, or on first use)"
        )


def refuse_on_loop(instead: str) -> None:
    """Raises BlocksLoop where an event loop runs in this thread; a notebook's cell may block the notebook's own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if not _is_in_cell():
        raise BlocksLoop(f"this call blocks, and an event loop runs in this thread; nothing was sent: {instead}")


def _is_in_cell() -> bool:
    """Whether the code below is that of a notebook's cell, and not that of a coroutine or a callback."""
    if "IPython" not in sys.modules:
        return False
    frame = inspect.currentframe()
    while frame is not None:
        flags, module = frame.f_code.co_flags, str(frame.f_globals.get("__name__"))
        if flags & COROUTINE_FLAGS or module.startswith("asyncio."):
            return False
        if module == "__main__" and not flags & inspect.CO_NEWLOCALS:
            return True
        frame = frame.f_back
    return False
