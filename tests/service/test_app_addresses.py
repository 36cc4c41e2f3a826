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
def test_a_configuration_that_cannot_be_used(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        from_mapping(raw(**changes))


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
