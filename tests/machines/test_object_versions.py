"""Versions: every node runs the same body for the same entry, whichever version of the class it has; or it ends."""

from __future__ import annotations

import io
from typing import Any, ClassVar

import pytest

from quorate.kernel import AppEnded
from quorate.machines.objects.calls import Raised, Returned, decode_outcome, encode_call
from quorate.machines.objects.fingerprints import fingerprint
from quorate.machines.objects.machine import NotActive, ObjectMachine, Replicated, VersionDiffers, command, error_of

MEMBERS = (1, 2, 3)


def first() -> type[Replicated]:
    class Counter(Replicated):
        def __init__(self) -> None:
            self.value = 0

        @command
        def add(self, n: int) -> int:
            self.value += n
            return self.value

    return Counter


def second() -> type[Replicated]:
    class Counter(Replicated):
        version = 2

        def __init__(self) -> None:
            self.value = 0
            self.log: list[int] = []

        @command(before={2: "_add_1"})
        def add(self, n: int) -> int:
            self.value += 2 * n
            self.log.append(n)
            return self.value

        def _add_1(self, n: int) -> int:
            """As it was."""
            self.value += n  # the old way
            return self.value

        @command(since=2)
        def sub(self, n: int) -> int:
            self.value -= n
            return self.value

        @classmethod
        def migrate(cls, state: dict[str, Any], from_version: int) -> dict[str, Any]:
            return {**state, "value": state["value"] * 100}

    return Counter


def changed() -> type[Replicated]:
    class Counter(Replicated):
        def __init__(self) -> None:
            self.value = 0

        @command
        def add(self, n: int) -> int:
            self.value += 2 * n
            return self.value

    return Counter


def call(machine: ObjectMachine, method: str, *args: Any, version: int = 1) -> Any:
    return decode_outcome(machine.apply(encode_call(method, args, version=version)))


def announce(*machines: ObjectMachine, node: int, of: ObjectMachine) -> None:
    data = ObjectMachine(of._definition.kind).announcement(node, MEMBERS)  # one that has heard nothing yet
    for machine in machines:
        machine.announced(node, data)


def snapshot_of(machine: ObjectMachine) -> bytes:
    file = io.BytesIO()
    machine.snapshot()(file)
    return file.getvalue()


def restored(kind: type[Replicated], data: bytes) -> ObjectMachine:
    machine = ObjectMachine(kind)
    machine.restore(io.BytesIO(data))()
    return machine


def test_old_and_new_nodes_agree_until_all_have_the_new_version() -> None:
    old, new = ObjectMachine(first()), ObjectMachine(second())
    assert call(old, "add", 1) == call(new, "add", 1) == Returned(1)
    for node in MEMBERS:
        announce(old, new, node=node, of=old)
    assert new.active_version == 1
    announce(old, new, node=1, of=new)
    announce(old, new, node=3, of=new)
    assert call(old, "add", 1, version=2) == call(new, "add", 1, version=2) == Returned(2)
    refused = call(old, "sub", 1, version=2)
    assert refused == call(new, "sub", 1, version=2)
    assert isinstance(refused, Raised)
    assert refused.kind == "NotActive"
    assert "version 1 is active, since node 2 does not have it" in refused.text
    assert isinstance(new.refusal("sub"), NotActive)
    announce(new, node=2, of=new)
    assert new.active_version == 2
    assert new.instance.value == 200
    assert call(new, "add", 1) == Returned(202)
    assert call(new, "sub", 2, version=2) == Returned(200)
    assert new.refusal("sub") is None
    with pytest.raises(VersionDiffers, match="start the newer code"):
        announce(old, node=2, of=new)
    assert issubclass(VersionDiffers, AppEnded)


def test_a_snapshot_of_an_older_version_migrates_when_the_log_says_so() -> None:
    old = ObjectMachine(first())
    call(old, "add", 3)
    for node in MEMBERS:
        announce(old, node=node, of=old)
    new = restored(second(), snapshot_of(old))
    assert (new.active_version, new.instance.value, new.instance.log) == (1, 3, [])
    for node in MEMBERS:
        announce(new, node=node, of=new)
    assert (new.active_version, new.instance.value) == (2, 300)
    again = restored(second(), snapshot_of(new))
    assert (again.active_version, again.instance.value) == (2, 300)
    assert again.announcement(1, MEMBERS) == b""
    with pytest.raises(VersionDiffers, match="version 2 of Counter is active, and this node's class is of version 1"):
        restored(first(), snapshot_of(new))


def test_what_migrate_raises_ends_the_node_and_changes_nothing() -> None:
    class Counter(second()):  # type: ignore[misc]
        @classmethod
        def migrate(cls, state: dict[str, Any], from_version: int) -> dict[str, Any]:
            raise KeyError("total")

    machine = ObjectMachine(Counter)
    call(machine, "add", 1)
    announce(machine, node=1, of=machine)
    announce(machine, node=2, of=machine)
    with pytest.raises(VersionDiffers, match=r"version 1 to 2 \(KeyError: 'total'\)"):
        announce(machine, node=3, of=machine)
    assert (machine.active_version, machine.instance.value) == (1, 1)


