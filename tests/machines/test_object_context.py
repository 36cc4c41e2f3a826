"""Time and chance in commands come from the log: equal on every node, after a restore, and never backwards."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from quorate.machines.objects.calls import MethodCall, Raised, decode_outcome, encode_call
from quorate.machines.objects.context import now, random, uuid
from quorate.machines.objects.machine import ObjectMachine, Replicated, command, read

SECOND = 1_000_000_000


class Draws(Replicated):
    def __init__(self) -> None:
        self.drawn: list[Any] = []

    @command
    def draw(self) -> Any:
        self.drawn.append((now(), random().random(), random().randrange(10**9), uuid(), uuid()))
        return self.drawn[-1]

    @command
    def when(self) -> datetime:
        return now()

    @read
    def peek(self) -> datetime:
        return now()


def draw(seed: bytes, stamp: int, method: str = "draw") -> bytes:
    return encode_call(method, seed=seed, stamp=stamp)


def value(data: bytes) -> Any:
    outcome = decode_outcome(data)
    assert not isinstance(outcome, Raised), outcome
    return outcome.value


def test_two_nodes_draw_the_same_and_so_does_a_restored_one() -> None:
    log = [draw(bytes([n] * 16), n * SECOND) for n in range(1, 20)]
    one, two = ObjectMachine(Draws), ObjectMachine(Draws)
    assert [one.apply(entry) for entry in log] == [two.apply(entry) for entry in log[:9]] + _after_restore(two, log[9:])
    drawn = one.instance.drawn
    assert len({row[1:] for row in drawn}) == len(log)
    assert all(row[3] != row[4] and row[3].version == 4 and type(row[3]) is UUID for row in drawn)
    assert drawn[0][0] == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


def _after_restore(machine: ObjectMachine, log: list[bytes]) -> list[bytes]:
    file = io.BytesIO()
    machine.snapshot()(file)
    other = ObjectMachine(Draws)
    file.seek(0)
    other.restore(file)()
    return [other.apply(entry) for entry in log]


def test_time_never_runs_backwards_not_over_a_snapshot_either() -> None:
    machine = ObjectMachine(Draws)
    late = value(machine.apply(draw(b"", 9 * SECOND, "when")))
    assert value(machine.apply(draw(b"", 3 * SECOND, "when"))) == late
    assert [value(data) for data in _after_restore(machine, [draw(b"", 1, "when")])] == [late]


def test_the_member_that_takes_a_call_overwrites_its_time_and_nothing_else() -> None:
    machine = ObjectMachine(Draws)
    sent = encode_call("draw", [{"a": [1, 2]}], {"k": b"x"}, version=1, seed=b"s" * 16, stamp=7)
    assert machine.stamp(sent, 8 * SECOND) == encode_call(
        "draw", [{"a": [1, 2]}], {"k": b"x"}, version=1, seed=b"s" * 16, stamp=8 * SECOND
    )
    for other in (b"", b"\xc1", b"\x91" * 5000, b"\x91\x01"):
        assert machine.stamp(other, 1) == other


def test_outside_of_a_command_they_raise_in_words() -> None:
    for function in (now, random, uuid):
        with pytest.raises(RuntimeError, match="only while a @command runs"):
            function()
    machine = ObjectMachine(Draws)
    machine.apply(draw(b"s", 1))
    outcome = decode_outcome(machine.query(encode_call("peek")))
    assert isinstance(outcome, Raised)
    assert "In a @read, take the value as an argument" in outcome.text


def test_a_call_without_a_seed_or_a_time_is_told() -> None:
    machine = ObjectMachine(Draws)
    first = decode_outcome(machine.apply(encode_call("when")))
    second = decode_outcome(machine.apply(draw(b"", 1)))
    assert isinstance(first, Raised)
    assert isinstance(second, Raised)
    assert "carries a time" in first.text
    assert "carries no seed" in second.text
    assert machine.instance.drawn == []


def test_a_call_of_the_release_before_is_read() -> None:
    assert MethodCall("add", [1]).version == 1
