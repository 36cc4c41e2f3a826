"""Several objects in one node: each has its own state and handle, all have one log and one snapshot."""

import io
from typing import Any

import pytest

from quorate import ConfigError, Replicated, command, read
from quorate.machines.named import NamedMachines
from quorate.service.objects.many import ReplicationOfMany, connect_many, replicate_many
from quorate.service.objects.methods import Methods
from quorate.service.objects.replicate import machines_of

from tests.runtime.servers import run
from tests.service.objects.kinds import QUICK, Counter, addresses


class Names(Replicated):
    """Another class."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @command
    def add(self, name: str) -> int:
        """Remember it."""
        self.names.append(name)
        return len(self.names)

    @read
    def all(self) -> list[str]:
        """All there are."""
        return list(self.names)


KINDS: dict[str, type[Replicated]] = {"hits": Counter, "misses": Counter, "names": Names}


def test_each_has_its_own_state_and_a_restart_keeps_all(tmp_path) -> None:
    for turn in (1, 2):
        with replicate_many(KINDS, data=tmp_path) as node:
            hits, misses, names = (node.handle(name, kind) for name, kind in KINDS.items())
            assert isinstance(node, ReplicationOfMany)
            assert (hits.add(2), misses.add(), names.add(f"turn {turn}")) == (2 * turn, turn, turn)
            assert names.all() == [f"turn {n}" for n in range(1, turn + 1)]
            assert node.handle_local("hits", Counter).get() == 2 * turn
            assert repr(hits) == "<replication of Counter 'hits'>"
            with connect_many({"misses": Counter}, node.endpoint) as remote:
                assert remote.handle("misses", Counter).get() == turn


def test_three_nodes_and_coroutines(tmp_path) -> None:
    nodes = addresses(3)

    async def main() -> None:
        parts = [
            replicate_many(KINDS, node=n, nodes=nodes, data=tmp_path / f"{n}", protocol_options=QUICK) for n in nodes
        ]
        for part in parts:
            await part.__aenter__()
        try:
            for number, part in enumerate(parts, 1):
                assert await part.handle_async("hits", Counter).add() == number
                assert await part.handle_async("names", Names).add("a") == number
            assert await parts[0].handle_async("misses", Counter).get() == 0
        finally:
            for part in parts:
                await part.__aexit__(None, None, None)

    run(main())


def test_a_wrong_name_or_class_is_told(tmp_path) -> None:
    with replicate_many(KINDS) as node:
        with pytest.raises(LookupError, match="there is no object 'hit'; there are hits, misses, names"):
            node.handle("hit", Counter)
        with pytest.raises(TypeError, match="names is a Names, not a Counter"):
            node.handle("names", Counter)
        with pytest.raises(TypeError, match="handle_local"):
            _ = node.local
        with connect_many({"hit": Counter}, node.endpoint) as remote:
            for call in (remote.handle("hit", Counter).add, remote.handle("hit", Counter).get):
                with pytest.raises(LookupError, match="there is no object 'hit' here; there are hits, misses, names"):
                    call()
    for kinds in ({}, [Counter], {"": Counter}, {1: Counter}, {"x" * 256: Counter}):
        with pytest.raises(ConfigError, match=r"^kinds: "):
            replicate_many(kinds)  # type: ignore[arg-type]


# --- the machine ---


def made(*names: str) -> NamedMachines:
    machine = machines_of({name: KINDS[name] for name in names or KINDS}, has_liars=True)
    assert isinstance(machine, NamedMachines)
    return machine


def call(machine: NamedMachines, at: str, method: str, *args: Any) -> Any:
    methods = Methods(KINDS[at], at)
    data = methods.pack(method, args, {})
    return methods.unpack(machine.apply(data) if method in methods.commands else machine.query(data))


def snapshot_of(machine: NamedMachines) -> bytes:
    file = io.BytesIO()
    machine.snapshot()(file)
    return file.getvalue()


def test_a_snapshot_holds_all_and_is_adopted_as_one() -> None:
    machine, other = made(), made()
    call(machine, "hits", "add", 7)
    for number in range(50):
        call(machine, "names", "add", f"{number}" * 40_000)  # several chunks
    data = snapshot_of(machine)
    call(machine, "hits", "add", 1)
    call(other, "misses", "add", 5)
    adopt = other.restore(io.BytesIO(data))
    assert call(other, "misses", "get") == 5
    adopt()
    assert [call(other, name, "get") for name in ("hits", "misses")] == [7, 0]
    assert len(call(other, "names", "all")) == 50
    assert other.digests() == {**machine.digests(), "hits.n": other.digests()["hits.n"]}
    assert other.digests() != machine.digests()
    call(other, "hits", "add", 1)
    assert other.digests() == machine.digests()


def test_an_object_that_was_added_begins_anew_and_one_that_is_missing_is_told() -> None:
    fewer, more = made("hits"), made()
    call(fewer, "hits", "add", 3)
    more.restore(io.BytesIO(snapshot_of(fewer)))()
    assert (call(more, "hits", "get"), call(more, "misses", "get")) == (3, 0)
    with pytest.raises(ValueError, match="the snapshot has an object 'misses', which this node lacks"):
        fewer.restore(io.BytesIO(snapshot_of(more)))


def test_a_snapshot_cut_short_is_a_value_error() -> None:
    machine = made()
    call(machine, "hits", "add", 3)
    data = snapshot_of(machine)
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r".+"):
            made().restore(io.BytesIO(data[:length]))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\xa4hits", b"\x92\xa4none\xc4\x00", b"\x93\xa4hits\xc4\x00\x00"])
def test_what_is_no_operation_is_an_error_result_and_changes_nothing(data: bytes) -> None:
    machine = made()
    before = machine.digests()
    for outcome in (machine.apply(data), machine.query(data)):
        with pytest.raises(LookupError):
            Methods(Counter).unpack(outcome)
    assert machine.stamp(data, 1) == data
    machine.announced(1, data)
    assert machine.digests() == before
