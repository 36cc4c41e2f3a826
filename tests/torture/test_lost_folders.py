"""Nodes whose folders are lost, among processes under load: refused or repaired, what was promised holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.service.client.errors import QuorateError

from tests.cli.command import quorate
from tests.cluster import LocalCluster, until
from tests.torture.protocols import cluster_of
from tests.torture.traffic import Traffic
from tests.torture.verify import check_history

pytestmark = [pytest.mark.torture, pytest.mark.slow, pytest.mark.timeout(240)]


def ended(cluster: LocalCluster, node: int) -> int | None:
    """The exit code of a node that has ended."""
    return cluster.processes[node].poll()


@pytest.mark.parametrize("protocol", ["raft", "multipaxos", "paxos"])
def test_an_emptied_folder_among_three(protocol: str, tmp_path: Path) -> None:
    """A follower's and then, under another leader, the same once more: nothing that was acknowledged goes."""
    with cluster_of(protocol, tmp_path) as cluster, Traffic(cluster, tmp_path / "history.jsonl", seed=12) as traffic:
        traffic.progress()
        leader = cluster.leader(everyone=True)  # so all know each other
        lost = next(node for node in cluster.ids if node != leader)
        cluster.kill(lost)
        cluster.lose(lost)
        refused = quorate("node", "--config", str(cluster.config_path), "--node", str(lost))
        assert (refused.code, "--bootstrap" in refused.stderr) == (1, True)
        traffic.progress(60)

        cluster.start_node(lost, wait=False)  # somebody says that it is new
        assert until(lambda: ended(cluster, lost), "the emptied node ends") == 1
        assert f"node {lost} was here with another data folder" in cluster.log(lost)
        refusal = f"peer port: node {lost} was here with another data folder"
        assert any(refusal in cluster.log(node) for node in cluster.processes if node != lost)
        del cluster.processes[lost]
        traffic.progress(60)

        # The leader dies: what is left of the cluster is one node that remembers, and one that was emptied.
        leader = cluster.leader()  # which may be another one now
        (other,) = cluster.processes.keys() - {leader}
        cluster.kill(leader)
        cluster.start_node(lost, wait=False)
        assert until(lambda: ended(cluster, lost), "the emptied node ends") == 1
        del cluster.processes[lost]
        with cluster.client(other, timeout_s=2.0) as client, pytest.raises(QuorateError):  # else a vote of it counted
            client.put(b"alone", b"v")
        cluster.start_node(leader)
        traffic.progress(60)
        traffic.finish()
        check_history(traffic.recorder)


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_emptied_folders_among_three_are_repaired(protocol: str, tmp_path: Path) -> None:
    """One node after the other loses all that it had, the leader too, and nothing that was acknowledged goes."""
    with cluster_of(protocol, tmp_path) as cluster, Traffic(cluster, tmp_path / "history.jsonl", seed=13) as traffic:
        for round_ in range(3):
            traffic.progress()
            leader = cluster.leader()
            others = [node for node in cluster.ids if node != leader]
            lost = leader if round_ == 1 else others[round_ % 2]
            cluster.kill(lost)
            cluster.lose(lost)
            refused = quorate("node", "--config", str(cluster.config_path), "--node", str(lost))
            assert (refused.code, f"--node {lost} --repair" in refused.stderr) == (1, True)
            traffic.progress(20)
            cluster.repair(lost)
            assert "this node is repaired" in cluster.log(lost)
            traffic.progress(60)

            # It counts: without another one there is no quorum but with it.
            away = next(node for node in cluster.ids if node != lost)
            cluster.kill(away)
            traffic.progress(20)
            cluster.start_node(away)
        whole = quorate("node", "--config", str(cluster.config_path), "--node", str(lost), "--repair")
        assert whole.code == 1, "a second process, and nothing is damaged"
        traffic.finish()
        check_history(traffic.recorder)
