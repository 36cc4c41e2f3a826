"""FileThread: the thread of a file that one thread at a time may use. What it is asked to do is done in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from quorate.runtime.errors import WorkLeft

T = TypeVar("T")

STOP_S_MAX: Final = 2.0


class FileThread:
    """``file`` is named in errors alone."""

    def __init__(self, name: str, file: Path) -> None:
        self._file = file
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"quorate-{name}")
        self._has_ended = False

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """Call it there. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(call, *args))

    async def end(self, last: Callable[[], Awaitable[None]]) -> None:
        """When ``last`` is done, whose last call closes the file. A second time is no error.

        Raises WorkLeft if that takes too long.
        """
        if self._has_ended:
            return
        self._has_ended = True
        closing = asyncio.ensure_future(last())
        if not (await asyncio.wait((closing,), timeout=STOP_S_MAX))[0]:
            closing.cancel()
            raise WorkLeft(
                f"{self._file} was left as it is after {STOP_S_MAX:g} s: what it lacks comes again at the next start. "
                "Look after the disk if it hangs"
            )
        self._thread.shutdown(wait=False)
        await closing
