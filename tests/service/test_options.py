"""Every option, with values that nobody can mean: it is refused in a line that names it, or the node works with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.parts.bounds import BYTES_MAX, COUNT_MAX, MESSAGE_BYTES_MAX, TIME_S_MAX, BoundedConfig
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.protocols import REGISTRY
from quorate.protocols.pbft import PbftConfig
from quorate.protocols.raft import RaftConfig
from quorate.runtime import key_files
from quorate.runtime.listener import ClientLimits
from quorate.runtime.memory import memory_of_machine
from quorate.runtime.peer_links import PeerLimits
from quorate.runtime.snapshots import CHUNK_SIZE_BYTES_MAX
from quorate.runtime.stranger_limits import StrangerLimits
from quorate.service.client.aio import AsyncClient
from quorate.service.config import ConfigError, from_mapping
from quorate.service.server import Server

from tests.cli.command import quorate
from tests.ports import free_ports
from tests.runtime.servers import run

ODD = (0, -1, math.inf, -math.inf, math.nan, 10**400, 2**64, 1e300, 1e-300)


def fields_of(kind: type) -> Iterator[tuple[str, ...]]:
    """The paths of all fields; a config within a config has its own."""
    for field in msgspec.structs.fields(kind):
        inner = type(field.default)
        if issubclass(inner, msgspec.Struct) and hasattr(inner, "__post_init__") and inner.__name__.endswith("Config"):
            yield from ((field.name, *rest) for rest in fields_of(inner))
        else:
            yield (field.name,)


def raw(folder: Path, protocol: str, path: tuple[str, ...] = (), value: Any = None) -> dict[str, Any]:
    """The configuration of a cluster of one, with one option."""
    peer, client = (f"127.0.0.1:{port}" for port in free_ports(2))
    made: dict[str, Any] = {
        "cluster": "test",
        "node": 1,
        "data": str(folder / "data"),
        "protocol": protocol,
        "nodes": {"1": {"peer": peer, "client": client}},
    }
    if REGISTRY[protocol].traits.has_keys:
        made["keys"] = str(folder / "keys")
        if not (folder / "keys").exists():
            key_files.generate(folder / "keys", 1)
    if path:
        table = value
        for name in reversed(path):
            table = {name: table}
        made[protocol] = table
    return made


def refusal(mapping: dict[str, Any]) -> str | None:
    """Why it is no configuration."""
    try:
        from_mapping(mapping)
    except ConfigError as error:
        return str(error)
    return None


async def works(mapping: dict[str, Any]) -> None:
    """A node with this configuration starts and takes a write and a read."""
    config = from_mapping(mapping)
    server = Server(config)
    await server.start()
    try:
        async with AsyncClient([config.nodes[1].client], timeout_s=20.0) as client:
            await client.put(b"key", b"value" * 1000)
            assert (await client.get(b"key")).value == b"value" * 1000
    finally:
        await server.stop()


OPTIONS = [(name, path) for name in REGISTRY for path in fields_of(REGISTRY[name].config)]


@pytest.mark.parametrize("protocol", REGISTRY)
def test_an_option_of_a_protocol_is_refused_by_its_name_or_works(protocol: str, tmp_path: Path) -> None:
    taken: list[tuple[str, Any]] = []
    paths = [path for name, path in OPTIONS if name == protocol]
    assert len(paths) >= 4
    for path in paths:
        for value in ODD:
            why = refusal(raw(tmp_path, protocol, path, value))
            if why is None:
                taken.append((".".join(path), value))
            else:
                assert path[-1] in why, (path, value, why)
                assert protocol in why
                assert "\n" not in why
    for number, (name, value) in enumerate(taken):
        assert value in (0, 1e-300), f"{name} = {value} is taken"
        run(works(raw(tmp_path / str(number), protocol, tuple(name.split(".")), value)))


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_a_node_works_at_both_ends_of_the_bounds(protocol: str, tmp_path: Path) -> None:
    ends: dict[str, dict[str, int]] = {"least": {}, "most": {}}
    for name, bounds in LeaderConfig.bounds.items():
        if not name.endswith("_s") and "timeout" not in name:
            ends["least"][name], ends["most"][name] = (int(end) for end in bounds)
    ends["least"]["log_bytes_max"] = 64 << 10  # with less there is no room for one command
    for end, table in ends.items():
        mapping = raw(tmp_path / end, protocol)
        mapping[protocol] = table
        run(works(mapping))


def test_what_a_message_carries_fits_a_frame() -> None:
    assert PeerLimits().frame_size_bytes_max >= 2 * MESSAGE_BYTES_MAX
    assert MESSAGE_BYTES_MAX <= CHUNK_SIZE_BYTES_MAX


@pytest.mark.parametrize("field", ["cluster", "node", "data", "memory_bytes_max", "protocol", "keys"])
@pytest.mark.parametrize("value", [*ODD, "", "\0", "x\0y", True, [], {}])
def test_a_line_of_the_file_is_refused_by_its_name(field: str, value: Any, tmp_path: Path) -> None:
    mapping = raw(tmp_path, "raft") | {field: value}
    with pytest.raises(ConfigError) as caught:
        from_mapping(mapping)
    assert field in str(caught.value)
    assert "\n" not in str(caught.value)


def test_there_is_no_more_memory_than_the_machine_has(tmp_path: Path) -> None:
    most = memory_of_machine()
    from_mapping(raw(tmp_path, "raft") | {"memory_bytes_max": most})
    with pytest.raises(ConfigError, match=rf"memory_bytes_max: .* at most {most}"):
        from_mapping(raw(tmp_path, "raft") | {"memory_bytes_max": most + 1})


@pytest.mark.parametrize("field", ["peer", "client", "listen_peer", "listen_client"])
@pytest.mark.parametrize("port", ["0", "-1", "65536", "inf", "nan", "1e3", str(10**30), ""])
def test_a_port_is_refused_by_the_field(field: str, port: str, tmp_path: Path) -> None:
    mapping = raw(tmp_path, "raft")
    mapping["nodes"]["1"][field] = f"127.0.0.1:{port}"
    with pytest.raises(ConfigError, match=rf"nodes\.1\.{field}: .*port"):
        from_mapping(mapping)


@pytest.mark.parametrize("node", ["-1", "1024", "inf", "nan", str(10**30), "x", ""])
def test_a_number_of_a_node_is_refused(node: str, tmp_path: Path) -> None:
    mapping = raw(tmp_path, "raft")
    mapping["nodes"][node] = {"peer": "127.0.0.1:1", "client": "127.0.0.1:2"}
    with pytest.raises(ConfigError, match="nodes"):
        from_mapping(mapping)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"chunk_bytes": MESSAGE_BYTES_MAX + 1}, f"chunk_bytes is .* at most {MESSAGE_BYTES_MAX}"),
        ({"heartbeat_s": math.inf, "election_timeout_s_min": math.inf}, f"heartbeat_s is inf: .* at most {TIME_S_MAX}"),
        ({"snapshot_bytes_min": 2, "snapshot_bytes_max": 1}, "snapshot_bytes_min is 2, above snapshot_bytes_max 1"),
        ({"keep_entries": COUNT_MAX + 1}, f"keep_entries is .* at most {COUNT_MAX}"),
        ({"keep_bytes": BYTES_MAX + 1}, f"keep_bytes is .* at most {BYTES_MAX}"),
        ({"hold_bytes_max": -1}, "hold_bytes_max is -1"),
    ],
)
def test_limits_are_held_against_each_other_and_against_the_links(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RaftConfig(**wrong)


@pytest.mark.parametrize("limits", [PeerLimits, ClientLimits, StrangerLimits])
def test_a_limit_of_links_is_refused_by_its_name(limits: type[BoundedConfig]) -> None:
    fields = msgspec.structs.fields(limits)
    assert {field.name for field in fields} == set(limits.bounds)
    for field in fields:
        for value in ODD:
            if value not in (0, 1e-300) or limits.bounds[field.name].least > 0:
                with pytest.raises(ValueError, match=f"^{field.name} is "):
                    limits(**{field.name: value})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"memory_bytes_max": math.nan}, "memory_bytes_max: "),
        ({"memory_bytes_max": 1}, "memory_bytes_max: "),
        ({"protocol": "none"}, "protocol: 'none' is not known"),
        ({"options": PbftConfig()}, "options: raft has a RaftConfig, not a PbftConfig"),
        ({"node": 2}, "node: 2 is not one of"),
        ({"nodes": {}}, "nodes: 0 of them"),
        ({"cluster": ""}, "cluster: "),
    ],
)
def test_a_configuration_made_by_hand_is_checked_too(wrong: dict[str, Any], words: str, tmp_path: Path) -> None:
    config = msgspec.structs.replace(from_mapping(raw(tmp_path, "raft")), **wrong)
    with pytest.raises(ConfigError, match=words):
        Server(config)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("timeout_s", [0, -1, math.inf, math.nan, 1e300])
def test_a_timeout_of_a_client_is_refused(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        AsyncClient(["127.0.0.1:1"], timeout_s=timeout_s)


@pytest.mark.parametrize("option", ["--nodes", "--base-port"])
@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", str(10**30)])
def test_an_option_of_up_is_exit_2(option: str, value: str, tmp_path: Path) -> None:
    outcome = quorate("up", "--data", str(tmp_path / "d"), option, value)
    assert outcome.code == 2
    assert option in outcome.stderr
    assert not (tmp_path / "d" / "n1").exists()


@pytest.mark.parametrize("value", ["-1", "inf", "nan", "0", str(10**30)])
def test_a_node_that_is_none_is_exit_2(value: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        'cluster = "c"\ndata = "d"\n[nodes.1]\npeer = "127.0.0.1:1"\nclient = "127.0.0.1:2"\n[raft]\nchunk_bytes = 0\n'
    )
    outcome = quorate("node", "--config", str(path), "--node", value)
    assert outcome.code == 2
    assert "node" in outcome.stderr
    again = quorate("node", "--config", str(path), "--node", "1")
    assert (again.code, len(again.stderr.splitlines())) == (2, 1)
    assert "raft: chunk_bytes is 0: it must be at least 1" in again.stderr
