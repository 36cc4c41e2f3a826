"""Configuration: what is wrong in a file is named, with what to write instead."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.parts.quorum.choice import SizesChoice
from quorate.protocols.multipaxos import MultiPaxosConfig
from quorate.protocols.pbft import PbftConfig
from quorate.protocols.raft import RaftConfig
from quorate.runtime import key_files
from quorate.service import config as module
from quorate.service.config import ConfigError, Member, NodeConfig, from_mapping, load
from quorate.service.server import Server

GOOD: dict[str, Any] = {
    "cluster": "example",
    "node": 1,
    "data": "data/{node}",
    "protocol": "raft",
    "nodes": {
        "1": {"peer": "10.0.0.1:7501", "client": "10.0.0.1:7401"},
        "2": {"peer": "[::1]:7502", "client": "host.example:7402"},
    },
    "raft": {"heartbeat_s": 0.05},
}


def test_a_good_one() -> None:
    config = from_mapping(GOOD)
    assert (config.cluster, config.node, config.data) == ("example", 1, Path("data/1"))
    assert config.nodes[2] == Member("[::1]:7502", "host.example:7402")
    assert config.peer_addresses() == {1: ("10.0.0.1", 7501), 2: ("::1", 7502)}
    assert config.client_address() == ("10.0.0.1", 7401)
    assert config.options == RaftConfig(heartbeat_s=0.05)
    assert config.entry.name == "raft"


def test_where_a_node_listens_may_differ_from_where_others_reach_it() -> None:
    config = from_mapping(GOOD)
    assert (config.listen_peer(), config.listen_client()) == (("10.0.0.1", 7501), ("10.0.0.1", 7401))
    config = from_mapping(with_(nodes=nodes(listen_peer="0.0.0.0:7501", listen_client="[::]:17401")))
    assert (config.listen_peer(), config.listen_client()) == (("0.0.0.0", 7501), ("::", 17401))
    assert (config.peer_addresses()[1], config.client_address()) == (("10.0.0.1", 7501), ("10.0.0.1", 7401))
    both = {str(node): {**GOOD["nodes"][str(node)], "listen_peer": "0.0.0.0:7501"} for node in (1, 2)}
    assert from_mapping(with_(nodes=both, node=2)).listen_peer() == ("0.0.0.0", 7501), "each on its own machine"


def test_protocol_and_options_may_be_left_out() -> None:
    rest = {name: value for name, value in GOOD.items() if name not in ("protocol", "raft")}
    config = from_mapping(rest)
    assert (config.protocol, config.options) == ("raft", None)


def with_(**changes: Any) -> dict[str, Any]:
    """The good one with changes; None takes a field out."""
    return {name: value for name, value in {**GOOD, **changes}.items() if value is not None}


def nodes(**changes: Any) -> dict[str, Any]:
    return {"1": {**GOOD["nodes"]["1"], **changes}, "2": GOOD["nodes"]["2"]}


SIGNED: dict[str, Any] = {
    **{name: value for name, value in GOOD.items() if name != "raft"},
    "protocol": "pbft",
    "keys": "keys",
}

BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "cluster"),
    (with_(cluster=None), "cluster"),
    (with_(cluster=""), "cluster: a name of 1 to 128 bytes"),
    (with_(cluster="é" * 65), "cluster: a name of 1 to 128 bytes"),
    (with_(cluster=7), "str.*cluster"),
    (with_(node=None), "node"),
    (with_(node="one"), "int.*node"),
    (with_(node=3), r"node: 3 is not one of \[nodes\], which has 1, 2"),
    (with_(node=-1), "node"),
    (with_(data=None), "data"),
    (with_(data=""), "write it in quotes.*data"),
    (with_(data=5), "write it in quotes.*data"),
    (with_(protocol="paxox"), "protocol: 'paxox' is not known; choose from raft"),
    (with_(protocol=["raft"]), r"protocol: \['raft'\] is not known; choose from raft"),
    (with_(nodes=None), "nodes"),
    (with_(nodes={}), "nodes: 0 of them; there must be 1 to 63"),
    (with_(nodes=[1, 2]), "nodes"),
    (with_(nodes={str(n): {"peer": "h:1", "client": "h:2"} for n in range(64)}), "nodes: 64 of them"),
    (with_(nodes={**GOOD["nodes"], "1024": {"peer": "h:1", "client": "h:2"}}), "nodes.1024: ids go from 0 to 1023"),
    (with_(nodes={**GOOD["nodes"], "x": {"peer": "h:1", "client": "h:2"}}), "nodes"),
    (with_(nodes={"1": {"peer": "h:1"}}), "client"),
    (with_(nodes=nodes(extra=1)), "extra"),
    (with_(nodes=nodes(peer="7501")), "nodes.1.peer: '7501' is not an address: the port is missing; write host:port"),
    (with_(nodes=nodes(client="::1:7401")), "nodes.1.client: '::1:7401'.*an IPv6 address stands in brackets"),
    (with_(nodes=nodes(client="0.0.0.0:7401")), "nodes.1.client: nobody can dial 0.0.0.0:7401: .*in listen_client"),
    (with_(nodes=nodes(peer="[::]:7501")), r"nodes.1.peer: nobody can dial \[::\]:7501: .*in listen_peer"),
    (with_(nodes=nodes(listen_peer="")), "nodes.1.listen_peer: '' is not an address"),
    (with_(nodes=nodes(listen_client="::")), "nodes.1.listen_client: '::' is not an address"),
    (
        with_(nodes=nodes(listen_client="10.0.0.1:7501")),
        "nodes.1: it would listen .* on one port",
    ),
    (with_(nodes=nodes(listen_peer="[::]:7401")), "nodes.1: it would listen .* on one port"),
    (
        with_(nodes=nodes(client="host:http")),
        "nodes.1.client: 'host:http' is not an address: the port is a number.*write host:port",
    ),
    (with_(nodes=nodes(client="host:70000")), "nodes.1.client.*write host:port"),
    (with_(nodes=nodes(client="host:²")), "nodes.1.client.*write host:port"),
    (with_(nodes=nodes(client="host:" + "9" * 5000)), "nodes.1.client.*write host:port"),
    (with_(nodes=nodes(client=7401)), "str.*client"),
    (with_(nodes=nodes(client="10.0.0.1:7501")), "nodes.1.client: .* is the address of nodes.1.peer already"),
    (with_(nodes=nodes(peer="host.example:7402")), "nodes.2.client: .* is the address of nodes.1.peer already"),
    (with_(raft={"heartbeat": 1}), "heartbeat"),
    (with_(raft={"heartbeat_s": "fast"}), "float.*raft.heartbeat_s"),
    (with_(raft={"heartbeat_s": 1.0}), "election_timeout_s_min 0.6.*at least two heartbeats"),
    (with_(raft=5), "raft"),
    (with_(echo={}), "echo: not a field; there are cluster"),
    (with_(options={}), "options: not a field; there are cluster"),
    (with_(keys="keys"), "keys: the nodes of raft do not sign; leave keys out"),
    (SIGNED | {"keys": 5}, "write it in quotes.*keys"),
    (SIGNED | {"keys": None}, "keys"),
    (
        {name: value for name, value in SIGNED.items() if name != "keys"},
        'keys: the nodes of pbft sign, so write keys = "FOLDER". `quorate keys generate --nodes 2 --out keys`',
    ),
]


@pytest.mark.parametrize(("raw", "expected"), BAD, ids=[expected for _, expected in BAD])
def test_every_error_names_the_field(raw: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match="(?s)" + expected):
        from_mapping(raw)


# --- keys ---


def signed(folder: Path, nodes: int = 2) -> NodeConfig:
    """Node 1 of two that sign, with keys made for so many."""
    key_files.generate(folder, nodes)
    return from_mapping(SIGNED | {"keys": str(folder)})


def test_the_keys_of_a_node_are_its_own_and_the_ring_has_all(tmp_path) -> None:
    config = signed(tmp_path / "keys")
    keys = config.load_keys()
    assert (keys.node, keys.keyring.nodes) == (1, (1, 2))
    assert keys.cluster == keys.keyring.cluster == config.cluster, "what it signs counts in no other"
    other = msgspec.structs.replace(config, node=2).load_keys()
    [mac] = keys.macs("vote", b"yes", (2,))
    assert other.verify_mac(1, "vote", b"yes", mac)


def test_a_relative_folder_of_keys_begins_where_the_file_is(tmp_path) -> None:
    path = tmp_path / "c.toml"
    config = msgspec.structs.replace(from_mapping(SIGNED), options=RaftConfig())
    path.write_text(toml(config).replace("[nodes.1]", 'keys = "k"\n[nodes.1]').partition("[raft]")[0])
    assert load(path).keys == tmp_path / "k"


def test_keys_that_are_not_there_are_told_with_what_makes_them(tmp_path) -> None:
    config = from_mapping(SIGNED | {"keys": str(tmp_path / "none")})
    with pytest.raises(ConfigError, match=r"keys: .*node-1\.key cannot be read.*`quorate keys generate --nodes 2"):
        config.load_keys()
    with pytest.raises(ConfigError, match="quorate keys generate"):
        Server(config)


def test_keys_of_another_node_or_cluster_are_refused(tmp_path) -> None:
    config = signed(tmp_path / "a", 3)
    with pytest.raises(ConfigError, match=r"keyring\.toml has nodes 1, 2, 3, the cluster has 1, 2"):
        config.load_keys()
    config = signed(tmp_path / "b")
    (tmp_path / "b" / "node-1.key").rename(tmp_path / "b" / "kept.key")
    (tmp_path / "b" / "node-2.key").rename(tmp_path / "b" / "node-1.key")
    with pytest.raises(ConfigError, match="the private key is that of node 2, not of node 1"):
        config.load_keys()
    signed(tmp_path / "c")
    (tmp_path / "c" / "keyring.toml").replace(tmp_path / "b" / "keyring.toml")
    (tmp_path / "b" / "kept.key").replace(tmp_path / "b" / "node-1.key")
    with pytest.raises(ConfigError, match=r"another public key for node 1.*bring the same keyring"):
        config.load_keys()
    (tmp_path / "b" / "node-1.key").chmod(0o644)
    with pytest.raises(ConfigError, match="others may read"):
        config.load_keys()


# --- files ---


def example() -> str:
    """The file that the module's docstring shows."""
    assert module.__doc__ is not None
    return module.__doc__.split("\n\n", 1)[1]


