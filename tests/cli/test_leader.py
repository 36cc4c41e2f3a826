"""`quorate leader` and `transfer` on real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import done, quorate
from tests.cluster import LocalCluster


def leader_of(env: dict[str, str]) -> int:
    """As the command says."""
    return int(done("leader", "--json", **env).json["node"])


@pytest.mark.parametrize("protocol", ["raft", pytest.param("multipaxos", marks=pytest.mark.slow)])
def test_a_node_that_is_named_leads_and_nothing_is_lost(tmp_path: Path, protocol: str) -> None:
    with LocalCluster(tmp_path, 3, protocol) as cluster:
        env = {"QUORATE_ENDPOINTS": ",".join(cluster.endpoints)}
        done("put", "k", "v", **env)
        old = cluster.leader(everyone=True)
        shown = done("leader", **env).stdout.decode()
        assert shown.startswith(f"n{old} leads term ")
        assert shown.endswith(f"at {cluster.endpoints[old - 1]}\n")
        new = old % 3 + 1
        assert done("leader", "transfer", f"n{new}", **env).stdout.decode() == f"n{new} leads\n"
        assert leader_of(env) == new
        assert done("leader", "transfer", str(new), **env).stdout.decode() == f"n{new} leads\n", "it does already"
        assert done("get", "k", **env).stdout == b"v\n"
        done("put", "k", "w", **env)

        third = done("leader", "transfer", "--json", **env).json
        assert third["node"] != new
        assert third["leader"] == f"n{third['node']}"


def test_what_cannot_come_about_is_refused_in_words(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, 3) as cluster:
        env = {"QUORATE_ENDPOINTS": ",".join(cluster.endpoints)}
        leader = cluster.leader(everyone=True)
        other = leader % 3 + 1
        refused = quorate("leader", "transfer", "9", **env)
        assert (refused.code, refused.stdout) == (2, b"")
        assert "node 9 does not vote: choose one of 1, 2, 3" in refused.stderr
        assert quorate("leader", "transfer", "n-1", **env).code == 2

        cluster.pause(other)  # it votes and is heard of, at first
        in_vain = quorate("leader", "transfer", str(other), **env)
        if in_vain.code == 3:  # else it was too late: see below
            assert f"so node {leader} leads on" in in_vain.stderr
        silent = quorate("leader", "transfer", str(other), **env)
        assert silent.code == 2
        assert f"node {other} has not answered within 0.6 s" in silent.stderr
        assert leader_of(env) == leader
        done("put", "k", "v", **env)

        cluster.kill(other)
        assert quorate("leader", "transfer", str(other), **env).code == 2
        assert leader_of(env) == leader


@pytest.mark.parametrize("protocol", [pytest.param("paxos", marks=pytest.mark.slow), "pbft"])
def test_protocols_without_transfers_say_so(tmp_path: Path, protocol: str) -> None:
    with LocalCluster(tmp_path, 4 if protocol == "pbft" else 3, protocol) as cluster:
        env = {"QUORATE_ENDPOINTS": ",".join(cluster.endpoints)}
        refused = quorate("leader", "transfer", "2", **env)
        assert refused.code == 2
        assert f"{protocol} has no transfer of leadership" in refused.stderr


def test_nobody_to_ask(tmp_path: Path) -> None:
    found = quorate("leader", "--endpoints", "127.0.0.1:1", "--timeout", "1")
    assert found.code == 3
    assert quorate("leader", "transfer", "--endpoints", "127.0.0.1:1", "--timeout", "1").code == 3
