"""A node that was away and needs a snapshot catches up while clients write, on real sockets and files.

Snapshots come much faster than one travels: it has hundreds of pieces, of which one is under way at a time.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from quorate.protocols.multipaxos import MultiPaxosConfig
from quorate.protocols.raft import RaftConfig

from tests.runtime.servers import Servers, run, servers, until

SMALL: dict[str, Any] = {
    "heartbeat_s": 0.04,
    "election_timeout_s_min": 0.4,
    "snapshot_entries": 100,
    "keep_entries": 5,
    "chunk_bytes": 512,
}


async def catches_up(cluster: Servers, keys: int, value: bytes) -> None:
    """A follower is away while the state becomes large, and returns while clients go on writing."""
    leader = await cluster.leader()
    away = next(node for node in cluster.ids if node != leader)
    others = [node for node in cluster.ids if node != away]
    await cluster.stop(away)
    async with cluster.client(*others) as client:
        for first in range(0, keys, 50):
            await asyncio.gather(*(client.put(b"state%d" % key, value) for key in range(first, first + 50)))

        async def put(key: bytes) -> None:
            while True:
                await client.put(key, b"v")

        load = [asyncio.ensure_future(put(b"load%d" % number)) for number in range(8)]
        await cluster.start(away)
        replica, late = cluster.running[leader].replica, cluster.running[away].replica
        began_at = replica.applied_index
        await until(lambda: replica.applied_index - late.applied_index < 50)
        assert not any(task.done() for task in load), "clients go on"
        assert replica.applied_index > began_at + 4 * SMALL["snapshot_entries"], "many snapshots were taken meanwhile"
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
    await cluster.converged()


def test_a_node_that_was_away_catches_up_under_load(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path, options=RaftConfig(**SMALL)) as cluster:
            await catches_up(cluster, 100, bytes(1000))

    run(main())


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_so_it_does_with_a_large_state(tmp_path, protocol: str) -> None:
    config = RaftConfig(**SMALL) if protocol == "raft" else MultiPaxosConfig(**SMALL)

    async def main() -> None:
        async with servers(tmp_path, protocol=protocol, options=config) as cluster:
            await catches_up(cluster, 300, bytes(2000))

    run(main())
