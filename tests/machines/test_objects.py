"""Replicated objects: the ten-line counter, what a call may be, what state may be, and that all nodes agree."""

import asyncio
import io
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from quorate.machines.objects.calls import MethodCall, Raised, Returned, decode_outcome, encode_call
from quorate.machines.objects.values import encode
from quorate.runtime import key_files
from quorate.service.client.errors import NotRunning, QuorateError
from quorate.service.config import ConfigError
from quorate.service.objects import CommandFailed, ObjectMachine, Replicated, Replication, command, read, replicate

from tests.ports import free_pairs


class Own(Exception):
    """Of this module, and not registered."""


class Counter(Replicated):
    def __init__(self) -> None:
        self.value = 0

    @command
    def add(self, amount: int = 1, *, twice: bool = False) -> int:
        self.value += 2 * amount if twice else amount
        if self.value > 1000:
            raise OverflowError(f"{self.value} is too many")
        return self.value

    @command
    def fail(self) -> None:
        self.value = -1
        raise Own("mine")

    @command
    def leave(self, name: str) -> None:
        self.value = -1
        raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}.get(name, asyncio.CancelledError)

    @read
    def get(self) -> int:
        return self.value

    def reset(self) -> None:
        self.value = 0


@dataclass
class Point:
    x: int
    y: int


