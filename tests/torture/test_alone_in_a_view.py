"""A backup of PBFT that was cut off left its view alone: it executes what the others decide, also after a restart.

Needs networks of their own for the nodes (root, ``ip`` and ``nft``); ``tests/sim`` has the same without.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import quorate
from tests.cluster import until
from tests.torture.network import Network, SpreadCluster, why_impossible
from tests.torture.protocols import OPTIONS, nodes_of
from tests.torture.traffic import Traffic
from tests.torture.verify import check_history, check_replicas

pytestmark = [pytest.mark.torture, pytest.mark.slow, pytest.mark.timeout(240)]


def note_of(cluster: SpreadCluster, node: int) -> str:
    """What a node says of itself, by the command line; empty where nothing, or where it does not answer yet."""
    shown = quorate("status", "--json", "--timeout", "5", "--endpoints", cluster.layout.client(node))
    (row,) = shown.json["nodes"]
    return row["note"] or ""


def keeps_up(cluster: SpreadCluster, node: int, traffic: Traffic) -> None:
    """It executes what is decided from now on, while clients go on."""
    traffic.progress(60)
    wanted = max(status.applied_index for status in cluster.statuses().values())
    until(lambda: cluster.status(node).applied_index >= wanted, f"node {node} has applied {wanted}")


def test_it_executes_what_the_others_decide_and_says_so_and_votes_again_at_the_next_change(tmp_path: Path) -> None:
    if why := why_impossible():
        pytest.skip(f"{why}: a node that is cut off by packets is not tested")
    with (
        Network(range(1, nodes_of("pbft") + 1)) as network,
        network.inside(),
        SpreadCluster(network, tmp_path / "cluster", "pbft", OPTIONS["pbft"]) as cluster,
        Traffic(cluster, tmp_path / "history.jsonl", seed=14) as traffic,
    ):
        traffic.progress()
        primary = cluster.leader(everyone=True)
        alone = next(node for node in cluster.ids if node != primary)
        network.isolate(alone)
        until(lambda: "waits for view" in note_of(cluster, alone), f"node {alone} has left the view")
        network.heal()
        keeps_up(cluster, alone, traffic)
        assert note_of(cluster, alone).endswith("this node does not vote, and executes what the others decide")
        assert cluster.status(alone).leader is None

        cluster.restart(alone)
        keeps_up(cluster, alone, traffic)
        assert "waits for view" in note_of(cluster, alone), "what it has promised holds"
        assert cluster.leader() == primary, "the others have no cause to leave the view"

        # Of three that are left all are needed: it has a vote again.
        cluster.kill(primary)
        traffic.progress(60)
        until(lambda: not note_of(cluster, alone), f"node {alone} works in the next view")
        cluster.start_node(primary)
        traffic.finish()
        check_replicas(cluster)
        check_history(traffic.recorder)
