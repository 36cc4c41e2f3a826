"""A node of PBFT that was away needs a snapshot in thousands of pieces, while clients write and snapshots come fast."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quorate.service.client.aio import AsyncClient

from tests.cluster import READY_TIMEOUT_S, LocalCluster, until
from tests.torture.test_down import are_past, snapshots
from tests.torture.traffic import Background
from tests.torture.verify import check_replicas

pytestmark = [pytest.mark.torture, pytest.mark.slow, pytest.mark.timeout(400)]

OPTIONS = """[pbft]
request_timeout_s = 4.0
beat_s = 0.1
checkpoint_batches = 16
window = 64
snapshot_batches = 64
chunk_bytes = 512
"""
KEYS, VALUE_BYTES = 500, 8192
"""The state: eight thousand pieces."""
WRITERS = 8
LAG_MAX = 200
CATCHES_UP_WITHIN_S = 240.0


def fill(cluster: LocalCluster, *nodes: int) -> None:
    """Write the state to these nodes."""
    with cluster.client(*nodes) as client:
        for key in range(KEYS):
            client.put(b"state%d" % key, bytes(VALUE_BYTES))


def test_a_node_catches_up_in_small_pieces_under_load(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "cluster", 4, "pbft", OPTIONS) as cluster:
        leader = cluster.leader()
        late = next(node for node in cluster.ids if node != leader)
        others = [node for node in cluster.ids if node != late]
        index = cluster.status(late).applied_index
        cluster.kill(late)
        fill(cluster, *others)
        until(lambda: are_past(cluster, others, index), "snapshots of what came meanwhile")

        async def load(ending: asyncio.Event) -> None:
            async def write(number: int) -> None:
                while not ending.is_set():
                    await client.put(b"load%d" % number, bytes(200))

            endpoints = [cluster.layout.client(node) for node in others]
            async with AsyncClient(endpoints, timeout_s=READY_TIMEOUT_S) as client:
                await asyncio.gather(*map(write, range(WRITERS)))

        with Background(load) as running:
            newest = snapshots(cluster, leader)[-1]
            cluster.start_node(late)

            def is_level() -> bool:
                running.check()
                applied = {node: status.applied_index for node, status in cluster.statuses().items()}
                return late in applied and max(applied.values()) - applied[late] <= LAG_MAX

            until(is_level, f"node {late} is level while clients write; logs in {cluster.folder}", CATCHES_UP_WITHIN_S)
            assert snapshots(cluster, leader)[0] > newest, "two more were taken meanwhile: the first was overtaken"
            running.finish()
        check_replicas(cluster)