def test_each_version_in_between_is_migrated() -> None:
    class Third(second()):  # type: ignore[misc]
        version: ClassVar[int] = 3

        @classmethod
        def migrate(cls, state: dict[str, Any], from_version: int) -> dict[str, Any]:
            return {"value": state["value"], "log": [*state["log"], from_version]}

    machine = ObjectMachine(Third)
    call(machine, "add", 1)
    for node in MEMBERS:
        announce(machine, node=node, of=machine)
    assert machine.instance.log == [1, 2]


def test_a_body_changed_without_the_version_ends_the_node_that_has_it() -> None:
    honest, other = ObjectMachine(first()), ObjectMachine(changed())
    announce(honest, node=1, of=honest)
    with pytest.raises(VersionDiffers, match=r"add has another body.*version is still 1"):
        announce(other, node=1, of=honest)
    with pytest.raises(VersionDiffers, match=r"add has another body.*version is still 1"):
        restored(changed(), snapshot_of(honest))
    announce(honest, node=2, of=ObjectMachine(changed()))  # and not the node that had it first
    assert call(honest, "add", 1) == Returned(1)


def test_a_command_added_without_the_version_ends_the_node_that_has_it() -> None:
    class Counter(first()):  # type: ignore[misc]
        @command
        def sub(self, n: int) -> None:
            self.value -= n

    honest, other = ObjectMachine(first()), ObjectMachine(Counter)
    announce(honest, node=1, of=honest)
    announce(honest, node=3, of=other)
    assert call(honest, "add", 1) == Returned(1)
    with pytest.raises(VersionDiffers, match="a command sub here that version 1"):
        announce(other, node=1, of=honest)


def test_an_old_body_that_is_not_kept_ends_the_node() -> None:
    class Counter(second()):  # type: ignore[misc]
        def _add_1(self, n: int) -> int:
            self.value += n + 0
            return int(self.value)

    old = ObjectMachine(first())
    announce(old, node=1, of=old)
    with pytest.raises(VersionDiffers, match="than it had in version 1 of Counter"):
        restored(Counter, snapshot_of(old))


def test_a_fresh_cluster_begins_with_its_version() -> None:
    machine = ObjectMachine(second())
    assert call(machine, "sub", 2, version=2) == Returned(-2)
    assert machine.active_version == 2


def test_the_first_call_names_no_version_that_the_node_does_not_have() -> None:
    machine = ObjectMachine(first())
    machine.apply(machine.stamp(encode_call("add", [1], version=9), 5))
    assert machine.active_version == 1


def test_where_nodes_may_lie_calls_raise_the_version_as_far_as_the_class_goes() -> None:
    machine = ObjectMachine(second(), trusts_members=False)
    assert call(machine, "add", 1, version=9).kind == "NotActive"
    assert call(machine, "add", 1) == Returned(1)
    assert call(machine, "add", 1, version=9) == Returned(2)
    assert call(machine, "sub", 1, version=2) == Returned(199)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01\x91\x01\x81\xa3add\x00", b"\x93\x00\x90\x80"])
def test_what_is_no_announcement_means_nothing(data: bytes) -> None:
    machine = ObjectMachine(first())
    machine.announced(1, data)
    assert machine.active_version == 0


def test_a_refusal_is_raised_as_itself_at_the_caller() -> None:
    machine = ObjectMachine(second())
    call(machine, "add", 1)
    assert isinstance(error_of(call(machine, "sub", 1, version=2)), NotActive)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"since": 3}, "there since version 3"),
        ({"since": 0}, "since=0"),
        ({"before": {3: "_old"}}, "below 3"),
        ({"before": {2: "_missing"}}, "names no method"),
        ({"before": {"2": "_old"}}, "give versions and names"),
    ],
)
def test_marks_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    def make() -> None:
        class Counter(Replicated):
            version = 2

            @command(**options)
            def add(self) -> None:
                pass

            def _old(self) -> None:
                pass

        ObjectMachine(Counter)

    with pytest.raises(TypeError, match=words):
        make()


def test_layout_comments_and_annotations_have_no_fingerprint() -> None:
    class One:
        def go(self, n: int = 1) -> int:
            """Text."""
            return self._step(n) + 1

        def _step(self, n):  # type: ignore[no-untyped-def]
            return n

    class Two:
        def go(self, n=1):  # type: ignore[no-untyped-def]
            # other words
            return (
                self._step(n)
                + 1
            )  # fmt: skip

        def _step(self, n: int) -> int:
            return n

    class Three(Two):
        def _step(self, n: int) -> int:
            return n + 1

    assert fingerprint(One, "go") == fingerprint(Two, "go") != fingerprint(Three, "go")
    assert fingerprint(One, "go") == bytes.fromhex("903162d96a04336f"), "it is compared between releases"
