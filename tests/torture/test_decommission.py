"""Members that were replaced and are gone for good: those that stay need them for nothing, not even to start again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cluster import LocalCluster, until
from tests.torture.protocols import in_tiers
from tests.torture.verify import check_replicas

pytestmark = [pytest.mark.torture, pytest.mark.timeout(150)]

FOUNDERS = {"raft": (1, 2, 3), "multipaxos": (1, 2, 3), "pbft": (1, 2, 3, 4)}
"""The members at first. One of Raft or Multi-Paxos stays, or two of PBFT: no quorum of theirs."""


@pytest.mark.parametrize("protocol", in_tiers(sorted(FOUNDERS), fast=("multipaxos",)))
def test_all_that_remain_restart_after_a_decommission(protocol: str, tmp_path: Path) -> None:
    """The leader stays and the cluster is idle: nothing but the change itself tells who is needed from then on.

    With default options: snapshots that are taken all the time would tell it as well.
    """
    before = FOUNDERS[protocol]
    with LocalCluster(tmp_path / "cluster", len(before) + 2, protocol) as cluster:
        with cluster.client(key=cluster.admin_key()) as client:
            client.set_members(before)
            for number in range(20):
                client.put(b"key %d" % number, b"%d" % number)
            leader = cluster.leader()
            others = [node for node in before if node != leader]
            leaving = others[:2]
            after = tuple(node for node in cluster.ids if node not in leaving)
            assert client.set_members(after).members == after
            for node in cluster.ids:  # while the client is there: the end of its session would be written
                cluster.kill(node)
        for node in leaving:
            shutil.rmtree(cluster.data(node))
        for node in after:
            cluster.start_node(node, wait=False)
        until(lambda: len(cluster.statuses()) == len(after), f"those that stay serve; logs in {cluster.folder}")
        with cluster.client(*after) as client:
            client.put(b"after", b"all")
            assert [client.get(b"key %d" % number).value for number in range(20)] == [b"%d" % n for n in range(20)]
        check_replicas(cluster, *leaving)
