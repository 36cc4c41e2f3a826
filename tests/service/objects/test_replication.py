"""A replication's life: started twice, stopped twice, forgotten; what it tells of its node, also after its end."""

import errno
import gc
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quorate import NodeFailed, OutcomeUnknown, connect, replicate
from quorate.kernel.inputs import Stalled
from quorate.runtime.errors import JournalLocked, WrongIdentity
from quorate.service.objects import Replication
from quorate.service.requests import Status

from tests.service.objects.kinds import QUICK, Counter, addresses


def eventually(condition: Callable[[], Any]) -> Any:
    """Wait, a minute at most, for what another thread does."""
    until = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.005)
    return found


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("quorate-Life")]


def test_a_second_start_gives_the_same_handle_and_a_start_after_the_end_starts_anew(tmp_path) -> None:
    replication = replicate(Counter, data=tmp_path, cluster="Life")
    counter = replication.start()
    assert counter.add() == 1
    assert replication.start() is counter
    assert own_threads() == ["quorate-Life-1"]
    replication.stop()
    replication.stop()
    assert own_threads() == []
    with replication as again:
        assert again.add() == 2
        assert counter.add() == 3, "the old handle works too"
    assert own_threads() == []


def test_without_a_folder_every_start_begins_from_nothing() -> None:
    replication = replicate(Counter)
    folders = []
    for _ in range(2):
        with replication as counter:
            assert counter.add() == 1
            folders.append(Path(str(replication._config.data)))
            assert folders[-1].is_dir()
    assert not any(folder.exists() for folder in folders)


def test_two_nodes_on_one_folder_are_refused_in_words(tmp_path) -> None:
    second = replicate(Counter, data=tmp_path)
    with replicate(Counter, data=tmp_path) as counter:
        with pytest.raises(JournalLocked, match=r"this one, which runs another node .* Stop it first"):
            second.start()
        assert counter.add() == 1
    with second as counter:
        assert counter.add() == 2


def test_a_renamed_class_is_told_how_to_find_its_data(tmp_path) -> None:
    class Renamed(Counter):
        """The same with another name."""

    with replicate(Counter, data=tmp_path) as counter:
        counter.add()
    with pytest.raises(WrongIdentity, match="give cluster=OLD_NAME"):
        replicate(Renamed, data=tmp_path).start()
    with pytest.raises(WrongIdentity) as told:
        replicate(Counter, data=tmp_path, cluster="else").start()
    assert "OLD_NAME" not in str(told.value), "a name was given"
    with replicate(Renamed, data=tmp_path, cluster="Counter") as counter:
        assert counter.add() == 2


def test_a_replication_that_is_forgotten_ends(tmp_path) -> None:
    replicate(Counter, data=tmp_path, cluster="Life").start().add()
    gc.collect()
    eventually(lambda: own_threads() == [])
    with replicate(Counter, data=tmp_path, cluster="Life") as counter:
        assert counter.add() == 2


def test_what_it_tells_of_its_node() -> None:
    replication = replicate(Counter, cluster="Life")
    assert (replication.leader, replication.is_leader, replication.status().role) == (None, False, "stopped")
    heard: list[Status] = []
    replication.on_change(heard.append)
    with replication as counter:
        replication.wait_ready()
        assert (replication.leader, replication.is_leader) == (1, True)
        assert counter.add() == 1
        assert replication.status().applied_index > 0
        eventually(lambda: heard and heard[-1].leader == 1)
        assert heard[0].leader is None
        with connect(Counter, replication.endpoint) as remote:
            assert remote.add() == 2
    assert (replication.leader, replication.is_leader, replication.status().role) == (None, False, "stopped")


def test_a_callback_that_fails_or_waits_harms_nobody(caplog) -> None:
    replication = replicate(Counter)
    heard = threading.Event()

    @replication.on_change
    def broken(status: Status) -> None:
        raise ValueError("a bug of the program")

    replication.on_change(lambda status: heard.set() if status.leader else None)
    replication.on_change(lambda status: time.sleep(0.2))
    with replication as counter:
        assert counter.add() == 1
        assert heard.wait(60)
    assert "a bug of the program" in caplog.text


