"""What worker processes run in the tests of doers; as a program: a parent of a worker, to be killed.

It prints the worker's process id and then waits for ever.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from quorate.runtime.jobs import Jobs


def add_up(until: int) -> int:
    """A slice: some milliseconds of nothing but the interpreter."""
    return sum(range(until))


def raises(what: str) -> None:
    raise KeyError(what)


def whoami() -> int:
    return os.getpid()


async def _main() -> None:
    stores: Any = None  # no snapshots here, nor an App
    jobs = Jobs(stores, stores)
    print(await jobs.in_process(whoami), flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_main())
