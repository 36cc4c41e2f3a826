"""Audits: nodes that compare their states through the log find the one that differs, and each judges itself alike."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from typing import Any, BinaryIO

import msgspec
import pytest

from quorate.machines.state_machine import StateMachine
from quorate.parts.log.entries import COMMAND, Entry
from quorate.parts.log.replicated import Decided, Leads
from quorate.service.audits import POINT_ENTRIES, POINTS_MAX, Audits, StateDiffers
from quorate.service.replica import Replica
from quorate.service.reports import AGAIN_S, QUIET, QUIET_S, SAY, SAY_S
from quorate.service.requests import (
    COMMAND_BYTES_MAX,
    Announce,
    Apply,
    Audit,
    Code,
    Command,
    Failure,
    Mark,
    OpenSession,
    decode_log_command,
    encode,
)

from tests.service.replicas import RecordingPort, put


class Cells(StateMachine):
    """Named numbers; a command names one and adds to it."""

    is_audited = True
    stamps = True

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.cells: dict[str, int] = {}
        self.heard: list[tuple[int, bytes]] = []

    def apply(self, command: bytes) -> bytes:
        name = command.decode().partition("@")[0]
        self.cells[name] = self.cells.get(name, 0) + 1
        return b"ok"

    def query(self, query: bytes) -> bytes:
        return b""

    def stamp(self, command: bytes, wall_ns: int) -> bytes:
        return b"%b@%d" % (command, wall_ns)

    def digests(self) -> Mapping[str, bytes]:
        return {name: b"%d" % value for name, value in self.cells.items()}

    def announcement(self, node: int, members: Collection[int]) -> bytes:
        return b"" if self.heard else b"v%d" % self.version

    def announced(self, node: int, data: bytes) -> None:
        self.heard.append((node, data))

    def snapshot(self) -> Callable[[BinaryIO], None]:
        data = msgspec.msgpack.encode(self.cells)
        return lambda file: (file.write(data), None)[1]

    def restore(self, file: BinaryIO) -> Callable[[], None]:
        cells = msgspec.msgpack.decode(file.read(), type=dict[str, int])
        return lambda: self.__dict__.update(cells=cells)


class TimedPort(RecordingPort):
    wall_ns = 17

    def __init__(self) -> None:
        super().__init__()
        self.timers: dict[str, float] = {}

    def set_timer(self, key: Any, delay_s: float) -> None:
        self.timers[key] = delay_s


class Group:
    """Replicas over one log."""

    def __init__(self, nodes: int = 3, members: int | None = None) -> None:
        self.members = range(1, (members or nodes) + 1)
        self.log: list[bytes] = []
        self.replicas: dict[int, Replica] = {}
        self.ended: dict[int, str] = {}
        for node in range(1, nodes + 1):
            self.start(node)

    def start(self, node: int, version: int = 1) -> Cells:
        machine = Cells(version)
        replica = Replica(machine, audits=Audits(node, lambda: self.members))
        replica.port = TimedPort()
        replica.output(Leads(1, 1))
        self.replicas[node] = replica
        self.ended.pop(node, None)
        return machine

    def cells(self, node: int) -> dict[str, int]:
        machine = self.replicas[node].machine
        assert isinstance(machine, Cells)
        return machine.cells

    def port(self, node: int) -> TimedPort:
        port = self.replicas[node].port
        assert isinstance(port, TimedPort)
        return port

    def decide(self, *commands: Any) -> None:
        self.log += [command if isinstance(command, bytes) else encode(command) for command in commands]
        self.catch_up()

    def catch_up(self) -> None:
        for node, replica in self.replicas.items():
            while node not in self.ended and replica.applied_index < len(self.log):
                try:
                    replica.output(
                        Decided(replica.applied_index + 1, [Entry(1, self.log[replica.applied_index], COMMAND)])
                    )
                except StateDiffers as error:
                    self.ended[node] = str(error)
            if node not in self.ended:
                replica.settle()

    def fill(self, upto: int, name: str = "a") -> None:
        """Commands until the log has so many entries."""
        if not self.log:
            self.decide(OpenSession(7))
        while len(self.log) < upto:
            self.decide(put(1, len(self.log), name.encode(), len(self.log)))

    def say(self, *nodes: int) -> None:
        """The nodes' timers run out, and what they submit is decided."""
        said: list[bytes] = []
        for node in nodes or list(self.replicas):
            if node not in self.ended:
                self.replicas[node].on_timer(SAY)
                submitted, self.port(node).submitted = self.port(node).submitted, []
                said += [entry for entry in submitted if isinstance(decode_log_command(entry), Audit)]
        self.decide(*said)


