"""A leader that is cut off and slow to notice: its time-out is ten times that of the others, who replace it meanwhile.

Where all time-outs are equal, a leader steps down before another can be elected, and that alone hides whether it makes
sure of its leadership for each read (ReadIndex, dissertation §6.4). Here nothing hides it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.service.client.errors import QuorateError
from quorate.service.client.sync import Client

from tests.cluster import until
from tests.torture.network import Network, SpreadCluster, why_impossible
from tests.torture.protocols import QUICK
from tests.torture.verify import check_replicas

pytestmark = [pytest.mark.torture, pytest.mark.slow, pytest.mark.timeout(150)]

SLOW = 1
TIMEOUT_S = 3.0


class UnequalCluster(SpreadCluster):
    """Node 1 has a time-out of its own."""

    def _spawn(self, node: int) -> subprocess.Popen[bytes]:
        usual = self.config_path
        if node == SLOW:
            self.config_path = usual.with_name("slow.toml")
            text = usual.read_text()
            self.config_path.write_text(
                text.replace("election_timeout_s_min = 0.3", f"election_timeout_s_min = {TIMEOUT_S}")
            )
        try:
            return super()._spawn(node)
        finally:
            self.config_path = usual


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[UnequalCluster]:
    """The slow node leads: among the two that run at first, it alone has all that is committed."""
    if why := why_impossible():
        pytest.skip(f"{why}: reads at a leader that is cut off are not tested")
    with (
        Network(range(1, 4)) as network,
        network.inside(),
        UnequalCluster(network, tmp_path / "cluster", options=QUICK) as made,
    ):
        made.stop_node(2)
        with made.client() as client:
            client.put(b"k", b"old")
        made.stop_node(3)
        made.start_node(2)
        until(lambda: made.leader() == SLOW, "the slow node leads")
        made.start_node(3)
        until(lambda: all(status.leader == SLOW for status in made.statuses().values()), "all follow it")
        yield made


def value_of(client: Client) -> bytes | None:
    found = client.get(b"k")
    return None if found is None else found.value


def test_a_leader_that_does_not_know_yet_serves_nothing_old(cluster: UnequalCluster) -> None:
    others = [node for node in cluster.ids if node != SLOW]
    with cluster.client(SLOW, timeout_s=1.0) as cut_off, cluster.client(*others) as client:
        assert value_of(cut_off) == b"old"
        cluster.network.isolate(SLOW)
        client.put(b"k", b"new")
        assert cluster.status(SLOW).leader == SLOW, "it does not know yet"
        with pytest.raises(QuorateError):
            cut_off.get(b"k")
        cluster.network.heal()
        check_replicas(cluster)
    # What it says to the new leader waits for TCP, which sends again after as long as the network was cut.
    with cluster.client(SLOW, timeout_s=30.0) as healed:
        assert value_of(healed) == b"new"
