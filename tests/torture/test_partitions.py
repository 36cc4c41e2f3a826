"""Partitions of real packets: the minority refuses, the majority goes on, a healed cluster is one again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.command import quorate
from tests.cluster import until
from tests.torture.network import Network, SpreadCluster, why_impossible
from tests.torture.protocols import ALWAYS, FAILING_OVER, OPTIONS, in_tiers, nodes_of
from tests.torture.traffic import Traffic
from tests.torture.verify import check_history, check_replicas

pytestmark = [pytest.mark.torture, pytest.mark.timeout(150)]

NO_QUORUM = 3
DWELL_S_MAX = 3.0
PATIENT = "[raft]\nheartbeat_s = 0.1\nelection_timeout_s_min = 1.5"
"""No machine is so busy that a leader is late by as much, so only what the test does can depose it."""


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    if why := why_impossible():
        pytest.skip(f"{why}: partitions of real packets are not tested")


@pytest.fixture
def spread(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SpreadCluster]:
    """Nodes in networks of their own, with this thread among their clients: three of Raft, unless told otherwise."""
    protocol = getattr(request, "param", "raft")
    with spread_cluster(tmp_path, protocol, OPTIONS.get(protocol, "")) as cluster:
        yield cluster


@contextmanager
def spread_cluster(folder: Path, protocol: str, options: str) -> Iterator[SpreadCluster]:
    with (
        Network(range(1, nodes_of(protocol) + 1)) as network,
        network.inside(),
        SpreadCluster(network, folder / "cluster", protocol, options) as cluster,
    ):
        yield cluster


def leader_among(cluster: SpreadCluster, nodes: list[int]) -> int:
    """The one of these nodes that they all follow."""

    def agreed() -> int | None:
        statuses = cluster.statuses()
        named = {statuses[node].leader if node in statuses else None for node in nodes}
        leader = named.pop()
        return leader if not named and leader in nodes else None

    return until(agreed, f"a leader among {nodes}")


def test_an_isolated_leader_refuses_and_the_others_go_on(spread: SpreadCluster) -> None:
    with spread.client() as client:
        client.put(b"k", b"before")
    leader = spread.leader()
    others = [node for node in spread.ids if node != leader]
    spread.network.isolate(leader)
    with spread.client(*others) as client:
        assert leader_among(spread, others) in others
        client.put(b"k", b"majority")
    alone = ("--endpoints", spread.layout.client(leader), "--timeout", "1")
    write = quorate("put", "k", "minority", *alone)
    assert (write.code, "no quorum" in write.stderr or "outcome unknown" in write.stderr) == (NO_QUORUM, True)
    assert quorate("get", "k", *alone).code == NO_QUORUM
    # By now it has stepped down and knows that nothing happens: it says so.
    assert "no quorum" in quorate("put", "k", "minority", *alone).stderr
    assert quorate("get", "k", "--serializable", *alone).stdout == b"before\n"
    spread.network.heal()
    check_replicas(spread)
    with spread.client(leader) as client:
        found = client.get(b"k")
    assert found is not None
    assert found.value == b"majority"


def test_an_unplugged_node_is_unreachable_and_catches_up(spread: SpreadCluster) -> None:
    leader = spread.leader()
    follower = next(node for node in spread.ids if node != leader)
    spread.network.unplug(follower)
    with spread.client() as client:
        for number in range(500):  # more than a snapshot's worth
            client.put(b"k", b"%d" % number)
    status = quorate("status", "--json", "--timeout", "1", "--endpoints", ",".join(spread.endpoints))
    roles = {row["endpoint"]: row["role"] for row in status.json["nodes"]}
    assert roles[spread.layout.client(follower)] == "unreachable"
    assert quorate("get", "k", "--endpoints", spread.layout.client(follower), "--timeout", "1").code == NO_QUORUM
    spread.network.heal()
    check_replicas(spread)


@pytest.mark.parametrize("is_deaf", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_leader_with_one_way_links_is_replaced(spread: SpreadCluster, is_deaf: bool) -> None:
    """TCP needs both ways, so either fault ends its links; a leader must not hold on to a term in which it is alone."""
    leader = spread.leader()
    others = [node for node in spread.ids if node != leader]
    for other in others:
        if is_deaf:
            spread.network.cut(other, leader)
        else:
            spread.network.cut(leader, other)
    assert leader_among(spread, others) in others
    with spread.client(*others) as client:
        client.put(b"k", b"v")
    spread.network.heal()
    check_replicas(spread)


def test_a_link_cut_between_leader_and_follower_stops_nobody(tmp_path: Path) -> None:
    """The follower hears no leader, but the third node does; it must not depose one that a majority follows."""
    with spread_cluster(tmp_path, "raft", PATIENT) as spread:
        cut_one_link(spread)


def cut_one_link(spread: SpreadCluster) -> None:
    leader = spread.leader()
    follower = next(node for node in spread.ids if node != leader)
    spread.network.cut_both(leader, follower)
    with spread.client(leader) as client:
        term = spread.status(leader).term
        until(lambda: spread.status(follower).leader is None, "the follower misses its leader")
        for number in range(100):
            client.put(b"k", b"%d" % number)
    assert spread.status(leader).term == term
    spread.network.heal()
    check_replicas(spread)


def partition(network: Network, chance: random.Random) -> str:
    """Cut something, and say what."""
    nodes = list(network.nodes)
    one, other = chance.sample(nodes, 2)
    match chance.choice(["isolate", "unplug", "both ways", "one way", "ring"]):
        case "isolate":
            network.isolate(one)
            return f"isolate {one}"
        case "unplug":
            network.unplug(one)
            return f"unplug {one}"
        case "both ways":
            network.cut_both(one, other)
            return f"{one} | {other}"
        case "one way":
            network.cut(one, other)
            return f"{one} -/> {other}"
    for node in nodes:
        network.cut(node, nodes[nodes.index(node) - 1])
    return "ring"


def torture(cluster: SpreadCluster, history: Path, seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    with Traffic(cluster, history, seed) as traffic:
        traffic.progress()
        done = []
        for _ in range(rounds):
            done.append(partition(cluster.network, chance))
            time.sleep(chance.uniform(0, DWELL_S_MAX))  # how long it lasts is part of the schedule
            cluster.network.heal()
            traffic.progress()
        traffic.finish()
        check_replicas(cluster)
        counts = traffic.recorder.counts
        print(f"seed {seed}: {done}; {counts['invoke']} operations, {counts['fail']} failed, {counts['info']} unknown")
        check_history(traffic.recorder)


@pytest.mark.parametrize("spread", in_tiers(FAILING_OVER, fast=("raft",)), indirect=True)
def test_partitions_under_traffic(spread: SpreadCluster, tmp_path: Path) -> None:
    torture(spread, tmp_path / "history.jsonl", seed=6, rounds=3)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("spread", FAILING_OVER, indirect=True)
def test_many_partitions_under_traffic(spread: SpreadCluster, tmp_path: Path) -> None:
    torture(spread, tmp_path / "history.jsonl", seed=7, rounds=40 if spread.layout.protocol in ALWAYS else 12)