def test_equal_nodes_go_on() -> None:
    group = Group()
    group.fill(2 * POINT_ENTRIES + 5)
    group.say()
    assert not group.ended
    audits = [entry for entry in map(decode_log_command, group.log) if isinstance(entry, Audit)]
    assert {(audit.node, audit.point) for audit in audits} == {
        (node, point) for node in (1, 2, 3) for point in (POINT_ENTRIES, 2 * POINT_ENTRIES)
    }


@pytest.mark.parametrize("first", [1, 2, 3])
def test_the_node_that_differs_stops_alone_and_names_what_differs(first: int) -> None:
    group = Group()
    group.fill(POINT_ENTRIES // 2)
    group.cells(2)["b"] = 5
    group.cells(2)["a"] += 1
    group.fill(POINT_ENTRIES)
    group.say(first)
    group.say()
    assert list(group.ended) == [2]
    assert "'a', 'b' differs from what most nodes have" in group.ended[2]


def test_a_minority_that_is_heard_first_stops_nobody() -> None:
    group = Group(5)
    group.cells(1)["a"] = group.cells(2)["a"] = 5
    group.fill(POINT_ENTRIES)
    group.say(1, 2)
    assert not group.ended
    group.say(3, 4)
    assert not group.ended
    group.say(5)
    assert sorted(group.ended) == [1, 2]


def test_without_a_majority_of_equal_states_all_stop() -> None:
    group = Group()
    for node in group.replicas:
        group.cells(node)["a"] = node
    group.fill(POINT_ENTRIES)
    group.say(1)
    assert not group.ended
    group.say()
    assert sorted(group.ended) == [1, 2, 3]
    assert all("no majority" in why and "'a' differs" in why for why in group.ended.values())


def test_a_member_that_is_silent_may_yet_agree() -> None:
    group = Group(nodes=2, members=3)
    group.cells(1)["a"] = 9
    group.fill(POINT_ENTRIES)
    group.say()
    assert not group.ended
    late = group.start(3)
    group.catch_up()
    group.say()
    assert late.cells == group.cells(2)
    assert list(group.ended) == [1]


def test_who_is_no_member_has_no_say() -> None:
    group = Group(nodes=4, members=3)
    group.cells(3)["a"] = group.cells(4)["a"] = 9
    group.fill(POINT_ENTRIES)
    group.say(3, 4)
    assert not group.ended
    group.say()
    assert sorted(group.ended) == [3, 4]


def test_a_node_alone_whose_code_gives_another_state_says_that_its_code_has_changed() -> None:
    group = Group(1)
    group.fill(POINT_ENTRIES)
    group.say()
    group.start(1).cells["a"] = 100  # what another __init__ or another body would have made
    group.catch_up()
    assert "'a' is not what the nodes, this one too, computed before: the code has changed" in group.ended[1]


def test_a_node_that_was_wrong_and_is_right_again_goes_on() -> None:
    group = Group()
    group.cells(1)["a"] = 9
    group.fill(POINT_ENTRIES)
    group.say()
    assert list(group.ended) == [1]
    group.start(1)
    group.catch_up()
    assert not group.ended
    assert group.cells(1) == group.cells(2)


def test_versions_compare_what_both_have() -> None:
    group = Group()
    newer = group.start(3, version=2)
    newer.cells["new"] = 0
    group.fill(POINT_ENTRIES)
    group.say()
    assert not group.ended
    newer.cells["a"] += 1
    group.fill(2 * POINT_ENTRIES)
    group.say()
    assert list(group.ended) == [3]
    assert "'a' differs" in group.ended[3]


def test_a_name_that_one_of_the_same_version_has_alone_differs() -> None:
    group = Group()
    group.cells(3)["new"] = 0
    group.fill(POINT_ENTRIES)
    group.say()
    assert list(group.ended) == [3]


def test_a_snapshot_from_between_points_does_not_judge_the_point_before() -> None:
    group = Group()
    group.fill(POINT_ENTRIES + 10)
    file = io.BytesIO()
    group.replicas[1].snapshot()(file)
    late = group.start(3)
    group.replicas[3].restore(io.BytesIO(file.getvalue()))()
    group.say(1, 2)
    assert not group.ended
    late.cells["a"] += 1
    group.fill(2 * POINT_ENTRIES)
    group.say()
    assert list(group.ended) == [3]


def test_an_audit_that_was_lost_is_said_again_until_the_log_has_it() -> None:
    group = Group(1)
    group.fill(POINT_ENTRIES)
    port, replica = group.port(1), group.replicas[1]
    assert port.timers[SAY] == SAY_S
    for _ in range(3):
        replica.on_timer(SAY)
        assert port.timers.pop(SAY) == AGAIN_S
    audits = [entry for entry in port.submitted if isinstance(decode_log_command(entry), Audit)]
    assert len(audits) == 3
    group.decide(*audits)
    port.submitted.clear()
    replica.on_timer(SAY)
    assert not [entry for entry in port.submitted if isinstance(decode_log_command(entry), Audit)]


def test_commands_are_audited_after_a_while_even_if_they_are_few() -> None:
    group = Group()
    group.fill(3)
    assert group.port(1).timers[QUIET] == QUIET_S
    for node in group.replicas:
        group.replicas[node].on_timer(QUIET)
    assert [decode_log_command(entry) for entry in group.port(1).submitted] == [Mark()]
    assert not group.port(2).submitted  # the leader sees to it
    group.port(1).submitted.clear()
    group.cells(2)["a"] += 1
    group.decide(Mark())
    group.say()
    assert list(group.ended) == [2]
    group.port(1).timers.clear()
    group.decide()
    assert QUIET not in group.port(1).timers  # nothing has changed since


def test_an_idle_group_writes_nothing_more() -> None:
    """The audits of one point do not call for another."""
    group = Group()
    group.fill(3)
    for _ in range(3):
        for node, replica in group.replicas.items():
            if group.port(node).timers.pop(QUIET, None) is not None:
                replica.on_timer(QUIET)
            marks, group.port(node).submitted = group.port(node).submitted, []
            group.decide(*(entry for entry in marks if decode_log_command(entry) == Mark()))
        group.say()
    written = [type(decode_log_command(entry)) for entry in group.log]
    assert written.count(Mark) == 1
    assert written.count(Audit) == 3
    assert not any(QUIET in group.port(node).timers for node in group.replicas)


def test_what_nodes_said_is_bounded() -> None:
    audits = Audits(1, lambda: (1, 2, 3))
    for point in range(3 * POINTS_MAX):
        audits.reach(point, 1, {})
        audits.hear(Audit(2, point, 1, ()))
    assert [audit.point for audit in audits.unheard()] == list(range(2 * POINTS_MAX, 3 * POINTS_MAX))
    assert len(audits._heard) == POINTS_MAX


def test_announcements_reach_the_machine_in_order_and_are_said_at_the_start() -> None:
    group = Group()
    group.catch_up()
    assert group.port(2).timers[SAY] == SAY_S
    group.replicas[2].on_timer(SAY)
    assert [decode_log_command(entry) for entry in group.port(2).submitted] == [Announce(2, b"v1")]
    group.decide(Announce(2, b"v1"), Announce(3, b"v2"))
    for replica in group.replicas.values():
        assert isinstance(replica.machine, Cells)
        assert replica.machine.heard == [(2, b"v1"), (3, b"v2")]


def test_clients_cannot_speak_for_nodes() -> None:
    group = Group()
    for number, report in enumerate((Audit(1, 5, 1, ()), Mark(), Announce(1, b"x"))):
        group.replicas[1].request("client", Command(number, encode(report)))
        group.replicas[1].settle()
    codes = [answer.code for _, answer in group.port(1).take() if isinstance(answer, Failure)]
    assert codes == [Code.MALFORMED] * 3
    assert not group.port(1).submitted


def test_the_member_that_takes_a_command_stamps_it() -> None:
    group = Group()
    group.replicas[1].request("client", Command(1, encode(put(1, 1, b"a"))))
    (entry,) = group.port(1).submitted
    assert decode_log_command(entry) == Apply(1, 1, 0, b"a@17")


def test_a_command_too_large_for_its_stamp_is_refused_before_it_is_in_the_log() -> None:
    group = Group()
    group.replicas[1].request("client", Command(1, encode(put(1, 1, b"a" * COMMAND_BYTES_MAX))))
    group.replicas[1].settle()
    ((_, answer),) = group.port(1).take()
    assert isinstance(answer, Failure)
    assert answer.code is Code.TOO_LARGE
    assert not group.port(1).submitted
