"""A node that stops: another leads in its place at once, and clients hardly notice."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from quorate.protocols.multipaxos import MultiPaxosConfig
from quorate.protocols.raft import RaftConfig

from tests.runtime.servers import run, servers, until


async def longest_gap_s(tmp_path: Any, protocol: str, options: Any) -> float:
    """For how long no put of a client was answered when the leader stopped."""
    async with servers(tmp_path, protocol=protocol, options=options) as cluster, cluster.client() as client:
        leader = await cluster.leader()
        answered: list[float] = []

        async def put() -> None:
            while True:
                await client.put(b"k", b"v")
                answered.append(time.monotonic())

        putting = asyncio.ensure_future(put())
        await until(lambda: len(answered) > 20)
        first = len(answered) - 1
        await cluster.stop(leader)
        known = len(answered)
        await until(lambda: len(answered) > known + 20)
        putting.cancel()
        assert await cluster.leader() != leader
        return max(after - before for before, after in zip(answered[first:], answered[first + 1 :], strict=False))


def test_clients_wait_for_no_election_when_the_leader_stops(tmp_path) -> None:
    config = RaftConfig(election_timeout_s_min=1.0, election_timeout_s_max=1.2)
    assert run(longest_gap_s(tmp_path, "raft", config)) < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_nor_where_elections_take_long_and_reads_have_leases(tmp_path, protocol: str) -> None:
    patience_s = 4.0
    configs = {
        "raft": RaftConfig(election_timeout_s_min=patience_s),
        "multipaxos": MultiPaxosConfig(election_timeout_s_min=patience_s, lease_s=patience_s),
    }
    assert run(longest_gap_s(tmp_path, protocol, configs[protocol])) < patience_s / 4
