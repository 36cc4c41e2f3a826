"""A node that lies, as a process among honest ones, with clients: nothing that they hear is wrong, and nobody stops.

The liars are those of the simulator, which tries thousands of schedules; here their lies cross codecs and sockets.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cluster import LocalCluster, until
from tests.torture.liar import LIAR, ClusterWithLiar
from tests.torture.protocols import OPTIONS, nodes_of
from tests.torture.traffic import Traffic
from tests.torture.verify import check_history, check_replicas

pytestmark = [pytest.mark.torture, pytest.mark.timeout(150)]


def blames(cluster: LocalCluster) -> list[str]:
    """What honest nodes say of the liar."""
    logs = [cluster.log(node) for node in cluster.ids if node != LIAR]
    return sorted({said for log in logs for said in re.findall(rf'msg="(node {LIAR} [a-z ]+)"', log)})


def test_a_lying_process_among_honest_ones(tmp_path: Path) -> None:
    """It leads first. An honest node is killed besides, and catches up among lies."""
    with (
        ClusterWithLiar(tmp_path / "cluster", nodes_of("pbft"), "pbft", OPTIONS["pbft"]) as cluster,
        Traffic(cluster, tmp_path / "history.jsonl", seed=11) as traffic,
    ):
        traffic.progress(60)
        cluster.kill(3)
        cluster.start_node(3)
        traffic.progress(60)
        print("; ".join(until(lambda: blames(cluster), "somebody was lied to, and minds")))
        traffic.finish()
        if LIAR in cluster.processes:
            cluster.kill(LIAR)
        check_replicas(cluster, LIAR)
        check_history(traffic.recorder)
