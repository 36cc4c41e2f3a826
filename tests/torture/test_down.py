"""Nodes that are down for long: the rest goes on, and who comes back far behind is given a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cluster import LocalCluster, until
from tests.torture.protocols import COMPACTING, FAILING_OVER, cluster_of, in_tiers
from tests.torture.traffic import Traffic
from tests.torture.verify import check_history, check_replicas

pytestmark = [pytest.mark.torture, pytest.mark.timeout(150)]

KEPT = 2
"""Snapshots that a node keeps."""
SLACK = 100
"""What a node may have applied between its last status and its death."""


def snapshots(cluster: LocalCluster, node: int) -> list[int]:
    """The indexes of those in a node's folder."""
    return sorted(int(path.name.split("-")[1]) for path in (cluster.data(node) / "snapshots").rglob("*.snap"))


def are_past(cluster: LocalCluster, nodes: Sequence[int], index: int) -> bool:
    """Whether these nodes have only snapshots of what came after this index, so that what led there is dropped."""
    found = [snapshots(cluster, node) for node in nodes]
    return all(len(indexes) >= KEPT and indexes[0] > index for indexes in found)


@pytest.mark.parametrize("protocol", in_tiers(FAILING_OVER, fast=("raft",)))
def test_one_that_stays_down_for_good_stops_nobody(protocol: str, tmp_path: Path) -> None:
    """It led. Another one is killed besides, which stops the rest for as long as it is away, and loses nothing."""
    with cluster_of(protocol, tmp_path) as cluster, Traffic(cluster, tmp_path / "history.jsonl", seed=8) as traffic:
        traffic.progress()
        gone = cluster.leader()
        cluster.kill(gone)
        traffic.progress(60)
        other = cluster.leader()
        assert other != gone
        cluster.kill(other)
        cluster.start_node(other)
        traffic.progress(60)
        traffic.finish()
        check_replicas(cluster, gone)
        check_history(traffic.recorder)


@pytest.mark.parametrize("protocol", in_tiers(COMPACTING, fast=("raft",)))
def test_one_that_is_far_behind_catches_up_while_the_rest_goes_on(protocol: str, tmp_path: Path) -> None:
    with cluster_of(protocol, tmp_path) as cluster, Traffic(cluster, tmp_path / "history.jsonl", seed=9) as traffic:
        traffic.progress()
        leader = cluster.leader()
        behind = next(node for node in cluster.ids if node != leader)
        others = [node for node in cluster.ids if node != behind]
        index = cluster.status(behind).applied_index + SLACK
        cluster.kill(behind)
        until(lambda: are_past(cluster, others, index), f"snapshots past {index}; logs in {cluster.folder}")
        traffic.progress()
        wanted = max(status.applied_index for status in cluster.statuses().values())
        cluster.start_node(behind)
        traffic.progress()

        def has_caught_up() -> bool:
            status = cluster.statuses().get(behind)
            return status is not None and status.applied_index >= wanted

        until(has_caught_up, f"node {behind} has applied {wanted}; logs in {cluster.folder}")
        traffic.progress()
        traffic.finish()
        check_replicas(cluster)
        check_history(traffic.recorder)
