"""`quorate members`: real clusters whose voters change, lose others, and are started again."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import PATIENCE, Outcome, Up, done, quorate
from tests.cluster import LocalCluster, until
from tests.ports import free_base_port

MULTIPAXOS = "[multipaxos]\nalpha = 64"
PBFT = "window = 16\ncheckpoint_batches = 8"


@pytest.mark.parametrize(
    ("protocol", "options"), [("raft", "[raft]"), pytest.param("multipaxos", MULTIPAXOS, marks=pytest.mark.slow)]
)
def test_a_new_majority_goes_on_and_an_old_one_cannot(protocol: str, options: str, tmp_path: Path) -> None:
    with LocalCluster(tmp_path, 5, protocol, options) as cluster:
        env = {"QUORATE_ENDPOINTS": ",".join(cluster.endpoints)}
        assert done("members", "--json", **env).json["members"] == [1, 2, 3, 4, 5]
        assert done("members", "set", "3,1,2", *PATIENCE, **env).stdout == b"1,2,3\n"

        def learners() -> bool:
            return {node for node, status in cluster.statuses().items() if status.role == "learner"} == {4, 5}

        until(learners, "nodes 4 and 5 know that they do not vote")
        for node in (3, 4, 5):  # two of five are left, and two of the three that vote
            cluster.kill(node)
        done("put", "k", "v", *PATIENCE, **env)
        shown = done("members", "--json", **env).json
        assert (shown["members"], shown["quorum"]) == (
            [1, 2, 3],
            "n1, n2, n3 vote: 2 of 3 make a quorum, so 1 may fail; 2 answer",
        )
        assert {row["name"]: row["role"] for row in shown["nodes"]} == {
            **dict.fromkeys(("n1", "n2", "n3"), "voter"),
            **dict.fromkeys(("n4", "n5"), "learner"),
        }
        cluster.kill(2)
        for node in (4, 5):  # three of five, and one of the three that vote
            cluster.start_node(node)
        assert quorate("put", "k", "lost", "--timeout", "2", **env).code == 3
        failed = quorate("members", "set", "1,4,5", "--timeout", "2", **env)
        assert (failed.code, failed.stdout) == (3, b"")

        cluster.start_node(2)
        assert done("get", "k", *PATIENCE, **env).stdout in (b"v\n", b"lost\n")
        shown = done("members", "--json", **env).json
        assert shown["members"] in ([1, 2, 3], [1, 4, 5]), "what had no answer may still take effect"


@pytest.mark.slow
def test_an_administrator_swaps_a_node_and_a_restart_keeps_it(tmp_path: Path) -> None:
    data, base = tmp_path / "data", str(free_base_port(5))
    with Up("--protocol", "pbft", "--nodes", "5", "--data", data, "--base-port", base) as up:
        up.event("ready")
        assert up.stop(signal.SIGTERM) == 0
    with (data / "cluster.toml").open("a") as file:  # [pbft] is the last table
        file.write(f"{PBFT}\n")

    def change(nodes: str, *more: str) -> Outcome:
        return quorate("members", "set", nodes, *PATIENCE, *more, **env)

    with Up("--data", data) as up:
        ready = up.event("ready")
        env = {"QUORATE_ENDPOINTS": ",".join(ready["endpoints"])}
        key = ("--key", str(data / "keys" / "admin.key"))
        assert "an administrator signs" in change("1,2,3,4").stderr
        assert "no administrator's" in change("1,2,3,4", "--key", str(data / "keys" / "node-1.key")).stderr
        assert "too few" in change("1,2,3", *key).stderr
        assert "there is no node 6" in change("n1,n2,n3,n4,n6", *key).stderr
        assert change("1,2,3,4", *key).stdout == b"1,2,3,4\n"
        done("put", "k", "v1", **env)

        os.kill(next(row["pid"] for row in ready["nodes"] if row["name"] == "n4"), signal.SIGKILL)
        up.event("node_ended")
        assert change("1,2,3,5", *key, "--json").json == {"members": [1, 2, 3, 5], "next_members": [], "epoch": 2}
        done("put", "k", "v2", *PATIENCE, **env)
        assert up.stop(signal.SIGTERM) == 0

    with Up("--data", data) as up:
        up.event("ready")
        shown = done("members", "--json", **env).json
        assert (shown["members"], shown["next_members"], shown["epoch"]) == ([1, 2, 3, 5], [], 2)
        assert shown["quorum"] == "n1, n2, n3, n5 vote: 3 of 4 make a quorum, so 1 may fail or lie; 4 answer"

        def learners() -> Any:
            rows = done("status", "--json", **env).json["nodes"]
            return [row["name"] for row in rows if row["role"] == "learner"] == ["n4"]

        until(learners, "node 4 hears that it votes no more")
        done("put", "k", "v3", *PATIENCE, **env)
        assert done("get", "k", *PATIENCE, **env).stdout == b"v3\n"
        assert up.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("nodes", ["", "1,,2", "one", "1;2", ",".join(map(str, range(65)))])
def test_what_is_no_list_of_nodes_is_refused(nodes: str) -> None:
    outcome = quorate("members", "set", nodes)
    assert outcome.code == 2
    assert "is no list of nodes: write their names, such as n1,n2,n3" in outcome.stderr


def test_wrong_use(tmp_path: Path) -> None:
    missing = quorate("members", "set", "1,2", "--key", str(tmp_path / "nothing.key"))
    assert (missing.code, "nothing.key cannot be read: No such file" in missing.stderr) == (2, True)
    nobody = f"127.0.0.1:{free_base_port(1) + 1}"
    for words in (("members", "--endpoints", nobody), ("members", "--endpoints", nobody, "set", "1")):
        outcome = quorate(*words, "--timeout", "0.3")
        assert outcome.code == 3
        assert f"are the endpoints right ({nobody})?" in outcome.stderr


def test_a_protocol_without_changes_says_so(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, 1, "paxos") as cluster:
        env = {"QUORATE_ENDPOINTS": cluster.endpoints[0]}
        shown = done("members", "--json", **env).json
        address = {"peer": cluster.layout.peer(1), "client": cluster.layout.client(1)}
        [row] = shown.pop("nodes")
        assert {**row, "applied_index": 0} == {
            "name": "n1",
            "id": 1,
            "role": "voter",
            "witness": False,
            **address,
            "applied_index": 0,
            "lag": 0,
            "error": None,
        }
        quorum = "n1 votes: 1 of 1 make a quorum, so 0 may fail; 1 answer"
        assert shown == {"members": [1], "next_members": [], "epoch": 0, "quorum": quorum}
        outcome = quorate("members", "set", "2", "--force", **env)
        assert outcome.code == 2
        assert outcome.stderr.startswith("error: paxos has no membership change yet")
