"""Backups of real clusters, taken while clients write, and new clusters that begin with them."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from quorate.machines.kv.commands import prefix_end
from quorate.service.client.sync import Client

from tests.cli.command import PATIENCE, Up, done, quorate
from tests.cluster import LocalCluster, until

OPTIONS = "heartbeat_s = 0.05\nelection_timeout_s_min = 0.3\nsnapshot_entries = 100\nkeep_entries = 10"


class Writers:
    """Clients that write, and remember which revision each write had."""

    def __init__(self, cluster: LocalCluster, count: int) -> None:
        self.written: dict[int, tuple[bytes, bytes]] = {}
        self._cluster = cluster
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(count)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _write(self, writer: int) -> None:
        with self._cluster.client() as client:
            number = 0
            while not self._is_over.is_set():
                key, value = b"w%d/%d" % (writer, number % 20), b"%d" % number
                self.written[client.put(key, value)] = key, value
                number += 1

    def state_at(self, revision: int) -> dict[bytes, bytes]:
        """As the history has it: each revision is one write."""
        assert set(range(2, revision + 1)) <= self.written.keys(), "a revision is nobody's"
        return dict(self.written[past] for past in range(2, revision + 1))


def contents(client: Client, revision: int = 0) -> dict[bytes, bytes]:
    """All that is there."""
    found = client.range(b"\0", prefix_end(b""), revision=revision)
    assert not found.more
    return {kv.key: kv.value for kv in found.kvs}


def endpoints(cluster: LocalCluster) -> dict[str, str]:
    return {"QUORATE_ENDPOINTS": ",".join(cluster.endpoints)}


def test_a_backup_while_clients_write_begins_another_cluster(tmp_path: Path) -> None:
    file, other = tmp_path / "one.backup", tmp_path / "restored"
    with LocalCluster(tmp_path / "c", 3, "raft", f"[raft]\n{OPTIONS}") as cluster:
        env = endpoints(cluster)
        with Writers(cluster, 3) as writers:
            until(lambda: len(writers.written) > 100, "there is something to save")
            saved = done("backup", "save", str(file), "--json", "--timeout", "60", **env).json
            until(lambda: len(writers.written) > saved["revision"] + 50, "writers go on")
        there = quorate("backup", "save", str(file), **env)
        assert (there.code, "--force" in there.stderr) == (2, True), there.stderr
        assert saved["revision"] > 100
        again = done("backup", "save", str(tmp_path / "again"), "--json", **env).json
        assert again["role"] == "follower", "who does not lead is asked first, once it has all that is committed"
        shown = done("backup", "show", str(file), "--json").json
        assert shown["cluster"] == cluster.layout.cluster
        checked = done("backup", "check", str(file), "--json").json
        assert checked["digest"] == saved["digest"]
        assert checked["revision"] == saved["revision"]

        damaged = tmp_path / "damaged"
        damaged.write_bytes(file.read_bytes()[:-10])
        for command in (("check",), ("restore", "--data", str(tmp_path / "never"))):
            refused = quorate("backup", command[0], str(damaged), *command[1:])
            assert (refused.code, "is not a whole backup" in refused.stderr) == (1, True), refused.stderr
        made = done("backup", "restore", str(file), "--data", str(other), "--base-port", "0", "--json").json
        assert made["cluster"].startswith(f"{cluster.layout.cluster}-")

    base = LocalCluster(tmp_path / "ports").layout.base_port
    past = saved["revision"] - 40
    shutil.rmtree(other)
    done("backup", "restore", str(file), "--data", str(other), "--base-port", str(base), "--nodes", "3")
    with Up("--data", other) as up:
        up.event("ready")
        ends = ",".join(f"127.0.0.1:{base + node}" for node in (1, 2, 3))
        with Client(ends, timeout_s=60) as client:
            assert contents(client) == writers.state_at(saved["revision"])
            assert contents(client, past) == writers.state_at(past)
            assert client.put(b"new", b"v") == saved["revision"] + 1
        up.stop()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_folders_of_a_configuration_at_an_older_revision(protocol: str, tmp_path: Path) -> None:
    """Each on its machine; nodes of the old cluster and of the new never talk; a snapshot reaches those that lag."""
    file = tmp_path / "one.backup"
    more = "\nalpha = 32" if protocol == "multipaxos" else ""
    options = f"[{protocol}]\n{OPTIONS}{more}"
    with LocalCluster(tmp_path / "old", 3, protocol, options) as cluster:
        with cluster.client() as client:
            for number in range(150):
                client.put(b"k%d" % (number % 7), b"%d" % number)
            at_100 = contents(client, 100)
        done("backup", "save", str(file), "--timeout", "60", **endpoints(cluster))
        same = quorate("backup", "restore", str(file), "--config", str(cluster.config_path), "--node", "1")
        assert (same.code, "the new one must have another" in same.stderr) == (2, True), same.stderr

        new = LocalCluster(tmp_path / "new", 3, protocol, options)
        for node in new.ids:
            arguments = ("--config", str(new.config_path), "--node", str(node), "--revision", "100")
            done("backup", "restore", str(file), *arguments)
            again = quorate("backup", "restore", str(file), *arguments)
            assert (again.code, "is there already" in again.stderr) == (2, True)
        unknown = quorate("backup", "restore", str(file), "--config", str(new.config_path), "--revision", "999")
        assert unknown.code == 2
        new._begun.update(new.ids)
        with new:
            with new.client() as client:
                assert contents(client) == at_100
                assert client.put(b"after", b"v") == 101
                new.kill(new.leader())
                for number in range(300):
                    client.put(b"more", b"%d" % number)
            for node in new.ids:
                if node not in new.processes:
                    new.start_node(node)
            for node in new.ids:
                until(lambda node=node: new.status(node).applied_index >= new.status(new.leader()).commit_index, "all")  # type: ignore[misc]
                with new.client(node) as client:
                    assert client.get(b"more", serializable=True).value == b"299"  # type: ignore[union-attr]
        assert cluster.leader()


@pytest.mark.slow
def test_where_nodes_may_lie_one_word_is_taken_only_if_asked_for(tmp_path: Path) -> None:
    file, other = tmp_path / "one.backup", tmp_path / "restored"
    with LocalCluster(tmp_path / "c", 4, "pbft") as cluster:
        env = endpoints(cluster)
        done("put", "k", "v", *PATIENCE, **env)
        refused = quorate("backup", "save", str(file), "--timeout", "60", **env)
        assert (refused.code, "its word alone" in refused.stderr) == (2, True), refused.stderr
        saved = done("backup", "save", str(file), "--timeout", "60", "--faults", "0", "--json", **env).json
        assert saved["is_one_word"]
        assert "the word of one of them" in done("backup", "show", str(file)).stdout.decode()
        not_here = quorate("backup", "restore", str(file), "--data", str(other), "--protocol", "pbft", "--nodes", "4")
        assert (not_here.code, "cannot begin with a state" in not_here.stderr) == (2, True), not_here.stderr
    done("backup", "restore", str(file), "--data", str(other), "--nodes", "1")
    assert (other / "cluster.toml").exists()


@pytest.mark.slow
def test_a_node_that_is_alone_gives_what_it_has(tmp_path: Path) -> None:
    """No quorum, and still a backup: the head says who gave it."""
    file: Any = tmp_path / "one.backup"
    with LocalCluster(tmp_path / "c") as cluster:
        done("put", "k", "v", *PATIENCE, **endpoints(cluster))
        cluster.leader(everyone=True)
        until(lambda: all(status.applied_index >= 3 for status in cluster.statuses().values()), "all have it")
        cluster.kill(1)
        cluster.kill(2)
        saved = done("backup", "save", str(file), "--timeout", "20", "--json", **endpoints(cluster)).json
        assert saved["node"] == 3
        file.chmod(0o000)
        file.unlink()
        cluster.kill(3)
        nobody = quorate("backup", "save", str(file), "--timeout", "1", **endpoints(cluster))
        assert nobody.code == 3, nobody.stderr
        assert not file.exists()
