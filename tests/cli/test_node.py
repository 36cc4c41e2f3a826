"""`quorate node`: how a node starts, ends and says why it cannot."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.cli.command import quorate
from tests.cluster import LocalCluster, until
from tests.ports import free_ports

LINE = re.compile(
    r'time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=(\w+) node=(\d+) logger=quorate\.\w+ msg=("(?:[^"\\]|\\.)*")'
)


@pytest.fixture
def single(tmp_path: Path) -> LocalCluster:
    """A cluster of one, not started."""
    return LocalCluster(tmp_path / "single", nodes=1)


def test_stops_in_order_and_logs_lines(single: LocalCluster) -> None:
    with single:
        assert single.stop_node(1) == 0
        lines = [LINE.fullmatch(line) for line in single.log(1).splitlines()]
    assert all(lines)
    texts = [json.loads(line[3]) for line in lines if line]
    assert any("serves clients" in text for text in texts)
    assert texts[-2:] == ["stopping: SIGTERM", "stopped"]


def test_one_that_waits_for_its_app_is_stopped_in_order(tmp_path: Path) -> None:
    """No disk is blamed for that."""
    cluster = LocalCluster(tmp_path / "c", nodes=1, protocol="tendermint")
    (app_port,) = free_ports(1)
    cluster.config_path.write_text(f'app = "tcp://127.0.0.1:{app_port}"\n{cluster.config_path.read_text()}')
    try:
        cluster.start_node(1, wait=False)
        until(lambda: "it is tried again every 3 s" in cluster.log(1), "the node waits for its app")
        assert cluster.stop_node(1) == 0
        assert f"stopped while it waited for the app at tcp://127.0.0.1:{app_port}" in cluster.log(1)
        assert "disk" not in cluster.log(1)
    finally:
        cluster.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cluster = = 1", "line 1"),
        ('cluster = "c"\n', "`node`"),
        ('cluster = "c"\nnode = 1\ndata = "d"\nspeed = 9\n[nodes]\n', "speed: not a field"),
        ('cluster = "c"\nnode = 1\ndata = "d"\n[nodes.1]\npeer = "h"\nclient = "h:2"\n', "nodes.1.peer"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_exit_2(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    outcome = quorate("node", "--config", str(path))
    assert outcome.code == 2
    assert f"error: {path}: " in outcome.stderr
    assert words in outcome.stderr


def test_no_configuration_is_exit_2(tmp_path: Path) -> None:
    outcome = quorate("node", "--config", str(tmp_path / "none.toml"))
    assert outcome.code == 2
    assert "No such file" in outcome.stderr


def test_a_node_that_is_not_in_the_file_is_exit_2(single: LocalCluster) -> None:
    outcome = quorate("node", "--config", str(single.config_path), "--node", "2")
    assert outcome.code == 2
    assert "node: 2 is not one of [nodes], which has 1" in outcome.stderr


def test_a_damaged_journal_is_exit_1_and_names_the_file(single: LocalCluster) -> None:
    with single:
        assert single.stop_node(1) == 0
    segments = [file for file in (single.data(1) / "journal").iterdir() if file.stat().st_size > 64]
    for file in segments:
        file.write_bytes(os.urandom(64))
    outcome = quorate("node", "--config", str(single.config_path))
    assert outcome.code == 1
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert "node 1 cannot start" in line
    assert any(str(file) in line for file in segments)


def test_a_folder_in_use_is_exit_1(single: LocalCluster) -> None:
    with single:
        outcome = quorate("node", "--config", str(single.config_path))
    assert outcome.code == 1
    assert "held by process" in outcome.stderr


def test_a_folder_of_another_cluster_is_exit_1(single: LocalCluster) -> None:
    with single:
        single.stop_node(1)
    single.config_path.write_text(single.config_path.read_text().replace("test-single", "another"))
    outcome = quorate("node", "--config", str(single.config_path))
    assert outcome.code == 1
    assert "another" in outcome.stderr


def test_a_port_in_use_is_exit_1(single: LocalCluster, tmp_path: Path) -> None:
    with single:
        other = tmp_path / "other.toml"
        other.write_text(single.config_path.read_text().replace('"n{node}"', '"elsewhere"'))
        outcome = quorate("node", "--config", str(other), "--bootstrap")
    assert outcome.code == 1
    assert "already in use" in outcome.stderr


def test_it_stops_when_the_pipe_of_its_parent_closes(single: LocalCluster) -> None:
    single.start()
    process = single.processes.pop(1)
    single.close()
    assert until(lambda: process.poll() is not None, "it ended")
    assert process.returncode == 0
    assert "the process that started this node has ended" in single.log(1)


def test_a_node_without_its_keys_is_exit_2_and_told_what_makes_them(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path / "four", nodes=4, protocol="pbft")
    key = tmp_path / "four" / "keys" / "node-3.key"
    key.unlink()
    outcome = quorate("node", "--config", str(cluster.config_path), "--node", "3")
    assert outcome.code == 2
    assert f"{key} cannot be read" in outcome.stderr
    assert "`quorate keys generate --nodes 4 --out keys` makes keys" in outcome.stderr


def test_a_node_whose_folder_is_empty_is_exit_1_and_told_what_begins_a_new_one(single: LocalCluster) -> None:
    start = ("node", "--config", str(single.config_path), "--node", "1")
    outcome = quorate(*start)
    assert outcome.code == 1
    assert f"{single.data(1)} has no data of node 1. If it has run before, its folder is lost" in outcome.stderr
    assert outcome.stderr.endswith(f"To begin a new node:\n  quorate {' '.join(start)} --bootstrap\n")
    assert not single.data(1).exists()
    with single:
        single.stop_node(1)
        again = quorate(*start, "--bootstrap")
        assert again.code == 1
        assert f"{single.data(1)} has the data of a node already" in again.stderr
        single.start_node(1)


def test_what_cannot_be_repaired_is_said_and_stays_as_it_is(single: LocalCluster) -> None:
    start = ("node", "--config", str(single.config_path), "--node", "1")
    both = quorate(*start, "--bootstrap", "--repair")
    assert (both.code, "leave one out" in both.stderr) == (2, True)
    alone = quorate(*start, "--repair")
    assert (alone.code, "the other 0 of 1 nodes are no quorum without this one" in alone.stderr) == (1, True)
    assert not single.data(1).exists()


def test_a_second_process_on_a_folder_changes_nothing_in_it(single: LocalCluster) -> None:
    with single, single.client() as client:
        client.put(b"k", b"v" * 100_000)
        before = {path: path.stat().st_ino for path in single.data(1).rglob("*")}
        outcome = quorate("node", "--config", str(single.config_path), "--node", "1")
        assert outcome.code == 1
        assert f"held by process {single.pid(1)}" in outcome.stderr
        assert {path: path.stat().st_ino for path in single.data(1).rglob("*")} == before
        assert client.get(b"k").value == b"v" * 100_000
        client.put(b"k", b"w")
