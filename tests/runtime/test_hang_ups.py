"""A leader that is killed: the others see its connections end, and wait for no election timeout."""

from pathlib import Path

import pytest

from tests.cluster import LocalCluster, until

LONG_S = 40.0
OPTIONS = "election_timeout_s_min = {}\nheartbeat_s = 0.2"


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_another_leads_long_before_an_election_timeout(tmp_path: Path, protocol: str) -> None:
    """The first leader takes one timeout, in which nothing else happens; it is a short one for that."""
    options = f"[{protocol}]\n{OPTIONS}"
    with LocalCluster(tmp_path, 3, protocol, options.format(1.0)) as cluster:
        # The leader lives on while the others restart one by one, with a timeout that nobody will wait for.
        leader = cluster.leader(everyone=True)
        cluster.config_path.write_text(cluster.config_path.read_text().replace("_min = 1.0", f"_min = {LONG_S}"))
        for node in cluster.ids:
            if node != leader:
                cluster.stop_node(node)
                cluster.start_node(node)
                until(lambda: cluster.leader(everyone=True) == leader, f"node {node} follows")
        cluster.kill(leader)
        others = [node for node in cluster.ids if node != leader]
        until(
            lambda: any(status.leader in others for status in cluster.statuses().values()),
            "another leads",
            LONG_S - 10.0,
        )
