"""Kill a node at one step of its snapshots after another, and look at what it comes back with.

    python -m tests.runtime.mark_steps FOLDER FIRST STRIDE

A step is a call that changes a file, or a commit of the store; the process ends before it. It takes snapshots, names
them as a journal would, and has another folder receive one, which goes on from there. Prints how many steps there are
and how many were tried. Each try is a process of its own, forked from this one, which opens nothing itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from quorate.machines.kv.store import KvStore
from quorate.parts.log.replicated import SnapshotInfo, TakeSnapshot
from quorate.runtime.files import replace_file

from tests.runtime.lives import Life, began, carried

STEPS: Final = ("pwrite", "write", "fsync", "fdatasync", "rename", "replace", "unlink")
NAMED: Final = "named"


class Steps:
    """Counts them, and ends the process before one."""

    def __init__(self, last: int) -> None:
        self.count = 0
        self._last = last

    def watch(self) -> None:
        """From now on."""
        for name in STEPS:
            setattr(os, name, self._counting(getattr(os, name)))
        KvStore.commit = self._counting(KvStore.commit)  # type: ignore[method-assign]

    def _counting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            if self.count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1
            return call(*args, **options)

        return counted


def named(folder: Path) -> int:
    """The snapshot that the journal names."""
    path = folder / NAMED
    return int(path.read_text()) if path.exists() else 0


async def taken(life: Life) -> int:
    """A snapshot, which the journal names then."""
    index = life.replica.applied_index
    info = await life.do(TakeSnapshot(index, 1))
    assert isinstance(info, SnapshotInfo), info
    replace_file(life.folder / NAMED, b"%d" % index)
    return index


async def history(folder: Path) -> None:
    """Snapshots of one node, and one of them on its way to another."""
    source = await began(folder / "source")
    for count in (60, 40, 50):
        source.put(count)
        index = await taken(source)
    source.put(30)
    target = await began(folder / "target")
    target.put(20)
    await taken(target)
    await carried(source, target, index)
    replace_file(target.folder / NAMED, b"%d" % index)
    (await target.jobs.load(index))()
    for life in (target, source, target):
        life.put(45)
        await taken(life)
    await source.stop()
    await target.stop()


async def look(folder: Path, states: dict[int, str]) -> None:
    """A start, some more, and another start, of both nodes."""
    for node in ("source", "target"):
        if not (folder / node).exists():
            continue
        for _ in range(2):
            index = named(folder / node)
            life = await began(folder / node, index)
            found = life.state()
            assert found[0] == index, (node, found)
            if index:
                assert found[2].hex() == states[index], (node, index)
            life.put(35)
            await taken(life)
            life.put(10)
            await life.stop()


async def all_states(folder: Path) -> dict[int, str]:
    """By index."""
    life = await began(folder)
    states = {}
    for _ in range(500):
        index = life.put(1)
        states[index] = life.state()[2].hex()
    await life.stop()
    return states


def apart(main: Callable[[], Any]) -> int:
    """In a process of its own; how it ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.run(main())
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def main() -> None:
    folder, first, stride = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    reference = folder / "states"

    async def note() -> None:
        reference.write_text(json.dumps(await all_states(folder / "reference")))

    assert apart(note) == 0
    states = {int(index): state for index, state in json.loads(reference.read_text()).items()}
    tried, step, code = 0, first, -signal.SIGKILL
    while code == -signal.SIGKILL:
        victim = folder / "victim"
        victim.mkdir()

        async def life(step: int = step, victim: Path = victim) -> None:
            Steps(step).watch()
            await history(victim)

        code = apart(life)
        assert code in (0, -signal.SIGKILL), f"step {step}: {code}"
        assert apart(lambda victim=victim: look(victim, states)) == 0, f"after step {step}"  # type: ignore[misc]
        shutil.rmtree(victim)
        tried += 1
        step += stride
    print(json.dumps({"steps": step, "tried": tried}))


if __name__ == "__main__":
    main()
