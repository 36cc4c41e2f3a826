"""Doers of a Node's own: in threads and in processes, failing, cancelled, and under way when the node stops."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.kernel import Core, Failed, Job, Key
from quorate.runtime.jobs import Jobs
from quorate.runtime.node import Node

from tests import cluster
from tests.processes import source_environment
from tests.runtime.nodes import Listing, nodes
from tests.runtime.servers import run, until
from tests.runtime.slices import add_up, raises, whoami

SLICE = 50_000


class Wait(msgspec.Struct, frozen=True):
    """In a thread, until the test says so."""


class AddUp(msgspec.Struct, frozen=True):
    """In a process, so many slices."""

    slices: int


class WhoDoes(msgspec.Struct, frozen=True):
    """In a process; the result is which."""


class Break(msgspec.Struct, frozen=True):
    """Raises at this place."""

    where: str


class Unknown(msgspec.Struct, frozen=True):
    """Nobody does this."""


JOBS = {"wait": Wait(), "add": AddUp(3), "add for ever": AddUp(10**9), "who": WhoDoes(), "unknown": Unknown()}
JOBS |= {f"break {where}": Break(where) for where in ("begin", "await", "thread", "process", "value")}


class Asker(Core):
    """Does as it is submitted: ``name`` asks for that job by that name, ``-name`` cancels it. Delivers what came."""

    def submit(self, values: Sequence[bytes]) -> None:
        for name in map(bytes.decode, values):
            if name.startswith("-"):
                self.env.cancel_work(name[1:])
            else:
                self.env.work(name, JOBS[name])

    def on_done(self, key: Key, result: Any) -> None:
        self.env.deliver((key, result))


class Doers:
    """The doers, and what the test sees of them."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.waited = 0
        self.slices = 0

    async def wait(self, jobs: Jobs, job: Job) -> str:
        def block() -> str:
            self.waited += 1
            assert self.may_end.wait(30)
            return "waited"

        return await jobs.in_thread(block)

    async def add_up(self, jobs: Jobs, job: Job) -> int:
        total = 0
        for _ in range(job.work.slices):
            total += await jobs.in_process(add_up, SLICE)
            self.slices += 1
        return total

    async def who(self, jobs: Jobs, job: Job) -> int:
        return await jobs.in_process(whoami)

    def breaks(self, jobs: Jobs, job: Job) -> Any:
        if job.work.where == "begin":
            raise KeyError("planted")
        if job.work.where == "value":
            return "nothing to wait for"
        return self._breaks(jobs, job.work.where)

    async def _breaks(self, jobs: Jobs, where: str) -> None:
        if where == "thread":
            await jobs.in_thread(lambda: raises("planted"))
        if where == "process":
            await jobs.in_process(raises, "planted")
        raise KeyError("planted")

    def table(self) -> dict[type, Any]:
        return {Wait: self.wait, AddUp: self.add_up, WhoDoes: self.who, Break: self.breaks}


def with_doers(folder: Path, work: Callable[[Node, Listing, Doers], Any]) -> None:
    async def main() -> None:
        app, doers = Listing(), Doers()
        async with nodes(folder, Asker, [app], doers=doers.table()) as (node,):
            try:
                await work(node, app, doers)
            finally:
                doers.may_end.set()

    run(main())


def test_a_doer_in_a_thread(tmp_path: Path) -> None:
    async def work(node: Node, app: Listing, doers: Doers) -> None:
        node.submit([b"wait", b"add"])
        await until(lambda: doers.waited)
        await until(lambda: app.seen)  # meanwhile the loop is free
        assert app.seen == [("add", 3 * sum(range(SLICE)))]
        doers.may_end.set()
        await until(lambda: len(app.seen) == 2)
        assert app.seen[1] == ("wait", "waited")

    with_doers(tmp_path, work)


@pytest.mark.parametrize("where", ["begin", "await", "thread", "process"])
def test_a_doer_that_raises_is_a_failed(tmp_path: Path, where: str) -> None:
    async def work(node: Node, app: Listing, doers: Doers) -> None:
        node.submit([b"break %b" % where.encode()])
        await until(lambda: app.seen)
        assert app.seen == [(f"break {where}", Failed("KeyError: 'planted'"))]
        node.submit([b"add"])
        await until(lambda: len(app.seen) == 2)

    with_doers(tmp_path, work)


