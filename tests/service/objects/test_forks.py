"""A fork of a process that has nodes and clients: it is told to make its own, at once, and keeps nothing of theirs."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from quorate import Client, Forked, connect, replicate
from quorate.runtime.names import Names
from quorate.service.objects import Replication

from tests.service.objects.kinds import Counter, addresses

CHILD_LIMIT_S = 30
"""What hangs in a child ends the child, and the test fails."""
TIMEOUT_S = 60.0
"""Of calls, of which none waits here."""
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def replication(tmp_path) -> Iterator[Replication[Counter]]:
    with (found := replicate(Counter, nodes=addresses(1), data=tmp_path, timeout_s=TIMEOUT_S)) as counter:
        counter.add()
        yield found


def in_fork(work: Callable[[], str]) -> str:
    """What the work returns in a forked child, or what it raises there."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(CHILD_LIMIT_S)
        try:
            text = work()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        text = file.read().decode()
    assert os.waitpid(pid, 0)[1] == 0, "it hung"
    return text


def test_a_handle_or_client_of_the_parent_raises_at_once(replication: Replication[Counter]) -> None:
    counter = replication.start()
    remote = connect(Counter, replication.endpoint, timeout_s=TIMEOUT_S)
    with Client(replication.endpoint, timeout_s=TIMEOUT_S) as client, remote as remote_counter:
        remote_counter.add()
        for call, what in (
            (counter.get, "replication"),
            (counter.add, "replication"),
            (replication.start, "replication"),
            (replication.status, "replication"),
            (replication.local.get, "replication"),
            (remote_counter.get, "connection"),
            (remote.start, "connection"),
            (lambda: client.get(b"k"), "client"),
        ):
            began = time.monotonic()
            text = in_fork(lambda call=call: str(call()))
            assert text.startswith(f"Forked: this {what} was made in process {os.getpid()}, "), text
            assert f"make a {what} in each process, after the fork" in text
            assert time.monotonic() - began < TIMEOUT_S / 3, "nothing is waited for"
        assert remote_counter.get() == counter.get() == 2


def test_leaving_its_blocks_in_the_child_harms_nobody(tmp_path) -> None:
    replication = replicate(Counter)
    with replication as counter, Client(replication.endpoint) as client:
        folder = replication._config.data

        def leave() -> str:
            replication.stop()
            client.close()
            return "left"

        assert in_fork(leave) == "left"
        assert folder.is_dir(), "a temporary folder is the parent's"
        assert counter.add() == 1


PARENT = """
import os, sys, time
from quorate import replicate
from tests.service.objects.kinds import Counter
with (replication := replicate(Counter, nodes={1: sys.argv[1]}, data=sys.argv[2] or None)) as counter:
    counter.add()
    child = os.fork()
    if child == 0:
        if sys.argv[3] == "exit":
            sys.exit(0)
        time.sleep(30)
        os._exit(0)
    if sys.argv[3] == "exit":
        os.waitpid(child, 0)
    print(child, counter.add(), os.path.isdir(replication._config.data), flush=True)
    time.sleep(30)
"""


def test_the_child_of_a_node_that_was_killed_keeps_neither_its_folder_nor_its_ports(tmp_path) -> None:
    nodes = addresses(1)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-c", PARENT, nodes[1], str(tmp_path), "sleep"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    child, *found = parent.stdout.readline().split()
    try:
        assert found == ["2", "True"]
        parent.kill()
        parent.wait()
        with replicate(Counter, nodes=nodes, data=tmp_path) as counter:
            assert counter.add() == 3
    finally:
        os.kill(int(child), signal.SIGKILL)
        parent.stdout.close()


def test_a_child_that_ends_as_programs_do_takes_nothing_with_it() -> None:
    """Not the temporary folder either, which this process would take away when it ends so."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-c", PARENT, addresses(1)[1], "", "exit"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    try:
        assert parent.stdout.readline().split()[1:] == ["2", "True"]
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_files_and_connections_stay_with_the_parent_alone(replication: Replication[Counter]) -> None:
    """In the child their descriptors lead nowhere."""
    folder = str(replication._config.data)
    remote = connect(Counter, replication.endpoint)
    with remote as counter:
        counter.add()
        taken = [fd for fd, target in descriptors().items() if target.startswith(folder)]
        assert len(taken) == 2, "the lock and the journal"
        links = list(remote._line.connection._links.values())  # type: ignore[union-attr]
        taken += [str(link._transport.get_extra_info("socket").fileno()) for link in links]

        def after() -> str:
            found = descriptors()
            return ",".join(sorted({found[fd] for fd in taken}))

        assert in_fork(after) == "/dev/null"
        assert counter.add() == 3


def descriptors() -> dict[str, str]:
    """Where each of this process leads to."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            found[path.name] = str(path.readlink())
    return found


def call_in_worker(_: int) -> int:
    assert WORKER is not None
    return WORKER.get()


WORKER: Counter | None = None


def test_workers_of_multiprocessing_are_told_too(replication: Replication[Counter]) -> None:
    global WORKER
    WORKER = replication.start()
    with multiprocessing.get_context("fork").Pool(1) as pool, pytest.raises(Forked, match="after the fork"):
        pool.map_async(call_in_worker, [1]).get(CHILD_LIMIT_S)


def test_a_child_makes_its_own(replication: Replication[Counter]) -> None:
    endpoint = replication.endpoint.replace("127.0.0.1", "localhost")

    def own() -> str:
        with connect(Counter, endpoint) as counter:
            return str(counter.add())

    assert in_fork(own) == "2"
    unstarted = connect(Counter, endpoint)
    assert in_fork(lambda: str(unstarted.start().add())) == "3"
    with unstarted as counter:
        assert counter.add() == 4


def test_a_look_up_that_hangs_in_the_parent_does_not_hang_in_the_child() -> None:
    gate = threading.Event()

    def look_up(host: str, port: int) -> list[str]:
        gate.wait(CHILD_LIMIT_S)
        return ["127.0.0.1"]

    names = Names(look_up)
    with pytest.raises(OSError, match="did not answer"):
        names.addresses_now("name.example", 1, 0.01)

    def again() -> str:
        names.forget_pending()  # as the process's own Names does after a fork
        gate.set()
        return ",".join(names.addresses_now("name.example", 1, 2.0))

    assert in_fork(again) == "127.0.0.1"
    gate.set()
