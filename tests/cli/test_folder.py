"""The folder of a local cluster: what is written, what is kept, what is refused."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from quorate.cli.folder import ClusterFolder, FolderError, Layout
from quorate.runtime.key_files import read_private_key
from quorate.service.config import from_mapping

from tests.cli.command import quorate


def _make(path: Path, nodes: int | None = None, protocol: str | None = None, base_port: int | None = None) -> Layout:
    folder = ClusterFolder(path, nodes, protocol, base_port)
    try:
        first = folder.configs[0]
        assert [config.node for config in folder.configs] == list(range(1, len(first.nodes) + 1))
        return Layout(first.cluster, len(first.nodes), first.protocol, first.client_address()[1] - 1)
    finally:
        folder.close()


def test_a_new_folder_has_the_defaults(tmp_path: Path) -> None:
    folder = ClusterFolder(tmp_path / "new" / "deep", None, None, None)
    assert folder.endpoints == ["127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7403"]
    assert [config.data for config in folder.configs] == [tmp_path / "new" / "deep" / f"n{node}" for node in (1, 2, 3)]
    assert folder.configs[2].peer_addresses()[2] == ("127.0.0.1", 7502)
    assert folder.configs[0].protocol == "raft"
    folder.close()


def test_a_restart_finds_what_was_made(tmp_path: Path) -> None:
    made = _make(tmp_path, 5, "raft", 9000)
    assert _make(tmp_path) == made
    assert _make(tmp_path, 5, "raft", 9000) == made
    assert made.cluster != _make(tmp_path / "other").cluster


def test_ports_may_change_and_the_name_stays(tmp_path: Path) -> None:
    made = _make(tmp_path, base_port=9000)
    assert _make(tmp_path, base_port=9400) == made._replace(base_port=9400)


def test_a_chain_begins_when_its_cluster_was_made(tmp_path: Path) -> None:
    _make(tmp_path, 4, "tendermint", 9000)
    folder = ClusterFolder(tmp_path, None, None, None)
    began = {config.options.genesis_s for config in folder.configs}
    folder.close()
    assert len(began) == 1
    assert abs(began.pop() - time.time()) < 3600
    _make(tmp_path, base_port=9400)
    folder = ClusterFolder(tmp_path, None, None, None)
    assert folder.configs[0].options.genesis_s in range(int(time.time()) - 3600, int(time.time()) + 1)
    folder.close()


def test_what_a_person_added_is_kept(tmp_path: Path) -> None:
    _make(tmp_path)
    config = tmp_path / "cluster.toml"
    config.write_text(edited := config.read_text() + "[raft]\nheartbeat_s = 0.05\n")
    folder = ClusterFolder(tmp_path, None, None, None)
    assert folder.configs[0].options.heartbeat_s == 0.05
    folder.close()
    with pytest.raises(FolderError, match="edited by hand"):
        ClusterFolder(tmp_path, None, None, 9400)
    assert config.read_text() == edited


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--nodes", "5"), "has a cluster of 3 nodes, not 5. Start it with --nodes 3"),
        (("--protocol", "echo"), "has a cluster that speaks raft, not echo"),
    ],
)
def test_another_cluster_in_the_same_folder_is_exit_2(tmp_path: Path, options: tuple[str, str], words: str) -> None:
    _make(tmp_path)
    outcome = quorate("up", "--data", str(tmp_path), *options)
    assert outcome.code == 2
    assert words in outcome.stderr
    assert "another folder" in outcome.stderr


def _without_config(path: Path) -> None:
    (path / "n1").mkdir()


def _damaged(path: Path) -> None:
    (path / "cluster.toml").write_text("cluster = ")


@pytest.mark.parametrize(("spoil", "words"), [(_without_config, "cluster.toml is missing"), (_damaged, "cluster.toml")])
def test_a_folder_that_cannot_be_used(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    spoil(tmp_path)
    with pytest.raises(FolderError, match=words):
        ClusterFolder(tmp_path, None, None, None)
    with pytest.raises(FolderError, match=words):  # not: in use
        ClusterFolder(tmp_path, None, None, None)


def test_a_folder_that_cannot_be_written_is_exit_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    outcome = quorate("up", "--data", str(tmp_path / "file" / "data"))
    assert outcome.code == 2
    assert "cannot be written" in outcome.stderr
    assert "--data" in outcome.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((64, None, None), "--nodes 64"),
        ((3, "zab", None), "--protocol zab is not known; choose from "),
        ((3, None, 65500), "--base-port 65500"),
    ],
)
def test_numbers_that_make_no_cluster(tmp_path: Path, options: tuple[int, str | None, int | None], words: str) -> None:
    with pytest.raises(FolderError, match=words):
        ClusterFolder(tmp_path, *options)
    assert not (tmp_path / "cluster.toml").exists()


def test_ephemeral_and_data_exclude_each_other() -> None:
    assert quorate("up", "--ephemeral", "--data", "x").code == 2


def test_the_text_of_a_layout_is_a_configuration() -> None:
    import tomllib

    config = from_mapping(tomllib.loads(Layout("c", 3, "raft", 100).toml()) | {"node": 2})
    assert (config.cluster, config.node, str(config.data), len(config.nodes)) == ("c", 2, "n2", 3)


# --- keys ---


def test_a_cluster_whose_nodes_may_lie_has_four_nodes_and_their_keys(tmp_path: Path) -> None:
    made = _make(tmp_path, protocol="pbft")
    assert made.nodes == 4
    files = sorted(path.name for path in (tmp_path / "keys").iterdir())
    assert files == ["admin.key", "keyring.toml", *(f"node-{node}.key" for node in range(1, 5))]
    before = {name: (tmp_path / "keys" / name).read_bytes() for name in files}
    folder = ClusterFolder(tmp_path, None, None, None)
    assert [config.load_keys().node for config in folder.configs] == [1, 2, 3, 4]
    admin = read_private_key(tmp_path / "keys" / "admin.key").public
    assert [config.options.admins for config in folder.configs] == [(admin,)] * 4
    folder.close()
    assert _make(tmp_path, base_port=9400) == made._replace(base_port=9400)
    assert {name: (tmp_path / "keys" / name).read_bytes() for name in files} == before


def test_a_cluster_whose_nodes_only_crash_has_no_keys(tmp_path: Path) -> None:
    _make(tmp_path)
    assert not (tmp_path / "keys").exists()


def test_keys_that_were_made_and_not_used_yet_are_used(tmp_path: Path) -> None:
    """A power cut between the keys and the configuration."""
    _make(tmp_path, 4, "pbft")
    ring = (tmp_path / "keys" / "keyring.toml").read_bytes()
    (tmp_path / "cluster.toml").unlink()
    _make(tmp_path, 4, "pbft")
    assert (tmp_path / "keys" / "keyring.toml").read_bytes() == ring


def test_keys_that_are_there_in_part_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "node-2.key").write_text("mine")
    with pytest.raises(FolderError, match=r"node-2\.key exists, and no key file is ever replaced"):
        _make(tmp_path, 4, "pbft")
    assert not (tmp_path / "cluster.toml").exists()
