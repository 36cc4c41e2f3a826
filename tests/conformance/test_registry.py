"""Every protocol of the REGISTRY, under every checker that its fault model allows, simulated and on real processes.

A new protocol gets these for its one line in the REGISTRY.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.cli.campaign import Task, run
from quorate.protocols import REGISTRY

from tests.cluster import LocalCluster, until

PROTOCOLS = sorted(REGISTRY)


def nodes_of(protocol: str) -> int:
    """So many that one may fail."""
    return 4 if REGISTRY[protocol].byzantine else 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("workload", ["register", "kv"])
@pytest.mark.parametrize("faults", ["none", "all"])
def test_every_promise_is_kept_in_the_simulator(protocol: str, workload: str, faults: str) -> None:
    for seed in range(8):
        outcome = run(Task(protocol=protocol, seed=seed, nodes=nodes_of(protocol), faults=faults, workload=workload))
        assert outcome.holds, f"seed {seed}: {outcome}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_cluster_of_processes_keeps_what_it_acknowledged(protocol: str, tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "cluster", nodes_of(protocol), protocol) as cluster:
        with cluster.client() as client:
            for number in range(20):
                client.put(b"key-%d" % number, b"before")
        for node in cluster.ids:
            cluster.kill(node)
        cluster.start()
        with cluster.client() as client:
            assert client.range(b"key-", b"key.").count == 20
            client.put(b"key-0", b"after")
        digests = until(lambda: _equal_values(cluster), "every node has the last value")
        assert digests == {b"after"}


def _equal_values(cluster: LocalCluster) -> set[bytes] | None:
    """What each node says for itself, once that is the same everywhere."""
    found = set()
    for node in cluster.ids:
        with cluster.client(node, faults=0) as client:
            value = client.get(b"key-0", serializable=True)
            found.add(value.value if value is not None else b"")
    return found if found == {b"after"} else None
