"""`quorate recover`: one node is left of a real cluster, and a new one begins with what it has."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest

from tests.cli.command import PATIENCE, done, quorate
from tests.cli.test_members_join import Growing
from tests.cluster import LocalCluster, until

OPTIONS = "heartbeat_s = 0.05\nelection_timeout_s_min = 0.3\nsnapshot_entries = 60\nkeep_entries = 10"


def listing(folder: Path) -> dict[str, bytes]:
    """All files below a folder, but for locks and working files."""
    files = [path for path in folder.rglob("*") if path.is_file() and "kv" not in path.parts and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("protocol", ["raft", pytest.param("multipaxos", marks=pytest.mark.slow)])
def test_one_node_is_left_and_begins_anew(protocol: str, tmp_path: Path) -> None:
    more = "\nalpha = 32" if protocol == "multipaxos" else ""
    with LocalCluster(tmp_path / "c", 3, protocol, f"[{protocol}]\n{OPTIONS}{more}") as cluster:
        with cluster.client() as client:
            for number in range(200):
                client.put(b"key %d" % (number % 90), b"%d" % number)
            expected = {pair.key: pair.value for pair in client.range(b"key", b"kez").kvs}
            assert len(expected) == 90
        cluster.leader(everyone=True)
        data = cluster.data(2)
        running = quorate("recover", "--data", str(data), "--to-one-node", "--yes")
        assert (running.code, "held by process" in running.stderr) == (1, True), running.stderr
        until(
            lambda: cluster.status(2).applied_index >= cluster.status(cluster.leader()).commit_index, "node 2 has all"
        )
        for node in cluster.ids:
            cluster.kill(node)
        for node in (1, 3):
            shutil.rmtree(cluster.data(node))

        before = listing(data)
        asked = quorate("recover", "--data", str(data), "--to-one-node")
        assert asked.code == 2
        for words in ("What may be lost", "What may come back", "Never start the others", "say --yes", "n1, n3"):
            assert words in asked.stderr, asked.stderr
        assert {name: text for name, text in listing(data).items() if name != "identity"} == {
            name: text for name, text in before.items() if name != "identity"
        }
        new = tmp_path / "c" / "n2-recovered"
        assert not new.exists()
        (tmp_path / "c" / "n2-recovered.unfinished" / "journal").mkdir(parents=True)  # of an attempt that was cut
        made = done("recover", "--data", str(data), "--to-one-node", "--yes")
        assert f"quorate node --config {new / 'node.toml'}" in made.stdout.decode()
        assert sorted(path.name for path in new.parent.glob("*.unfinished")) == []
        table = tomllib.loads((new / "node.toml").read_text())
        assert table["cluster"].startswith(f"{cluster.layout.cluster}-")
        assert list(table["nodes"]) == ["2"]
        again = quorate("recover", "--data", str(data), "--to-one-node", "--yes")
        assert (again.code, "is there already" in again.stderr) == (2, True)

        env = {"QUORATE_ENDPOINTS": cluster.layout.client(2)}
        spawn = Growing.spawn
        for life in range(2):
            spawn(cluster, 2, ["node", "--config", str(new / "node.toml")])  # type: ignore[arg-type]
            done("put", f"new {life}", "v", *PATIENCE, **env)
            with cluster.client(2) as client:
                assert {pair.key: pair.value for pair in client.range(b"key", b"kez").kvs} == expected
            cluster.kill(2)
        spawn(cluster, 2, ["node", "--config", str(new / "node.toml")])  # type: ignore[arg-type]
        shown = done("members", "--json", *PATIENCE, **env).json
        assert (shown["members"], shown["quorum"]) == ([2], "n2 votes: 1 of 1 make a quorum, so 0 may fail; 1 answer")
        other = cluster.config_path  # the old cluster's third node is none of the new one's
        spawn(cluster, 3, ["node", "--config", str(other), "--node", "3", "--bootstrap"])  # type: ignore[arg-type]
        until(lambda: "this is cluster" in cluster.log(3), "node 3 is told that it is of another cluster")
        done("put", "last", "v", *PATIENCE, **env)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_a_cluster_that_began_anew_grows_again(protocol: str, tmp_path: Path) -> None:
    """Also one whose members had changed: who voted before is nobody now."""
    with Growing(tmp_path, protocol) as cluster:
        done("put", "k", "v", *PATIENCE, **cluster.founders)
        cluster.join(4)
        cluster.members("promote", "n4")
        cluster.members("remove", "n1", **cluster.env)
        done("put", "k", "w", *PATIENCE, **cluster.env)
        until(lambda: done("members", "--json", **cluster.env).json["nodes"][-1]["lag"] == 0, "node 4 has all")
        for node in cluster.ids:
            cluster.kill(node)
        cluster.kill(4)
        done("recover", "--data", str(cluster.data(4)), "--to-one-node", "--yes")
        new = cluster.data(4).with_name("n4-recovered")
        cluster.spawn(4, ["node", "--config", str(new / "node.toml")])
        env = {"QUORATE_ENDPOINTS": f"127.0.0.1:{cluster.ports[4][0]}"}
        assert done("get", "k", *PATIENCE, **env).stdout == b"w\n"
        assert done("members", "--json", *PATIENCE, **env).json["members"] == [4]
        token = done("members", "add", "n1", "--json", *PATIENCE, **env).json["token"]  # its numbers are its own
        command = cluster.join_command(1, token, data=tmp_path / "n1-new")
        cluster.spawn(
            1, [env["QUORATE_ENDPOINTS"] if word == ",".join(cluster.endpoints) else word for word in command]
        )
        until(lambda: done("members", "--json", **env).json["nodes"][0]["role"] == "learner", "node 1 follows")
        assert done("members", "promote", "n1", *PATIENCE, **env).stdout == b"1,4\n"
        done("put", "k", "x", *PATIENCE, **env)


def test_wrong_use(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, 4, "pbft") as cluster:
        cluster.stop()
        lies = quorate("recover", "--data", str(cluster.data(1)), "--to-one-node", "--yes")
        assert (lies.code, "what one of them has proves nothing" in lies.stderr) == (2, True)
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, code, why in (
        (("--data", str(cluster.data(1))), 2, "say --to-one-node"),
        (("--data", str(tmp_path / "none"), "--to-one-node"), 2, "say which configuration the node has"),
        (("--data", str(empty), "--to-one-node", "--config", str(tmp_path / "none")), 1, "No such file"),
    ):
        outcome = quorate("recover", *words)
        assert (outcome.code, why in outcome.stderr) == (code, True), outcome.stderr


def test_a_folder_that_lost_something_is_no_beginning(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, 3) as cluster:
        done("put", "k", "v", *PATIENCE, QUORATE_ENDPOINTS=",".join(cluster.endpoints))
        cluster.stop()
        for path in (cluster.data(1) / "journal").glob("*.journal"):
            path.unlink()
        lost = quorate("recover", "--data", str(cluster.data(1)), "--to-one-node", "--yes")
        assert (lost.code, "the journal is gone" in lost.stderr) == (1, True), lost.stderr
        other = quorate(
            "recover", "--data", str(cluster.data(2)), "--to-one-node", "--yes", "--out", str(tmp_path / "o")
        )
        assert other.code == 0, other.stderr
