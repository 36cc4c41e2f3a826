"""Snapshots of objects: what is written is the state at the capture, whatever changes while it is written."""

import io
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.machines.objects.calls import Returned, decode_outcome, encode_call
from quorate.machines.objects.capture import Capture
from quorate.machines.objects.machine import ObjectMachine, Replicated, command, read
from quorate.machines.objects.snapshot import PIECE_ITEMS_MAX, StateWriter


@dataclass
class Seat:
    number: int


class House(Replicated):
    """Containers of every kind, small and of several pieces, and objects."""

    def __init__(self) -> None:
        self.rooms: dict[str, Any] = {f"r{n}": {"seats": [n, {n}], "of": Seat(n)} for n in range(4)}
        self.long: list[Any] = [[n] for n in range(PIECE_ITEMS_MAX + 5)]
        self.names: set[str] = {f"n{n}" for n in range(5)}
        self.door = Seat(0)
        self.count = 0

    @command
    def change(self, step: int) -> None:
        """Change something, another for each number."""
        self.count += 1
        match step % 10:
            case 0:
                self.rooms["r1"]["seats"][1].add(self.count)
            case 1:
                self.rooms["r2"] = self.rooms.pop("r3", [])
            case 2:
                self.rooms[f"r{step % 4}"] = {"of": Seat(step)}
            case 3:
                self.long[-1].append(step)
                self.long.pop(0)
            case 4:
                self.long.reverse()
            case 5:
                self.names.clear()
            case 6:
                self.door.number += 1
            case 7:
                for room in self.rooms.values():
                    if "of" in room:
                        room["of"].number += 1
            case 8:
                self.rooms, self.long = {}, [self.rooms]
            case 9:
                self.rooms.clear()
                raise ValueError(step)

    @read
    def wrong(self) -> None:
        """A read that changes objects, which are put back as others."""
        self.door.number = -1
        for room in self.rooms.values():
            if "of" in room:
                room["of"].number = -1


def finish(machine: ObjectMachine, records: Iterator[bytes], *, changes: list[int], every: int = 1) -> bytes:
    """All records; after every so many, the next change is made."""
    file, waiting = io.BytesIO(), list(changes)
    for n, record in enumerate(records):
        file.write(struct.pack("<I", len(record)) + record)
        if waiting and n % every == 0:
            machine.apply(encode_call("change", [waiting.pop(0)]))
            machine.query(encode_call("wrong"))
    for step in waiting:
        machine.apply(encode_call("change", [step]))
    return file.getvalue()


def records_of(machine: ObjectMachine) -> tuple[Capture, Iterator[bytes]]:
    digests = machine.digests()
    capture = machine.state.tracker.capture()
    return capture, StateWriter(capture, machine.state.tracker.kinds).records(1, digests)


@given(st.lists(st.integers(0, 29), max_size=12), st.integers(1, 200), st.lists(st.integers(0, 29), max_size=3))
@settings(max_examples=25, deadline=None)
def test_changes_between_any_two_steps_of_the_writer_are_not_written(
    changes: list[int], every: int, earlier: list[int]
) -> None:
    machine = ObjectMachine(House)
    for step in earlier:
        machine.apply(encode_call("change", [step]))
    _, records = records_of(machine)
    expected = finish(machine, records, changes=[])
    capture, records = records_of(machine)
    machine.apply(encode_call("change", [changes[0] if changes else 0]))
    assert finish(machine, records, changes=changes, every=every) == expected
    other = ObjectMachine(House)
    other.restore(io.BytesIO(expected))()
    for step in [changes[0] if changes else 0, *changes]:
        other.apply(encode_call("change", [step]))
    assert other.digests() == machine.digests()
    assert not capture.is_done  # that is for `write` to say


def test_two_captures_at_a_time_and_one_that_is_never_written() -> None:
    machine = ObjectMachine(House)
    forgotten = machine.snapshot()
    first_state = machine.digests()
    first = machine.snapshot()
    machine.apply(encode_call("change", [0]))
    second_state = machine.digests()
    second = machine.snapshot()
    del forgotten
    machine.apply(encode_call("change", [3]))
    for write, digests in ((second, second_state), (first, first_state)):
        file = io.BytesIO()
        write(file)
        other = ObjectMachine(House)
        other.restore(io.BytesIO(file.getvalue()))()
        assert other.digests() == digests


def test_a_writer_in_a_thread_writes_the_capture() -> None:
    machine = ObjectMachine(House)
    digests = machine.digests()
    file = io.BytesIO()
    thread = threading.Thread(target=machine.snapshot(), args=(file,))
    thread.start()
    step = 0
    while thread.is_alive():
        machine.apply(encode_call("change", [step]))
        step += 1
    thread.join()
    other = ObjectMachine(House)
    other.restore(io.BytesIO(file.getvalue()))()
    assert other.digests() == digests


def test_after_the_writer_is_done_nothing_is_copied_any_more() -> None:
    machine = ObjectMachine(House)
    write = machine.snapshot()
    assert decode_outcome(machine.apply(encode_call("change", [3]))) == Returned(None)
    write(io.BytesIO())
    machine.apply(encode_call("change", [0]))
    tracker = machine.state.tracker
    tracker.begin()
    assert tracker.note == tracker.log.append  # type: ignore[union-attr]
    tracker.undo()


def test_no_record_has_more_items_than_a_piece() -> None:
    machine = ObjectMachine(House)
    _, records = records_of(machine)
    pieces = [msgspec.msgpack.decode(record) for record in records]
    sizes = [len(piece[2]) for piece in pieces[1:-1]]
    assert max(sizes) == PIECE_ITEMS_MAX
    assert sum(sizes) > PIECE_ITEMS_MAX * 2


def test_containers_that_belong_to_nothing_or_to_two_are_a_value_error() -> None:
    machine = ObjectMachine(House)
    _, records = records_of(machine)
    *pieces, last = records
    loose = msgspec.msgpack.encode([10_000, 1, [5]])
    number, attributes, digests = msgspec.msgpack.decode(last)
    attributes["count"] = attributes["long"]
    shared = msgspec.msgpack.encode([number, attributes, digests])
    attributes["count"] = msgspec.msgpack.Ext(0, b"\x01")
    short = msgspec.msgpack.encode([number, attributes, digests])
    for hostile in ([*pieces, loose, last], [*pieces, shared], [*pieces, short], [pieces[0], last]):
        data = b"".join(struct.pack("<I", len(record)) + record for record in hostile)
        with pytest.raises(ValueError, match=r"belong to nothing|not there, or twice"):
            ObjectMachine(House).restore(io.BytesIO(data))


def test_processes_with_other_hash_seeds_write_the_same_bytes() -> None:
    code = (
        "import hashlib, io\n"
        "from tests.machines.test_objects_snapshots import ObjectMachine, House, encode_call\n"
        "machine = ObjectMachine(House)\n"
        "for step in (0, 1, 2, 3, 4, 6, 7, 9):\n"
        "    machine.apply(encode_call('change', [step]))\n"
        "file = io.BytesIO()\n"
        "machine.snapshot()(file)\n"
        "print(hashlib.sha256(file.getvalue()).hexdigest(), list(machine.instance.names))\n"
    )
    root = Path(__file__).parents[2]
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{root / 'src'}:{root}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
