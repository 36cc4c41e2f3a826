"""Which app a node drives, from the text of its configuration."""

from pathlib import Path
from typing import Any

import pytest

from quorate.cli.folder import ClusterFolder, FolderError
from quorate.runtime.endpoints import Endpoint
from quorate.service.app_addresses import app_of, why_shared
from quorate.service.config import ConfigError, from_mapping
from quorate.service.config_text import toml_of

NODES = (1, 2, 5)


def test_each_node_has_its_own() -> None:
    assert [app_of("tcp://127.0.0.1:{port}", node, NODES) for node in NODES] == [
        Endpoint("127.0.0.1", port) for port in (26658, 26668, 26678)
    ]
    assert app_of("unix:///run/app{node}.sock", 5, NODES) == Endpoint("", 0, "/run/app5.sock")
    assert app_of("kvstore", 1, NODES) is None


@pytest.mark.parametrize("text", ["kv", "127.0.0.1:26658", "http://h:1", "tcp://127.0.0.1", "unix://"])
def test_what_is_no_app(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|port|path"):
        app_of(text, 1, NODES)


def test_nodes_share_no_app() -> None:
    why = why_shared("tcp://127.0.0.1:26658", 4)
    assert why.startswith("4 nodes cannot share the app at tcp://127.0.0.1:26658: each needs its own.")
    for text, nodes in (("kvstore", 4), ("tcp://h:{port}", 4), ("unix:///a{node}", 4), ("tcp://127.0.0.1:26658", 1)):
        assert why_shared(text, nodes) == ""


def raw(**changes: Any) -> dict[str, Any]:
    nodes = {"1": {"peer": "127.0.0.1:1", "client": "127.0.0.1:2"}}
    return {"cluster": "c", "node": 1, "data": "d", "protocol": "tendermint", "keys": "k", "nodes": nodes, **changes}


def test_in_a_configuration() -> None:
    config = from_mapping(raw(app="tcp://127.0.0.1:{port}"))
    assert config.app == "tcp://127.0.0.1:{port}"
    assert 'app = "tcp://127.0.0.1:{port}"' in toml_of(config, "", Path("d"), Path("k"))
    assert from_mapping(raw()).app == ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"app": "kv"}, "app: 'kv' is not an app: write kvstore"),
        ({"app": "kvstore", "protocol": "pbft"}, "app: pbft drives no apps; leave app out, or choose tendermint"),
    ],
)
def test_an_app_that_cannot_be_used(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        from_mapping(raw(**changes))


def with_rpc(rpc: str, **changes: Any) -> dict[str, Any]:
    return raw(nodes={"1": {"peer": "h:1", "client": "h:2", "listen_peer": "[::]:3", "rpc": rpc}}, **changes)


def test_an_rpc_in_a_configuration() -> None:
    config = from_mapping(with_rpc("0.0.0.0:26657", app="kvstore"))
    assert config.listen_rpc() == ("0.0.0.0", 26657)
    assert 'rpc = "0.0.0.0:26657"' in toml_of(config, "", Path("d"), Path("k"))
    assert from_mapping(raw(app="kvstore")).listen_rpc() is None
    assert from_mapping(with_rpc("0.0.0.0:26657")).listen_rpc() == ("0.0.0.0", 26657), "without an app too"
    with pytest.raises(ConfigError, match=r"nodes\.1\.rpc: .* blocks of tendermint, and this is pbft; leave it out"):
        from_mapping(with_rpc("0.0.0.0:26657", protocol="pbft"))


@pytest.mark.parametrize(
    ("rpc", "app", "why"),
    [
        ("26657", "kvstore", "nodes.1.rpc: '26657' is not an address"),
        ("h:1", "kvstore", "nodes.1.rpc: h:1 is the address of nodes.1.peer already"),
        ("127.0.0.1:3", "kvstore", "nodes.1.rpc: the node listens on port 3 already"),
    ],
)
def test_an_rpc_that_cannot_be_used(rpc: str, app: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        from_mapping(with_rpc(rpc, app=app))


@pytest.mark.parametrize(
    ("app", "protocol", "nodes", "why"),
    [
        ("kvstore", None, None, "--app: raft drives no apps. Add --protocol tendermint"),
        ("tcp://127.0.0.1:26658", "tendermint", None, "4 nodes cannot share the app"),
        ("kv", "tendermint", 1, "--app: 'kv' is not an app"),
    ],
)
def test_up_refuses_in_words(app: str, protocol: str | None, nodes: int | None, why: str, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=why):
        ClusterFolder(tmp_path / "d", nodes, protocol, None, app)


def test_a_folder_keeps_its_app(tmp_path: Path) -> None:
    ClusterFolder(tmp_path / "d", 1, "tendermint", 7400, "kvstore").close()
    again = ClusterFolder(tmp_path / "d", None, None, 7600)
    assert [(config.app, config.client_address()[1]) for config in again.configs] == [("kvstore", 7601)]
    again.close()
    with pytest.raises(FolderError, match=r"with the app kvstore, not tcp://h:1\. Leave out --app"):
        ClusterFolder(tmp_path / "d", None, None, None, "tcp://h:1")


def test_a_folder_keeps_its_rpc(tmp_path: Path) -> None:
    def rpcs(rpc_port: int | None, base_port: int | None = None) -> list[str | None]:
        folder = ClusterFolder(tmp_path / "d", 2, "tendermint", base_port, "kvstore", rpc_port)
        folder.close()
        return [config.nodes[config.node].rpc for config in folder.configs]

    assert rpcs(None) == ["127.0.0.1:26657", "127.0.0.1:26667"]
    assert rpcs(9000) == rpcs(None) == rpcs(None, 7600) == ["127.0.0.1:9000", "127.0.0.1:9010"]
    assert rpcs(0) == rpcs(None) == [None, None]


def test_without_an_app_a_folder_has_the_rpc_that_was_asked_for(tmp_path: Path) -> None:
    def rpcs(rpc_port: int | None, base_port: int | None = None) -> list[str | None]:
        folder = ClusterFolder(tmp_path / "d", 2, "tendermint", base_port, None, rpc_port)
        folder.close()
        return [config.nodes[config.node].rpc for config in folder.configs]

    assert rpcs(None) == [None, None]
    assert rpcs(9000) == rpcs(None, 7600) == ["127.0.0.1:9000", "127.0.0.1:9010"]
    with pytest.raises(FolderError, match=r"--rpc-port: raft serves no RPC\. Add --protocol tendermint"):
        ClusterFolder(tmp_path / "e", 2, "raft", None, None, 9000)


@pytest.mark.parametrize(
    ("app", "rpc_port", "why"),
    [
        ("kvstore", 65530, "--rpc-port 65530: choose from 0 "),
        ("kvstore", 7402, "7402 is a port for clients or peers"),
        ("kvstore", 7492, "7502 is a port for clients or peers"),
    ],
)
def test_a_wrong_rpc_port(app: str | None, rpc_port: int, why: str, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=why):
        ClusterFolder(tmp_path / "d", 2, "tendermint", 7400, app, rpc_port)
    assert not (tmp_path / "d" / "cluster.toml").exists()