def test_the_example_in_the_documentation_is_a_good_one(tmp_path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(example())
    config = load(path)
    assert (config.cluster, config.node, config.data) == ("example", 1, Path("/var/lib/quorate"))
    assert config.options == RaftConfig()


def test_one_file_serves_all_nodes_and_relative_folders_begin_where_it_is(tmp_path) -> None:
    path = tmp_path / "cluster.toml"
    text = example().replace("/var/lib/quorate", "data/{node}").replace("node = 1 ", "# no node ")
    path.write_text(text + '[nodes.2]\npeer = "b:1"\nclient = "b:2"\n')
    assert "node" in text
    assert [load(path, node).data for node in (1, 2)] == [tmp_path / "data/1", tmp_path / "data/2"]
    with pytest.raises(ConfigError, match="node"):
        load(path)


def toml(config: NodeConfig) -> str:
    """A configuration as a person would write it."""
    lines = [f'cluster = "{config.cluster}"', f"node = {config.node}", f'data = "{config.data}"']
    lines.append(f'protocol = "{config.protocol}"')
    for node, member in config.nodes.items():
        lines += [f"[nodes.{node}]", f'peer = "{member.peer}"', f'client = "{member.client}"']
    lines += ["[raft]", f"heartbeat_s = {config.options.heartbeat_s}"]
    return "\n".join(lines)


def test_a_table_names_the_quorums(tmp_path) -> None:
    path = tmp_path / "c.toml"
    head = toml(from_mapping({**GOOD, "data": "/srv"})).replace("raft", "multipaxos").partition("[multipaxos]")[0]
    path.write_text(head + '[multipaxos]\nquorum = {kind = "sizes", phase1 = 3, phase2 = 1}\n')
    config = load(path)
    assert config.options == MultiPaxosConfig(quorum=SizesChoice(3, 1))
    path.write_text(head + '[multipaxos]\nmembers = [1, 2, 3]\nquorum = {kind = "sizes", phase1 = 2, phase2 = 1}\n')
    with pytest.raises(ConfigError, match=r"multipaxos: phase-1 quorum \[1, 2\] and phase-2 quorum \[3\]"):
        load(path)


def test_a_table_names_administrators_by_their_keys_in_hex(tmp_path) -> None:
    path = tmp_path / "c.toml"
    head = toml(from_mapping({**GOOD, "data": "/srv"})).replace("raft", "pbft").partition("[pbft]")[0]
    head = head.replace("data =", 'keys = "k"\ndata =')
    path.write_text(f'{head}[pbft]\nadmins = ["{"0A" * 32}"]\n')
    assert load(path).options == PbftConfig(admins=(b"\n" * 32,))
    for wrong in ('"zz"', "7", f'"{"0a" * 31}"'):
        path.write_text(f"{head}[pbft]\nadmins = [{wrong}]\n")
        with pytest.raises(ConfigError, match=r"pbft\.admins\[0\]: .* is no public key"):
            load(path)


def test_a_configuration_comes_back_from_toml(tmp_path) -> None:
    config = from_mapping({**GOOD, "data": "/srv/{node}"})
    path = tmp_path / "c.toml"
    path.write_text(toml(config))
    assert load(path) == config


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"cluster = ", "Invalid value"),
        (b"\xff\xfe", "utf-8"),
        (b"", "cluster"),
        (b"a" * (module.CONFIG_BYTES_MAX + 1), "larger than"),
        (b"x = " + b"[" * 20_000, "nested"),
        (b'cluster = "a"\ncluster = "b"', "overwrite"),
    ],
    ids=["no value", "no text", "empty", "too large", "too deep", "twice"],
)
def test_what_is_no_configuration_is_said_with_the_name_of_the_file(tmp_path, data: bytes, expected: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=f"(?s){re.escape(str(path))}.*{expected}"):
        load(path)


def test_a_file_that_is_not_there_is_the_systems_own_error(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.toml")