class Rich(Replicated):
    """State of types that msgpack does not have."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.points: dict[str, Point] = {}
        self.pair = (0, "")
        self.plain: list[Any] = [None, True, 1, 1.5, "a", b"b", {"c": [1]}]

    @command
    def note(self, name: str, x: int) -> int:
        self.names.add(name)
        self.points[name] = Point(x, -x)
        self.pair = (len(self.names), name)
        return len(self.names)


def call(machine: ObjectMachine, method: str, *args: Any, **kwargs: Any) -> Any:
    return decode_outcome(machine.apply(encode_call(method, args, kwargs)))


def snapshot_of(machine: ObjectMachine) -> bytes:
    file = io.BytesIO()
    machine.snapshot()(file)
    return file.getvalue()


# --- on real nodes ---


def test_the_counter_on_one_node() -> None:
    with replicate(Counter) as counter:
        assert [counter.add(), counter.add(5), counter.add(amount=2, twice=True)] == [1, 6, 10]
        assert counter.get() == 10
        with pytest.raises(OverflowError, match="1010 is too many") as caught:
            counter.add(1000)
        assert "in add" in caught.value.__notes__[0]
        assert counter.get() == 10
        with pytest.raises(CommandFailed, match="Own: mine") as failed:
            counter.fail()
        assert (failed.value.kind, failed.value.text) == ("Own", "mine")
        assert "in fail" in failed.value.traceback
        for leave in (SystemExit, KeyboardInterrupt, asyncio.CancelledError):
            with pytest.raises(CommandFailed, match=leave.__name__):
                counter.leave(leave.__name__)
        assert counter.get() == 10
        for name in ("reset", "value", "nothing"):
            with pytest.raises(AttributeError, match=f"Counter.{name} is not marked"):
                getattr(counter, name)
        with pytest.raises(TypeError, match="positional argument"):
            counter.add(1, 2, 3)
        with pytest.raises(TypeError):
            counter.add(object())


def test_a_restart_keeps_the_state(tmp_path) -> None:
    nodes = {1: f"127.0.0.1:{free_pairs(1)[0]}"}
    for expected in (1, 2, 3):
        with replicate(Counter, nodes=nodes, data=tmp_path) as counter:
            assert counter.add() == expected


def test_three_nodes_count_every_call_of_every_thread_once(tmp_path) -> None:
    ports = free_pairs(3)
    nodes = {node: f"127.0.0.1:{port}" for node, port in enumerate(ports, 1)}
    parts = {node: replicate(Counter, node=node, nodes=nodes, data=tmp_path / f"{node}") for node in nodes}
    with ExitStack() as stack:
        handles = [stack.enter_context(part) for part in parts.values()]

        def work(handle: Counter) -> None:
            for _ in range(50):
                handle.add()

        threads = [threading.Thread(target=work, args=(handle,)) for handle in handles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [handle.get() for handle in handles] == [150] * 3
        for handle in handles:
            with pytest.raises(OverflowError):
                handle.add(10_000)
        instances = [part._node._server.machine.instance for part in parts.values()]
        while not all(instance.value == 150 for instance in instances):  # the followers are told a little later
            time.sleep(0.01)


def test_a_replication_that_is_over_says_so(tmp_path) -> None:
    part: Replication[Counter] = replicate(Counter, data=tmp_path)
    with part as counter:
        counter.add()
    with pytest.raises(NotRunning, match="with block"):
        counter.add()
    part.stop()


def test_a_cluster_without_a_quorum_is_a_client_error(tmp_path) -> None:
    nodes = {node: f"127.0.0.1:{port}" for node, port in enumerate(free_pairs(3), 1)}
    with replicate(Counter, nodes=nodes, data=tmp_path, timeout_s=0.3) as counter, pytest.raises(QuorateError):
        counter.add()


# --- on nodes that may lie ---


def test_a_counter_on_four_nodes_of_which_one_may_lie(tmp_path) -> None:
    nodes = {node: f"127.0.0.1:{port}" for node, port in enumerate(free_pairs(4), 1)}
    keys = tmp_path / "keys"
    key_files.generate(keys, 4)
    parts = {
        node: replicate(Counter, node=node, nodes=nodes, data=tmp_path / f"{node}", protocol="pbft", keys=keys)
        for node in nodes
    }
    with ExitStack() as stack:
        handles = {node: stack.enter_context(part) for node, part in parts.items()}
        assert [handles[node].add(1) for node in nodes] == [1, 2, 3, 4]
        with pytest.raises(OverflowError, match="1004 is too many") as caught:
            handles[2].add(1000)
        assert not hasattr(caught.value, "__notes__")  # line numbers may differ by node, and the answers are compared
        parts[4].stop()
        assert handles[1].add(-2) == 2
        assert [handles[node].get() for node in (1, 2, 3)] == [2, 2, 2]


def test_a_node_that_is_alone_makes_its_own_keys_once(tmp_path) -> None:
    made = set()
    for expected in (1, 2):
        with replicate(Counter, node=3, data=tmp_path, protocol="pbft") as counter:
            assert (counter.add(1), counter.get()) == (expected, expected)
        made.add((tmp_path / "keys" / "node-3.key").read_bytes())
    assert len(made) == 1


def test_several_nodes_that_may_lie_need_keys() -> None:
    with pytest.raises(ConfigError, match="quorate keys generate --nodes 2"):
        replicate(Counter, nodes={1: "127.0.0.1:9001", 2: "127.0.0.1:9003"}, protocol="pbft")


# --- what is refused at the start ---


class Unmarked(Replicated):
    def add(self) -> None: ...


class Locked(Replicated):
    def __init__(self) -> None:
        self.held = threading.Lock()

    @command
    def touch(self) -> None: ...


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Unmarked, "Unmarked has no method marked with @command"),
        (Locked, r"the state of Locked cannot be replicated: Locked.held: a value of type lock"),
    ],
)
def test_a_class_that_cannot_be_replicated_is_refused_at_the_start(kind: type[Replicated], text: str) -> None:
    with pytest.raises(TypeError, match=text), replicate(kind):
        raise AssertionError("it started")


def test_addresses_that_are_none_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match="host:port"):
        replicate(Counter, nodes={1: "nowhere"})


# --- the machine ---


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", encode([]), encode(["add", 1]), encode([1, []]), encode(["add", [], {}, 0])]
)
def test_what_is_no_call_is_an_error_result(data: bytes) -> None:
    machine = ObjectMachine(Counter)
    assert isinstance(decode_outcome(machine.apply(data)), Raised)
    assert machine.instance.value == 0


@pytest.mark.parametrize("method", ["reset", "get", "__init__", "__class__", "value", "", "nothing"])
def test_only_marked_methods_are_called(method: str) -> None:
    machine = ObjectMachine(Counter)
    assert call(machine, "add", 3) == Returned(3)
    assert call(machine, method).kind == "AttributeError"
    assert isinstance(decode_outcome(machine.query(encode(MethodCall("add")))), Raised)
    assert machine.instance.value == 3


def test_types_come_back_from_a_snapshot_as_they_were() -> None:
    machine, other = ObjectMachine(Rich), ObjectMachine(Rich)
    for name in ("b", "a", "c", "a"):
        call(machine, "note", name, x=len(name))
    data = snapshot_of(machine)
    call(machine, "note", "later", 1)
    adopt = other.restore(io.BytesIO(data))
    assert other.instance.names == set()
    adopt()
    assert vars(other.instance) == {
        "names": {"a", "b", "c"},
        "points": {name: Point(1, -1) for name in "abc"},
        "pair": (3, "a"),
        "plain": [None, True, 1, 1.5, "a", b"b", {"c": [1]}],
    }
    assert call(other, "note", "later", 1) == Returned(4)
    assert vars(other.instance) == vars(machine.instance)


def test_a_snapshot_cut_short_or_corrupt_is_a_value_error_and_changes_nothing() -> None:
    machine = ObjectMachine(Rich)
    call(machine, "note", "a", 1)
    data = snapshot_of(machine)
    other = ObjectMachine(Rich)
    for broken in (
        *(data[:length] for length in range(len(data))),
        b"\xc1" + data,
        msgspec.msgpack.encode({"names": 5}),
    ):
        with pytest.raises(ValueError, match=r".+"):
            other.restore(io.BytesIO(broken))
    assert other.instance.names == set()


def test_equal_calls_leave_equal_state_and_equal_results() -> None:
    calls = [encode(MethodCall("add", [n * 37 % 400])) for n in range(20)] + [b"\xc1", encode(MethodCall("add", ["x"]))]
    first, second = ObjectMachine(Counter), ObjectMachine(Counter)
    assert [first.apply(data) for data in calls] == [second.apply(data) for data in calls]
    assert snapshot_of(first) == snapshot_of(second)


@pytest.mark.parametrize("depth", [1, 60, 300, 600, 900, 5000])
def test_an_argument_means_the_same_however_deep_the_stack_is(depth: int) -> None:
    class Keeper(Replicated):
        def __init__(self) -> None:
            self.kept = 0

        @command
        def keep(self, _: Any) -> None:
            self.kept += 1

    data = b"\x92\xa4keep\x91" + b"\x91" * depth + b"\x90"

    def outcome_after(frames: int, work: Callable[[], Any]) -> Any:
        return outcome_after(frames - 1, work) if frames else work()

    first, second = ObjectMachine(Keeper), ObjectMachine(Keeper)
    assert outcome_after(0, lambda: first.apply(data)) == outcome_after(300, lambda: second.apply(data))
    assert first.instance.kept == second.instance.kept