def test_what_cannot_be_awaited_is_a_failed(tmp_path: Path) -> None:
    async def work(node: Node, app: Listing, doers: Doers) -> None:
        node.submit([b"break value"])
        await until(lambda: app.seen)
        assert isinstance(app.seen[0][1], Failed)
        assert "awaitable" in app.seen[0][1].why

    with_doers(tmp_path, work)


def test_a_job_that_nobody_does_is_a_failed(tmp_path: Path) -> None:
    async def work(node: Node, app: Listing, doers: Doers) -> None:
        node.submit([b"unknown"])
        await until(lambda: app.seen)
        assert app.seen == [("unknown", Failed("nobody on this node does a Unknown"))]

    with_doers(tmp_path, work)


def test_a_job_in_slices_is_cancelled_between_them(tmp_path: Path) -> None:
    async def work(node: Node, app: Listing, doers: Doers) -> None:
        node.submit([b"add for ever"])
        await until(lambda: doers.slices >= 3)
        node.submit([b"-add for ever"])
        node.submit([b"who"])  # one process: what is cancelled must have made room
        await until(lambda: app.seen)
        done = doers.slices
        node.submit([b"add"])
        await until(lambda: len(app.seen) == 2)
        assert doers.slices == done + 3
        assert [key for key, _ in app.seen] == ["who", "add"]

    with_doers(tmp_path, work)


def test_the_result_of_a_cancelled_thread_is_dropped(tmp_path: Path) -> None:
    async def work(node: Node, app: Listing, doers: Doers) -> None:
        node.submit([b"wait"])
        await until(lambda: doers.waited == 1)
        node.submit([b"-wait", b"wait"])
        await until(lambda: doers.waited == 2)
        doers.may_end.set()
        await until(lambda: app.seen)
        node.submit([b"who"])
        await until(lambda: len(app.seen) == 2)
        assert [key for key, _ in app.seen] == ["wait", "who"]

    with_doers(tmp_path, work)


def test_a_worker_that_is_killed_fails_its_job_and_the_next_gets_another(tmp_path: Path) -> None:
    async def work(node: Node, app: Listing, doers: Doers) -> None:
        node.submit([b"who"])
        await until(lambda: app.seen)
        worker = app.seen.pop()[1]
        node.submit([b"add for ever"])
        await until(lambda: doers.slices)
        os.kill(worker, signal.SIGKILL)
        await until(lambda: app.seen)
        key, failed = app.seen.pop()
        assert key == "add for ever"
        assert failed.why.startswith("BrokenProcessPool: ")
        node.submit([b"who"])
        await until(lambda: app.seen)
        _, another = app.seen.pop()
        assert isinstance(another, int)
        assert another not in (worker, os.getpid())

    with_doers(tmp_path, work)


def test_a_node_stops_with_jobs_under_way(tmp_path: Path) -> None:
    async def work(node: Node, app: Listing, doers: Doers) -> None:
        node.submit([b"wait", b"add for ever", b"who", b"unknown"])
        await until(lambda: doers.slices and doers.waited)
        asyncio.get_running_loop().call_soon(doers.may_end.set)  # a thread is waited for
        before = len(app.seen)
        await node.stop()
        done = doers.slices
        assert len(app.seen) == before
        await asyncio.sleep(0)
        assert doers.slices == done

    with_doers(tmp_path, work)


def test_workers_end_with_a_node_that_is_killed() -> None:
    """A pool's workers wait for work for ever, and do not notice by themselves."""

    def is_there(process: int) -> bool:
        try:
            os.kill(process, 0)
            return b") Z" not in Path(f"/proc/{process}/stat").read_bytes()  # nobody may be there to bury it
        except (ProcessLookupError, FileNotFoundError):
            return False

    command = [sys.executable, "-m", "tests.runtime.slices"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=source_environment()) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert is_there(worker)
        parent.kill()
    cluster.until(lambda: not is_there(worker), "the worker ends")