def test_local_reads_need_no_quorum_and_are_reads_alone(tmp_path) -> None:
    nodes = addresses(3)
    parts = {n: replicate(Counter, node=n, nodes=nodes, data=tmp_path / f"{n}", protocol_options=QUICK) for n in nodes}
    handles = {n: part.start() for n, part in parts.items()}
    assert handles[1].add(7) == 7
    leader = parts[1].leader
    follower = next(n for n in nodes if n != leader)
    eventually(lambda: parts[follower].local.get() == 7)
    for n in nodes:
        if n != follower:
            parts[n].stop()
    assert parts[follower].local.get() == 7
    with (remote := connect(Counter, parts[follower].endpoint)):
        assert remote.local.get() == 7
    with pytest.raises(AttributeError, match="add is a @command: only @read"):
        parts[follower].local.add()
    parts[follower].stop()


# --- a node that dies ---


def break_disk(replication: Replication[Counter]) -> None:
    """From now on its journal's writes fail."""
    node = replication._node._server.node  # type: ignore[union-attr]

    def fail(frames: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    node._journal._writer.append = fail  # type: ignore[method-assign]


def is_closed(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as sock:
        return sock.connect_ex((host, int(port))) != 0


def test_a_node_that_has_died_says_so(tmp_path) -> None:
    nodes = addresses(1)
    replication = replicate(Counter, nodes=nodes, data=tmp_path, timeout_s=60)
    failures: list[NodeFailed] = []
    statuses: list[Status] = []
    replication.on_failure(failures.append)
    replication.on_change(statuses.append)
    with replication as counter:
        assert counter.add() == 1
        break_disk(replication)
        with pytest.raises((OutcomeUnknown, NodeFailed), match="Input/output error") as caught:
            counter.add()
        if isinstance(caught.value, OutcomeUnknown):
            assert "may have taken effect" in str(caught.value)
        for call in (counter.add, counter.get, replication.wait_ready, replication.local.get):
            began = time.monotonic()
            with pytest.raises(NodeFailed, match=r"node 1 in this process has stopped: .*Input/output error"):
                call()
            assert time.monotonic() - began < 20.0, "nothing is waited for"
        assert (replication.is_leader, replication.leader) == (False, None)
        status = replication.status()
        assert status.role == "failed"
        assert "Input/output error" in str(status.stalled)
        eventually(lambda: failures and statuses[-1].role == "failed")
        assert "Input/output error" in str(failures[0])
        eventually(lambda: is_closed(nodes[1]) and is_closed(replication.endpoint))
    with replication as counter:  # its folder is free, and the disk works again
        assert counter.get() in (1, 2)


def test_a_follower_that_has_died_keeps_nothing_and_the_others_go_on(tmp_path) -> None:
    nodes = addresses(3)
    parts = {n: replicate(Counter, node=n, nodes=nodes, data=tmp_path / f"{n}", protocol_options=QUICK) for n in nodes}
    handles = {n: part.start() for n, part in parts.items()}
    handles[1].add()
    leader = parts[1].leader
    victim = next(n for n in nodes if n != leader)
    assert leader is not None
    node = parts[victim]._node._server.node  # type: ignore[union-attr]
    break_disk(parts[victim])
    handles[leader].add()
    eventually(lambda: parts[victim].status().role == "failed")
    for _ in range(20):
        handles[leader].add()
    node._put(Stalled("whatever comes in now"))
    assert node._inbox == []
    with pytest.raises(NodeFailed):
        handles[victim].get()
    assert handles[leader].get() == 22
    for part in parts.values():
        part.stop()


def test_a_node_whose_folder_was_emptied_is_refused_by_the_others_and_says_so(tmp_path) -> None:
    nodes = addresses(3)

    def made(node: int) -> Replication[Counter]:
        data = tmp_path / str(node)
        return replicate(Counter, node=node, nodes=nodes, data=data, protocol_options=QUICK)

    first, second, third = (made(node) for node in nodes)
    counters = [replication.start() for replication in (first, second, third)]
    try:
        assert counters[0].add() == 1
        for node in (1, 2):  # they have heard of the third, and will know it after a restart too
            others = tmp_path / str(node) / "others"
            eventually(lambda others=others: others.exists() and "\n3 " in others.read_text())
        third.stop()
        shutil.rmtree(tmp_path / "3")
        third = made(3)
        third.start()
        failure = eventually(third._failure)
        assert "node 3 was here with another data folder" in str(failure)
        with pytest.raises(NodeFailed, match="never start it under this number again"):
            third.start().add()
        assert counters[1].add() == 2, "the others go on"
    finally:
        for replication in (first, second, third):
            replication.stop()
